from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from dragoman.clients.trial import Trial, run_trial, trial_request
from dragoman.wire.turns import Wire

ANSWERS: dict[Wire, list[dict[str, Any] | str]] = {
    "responses": [
        {"type": "response.created", "response": {}},
        {"type": "response.output_text.delta", "delta": "rea"},
        {"type": "response.output_text.delta", "delta": "dy"},
        {"type": "response.completed", "response": {"id": "r"}},
    ],
    "chat": [
        {"choices": [{"delta": {"role": "assistant", "content": None}}]},
        {"choices": [{"delta": {"content": "ready"}}]},
        {"choices": [], "usage": {}},
        "[DONE]",
    ],
    "messages": [
        {"type": "message_start", "message": {}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "ready"}},
        {"type": "message_stop"},
    ],
}


def framed(events: list[dict[str, Any] | str]) -> bytes:
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def ask(wire: Wire, status: int, body: bytes) -> Trial:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, content=body)

    clock = iter([1.0, 3.5])
    trial = run_trial(
        "http://127.0.0.1:1",
        "tok",
        model="m",
        wire=wire,
        transport=httpx.MockTransport(answer),
        now=lambda: next(clock),
    )
    assert asked[0].headers["authorization"] == "Bearer tok"
    assert asked[0].url.path == trial_request(wire, "m")[0]
    assert json.loads(asked[0].content)["model"] == "m"
    return trial


@pytest.mark.parametrize("wire", ANSWERS)
def test_a_whole_answer_on_any_wire_is_a_success(wire: Wire) -> None:
    trial = ask(wire, 200, framed(ANSWERS[wire]))
    assert (trial.ok, trial.answer, trial.seconds) == (True, "ready", 2.5)


@pytest.mark.parametrize("wire", ANSWERS)
def test_half_an_answer_and_an_empty_one_are_none(wire: Wire) -> None:
    assert ask(wire, 200, framed(ANSWERS[wire][:-1])).trouble == "the answer ended in the middle"
    assert ask(wire, 200, framed(ANSWERS[wire][-1:])).trouble == "the answer holds no text"
    assert ask(wire, 200, b"data: <html>\n\n").trouble == "the answer holds an event that is no JSON"


@pytest.mark.parametrize(
    ("wire", "event"),
    [
        ("responses", {"type": "response.failed", "response": {"error": {"message": "no credit"}}}),
        ("chat", {"error": {"message": "no credit"}}),
        ("messages", {"type": "error", "error": {"message": "no credit"}}),
    ],
)
def test_an_error_in_the_stream_is_told_in_its_own_words(wire: Wire, event: dict[str, Any]) -> None:
    trial = ask(wire, 200, framed([*ANSWERS[wire][:-1], event]))
    assert (trial.ok, trial.answer, trial.trouble) == (False, None, "no credit")
    assert trial.hint


@pytest.mark.parametrize(
    ("status", "next_step"), [(401, "keys"), (404, "models"), (429, "later"), (502, "log")]
)
def test_a_refusal_names_what_to_do_next(status: int, next_step: str) -> None:
    trial = ask("messages", status, b'{"type": "error", "error": {"message": "said"}}')
    assert trial.trouble == f"{status}: said"
    assert next_step in (trial.hint or "")
    assert ask("chat", status, b"<html>").trouble == f"status {status}"


def test_a_gateway_that_is_gone_is_a_result_not_a_traceback() -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    trial = run_trial("http://h", "t", model="m", wire="chat", transport=httpx.MockTransport(gone))
    assert "connection to the gateway broke" in (trial.trouble or "")

    def slow(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    trial = run_trial(
        "http://h", "t", model="m", wire="chat", transport=httpx.MockTransport(slow), timeout_s=3
    )
    assert trial.trouble == "no answer within 3 s"

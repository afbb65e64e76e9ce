"""Each client is told a failure in the words it acts on."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from dragoman.wire.encode_error import ErrorAnswer, encode_error, responses_error
from dragoman.wire.errors import DEFAULT_MESSAGES, FailureCode, failure
from dragoman.wire.turns import Wire

CODES: tuple[FailureCode, ...] = get_args(FailureCode)
WIRES: tuple[Wire, ...] = get_args(Wire)

# What Codex 0.169 ends a turn at, without another request.
FINAL_IN_CODEX = {"context_length_exceeded", "insufficient_quota", "invalid_prompt", "server_is_overloaded"}


def body(answer: ErrorAnswer) -> dict[str, Any]:
    return json.loads(answer.body)


def header(answer: ErrorAnswer, name: str) -> str | None:
    return dict(answer.headers).get(name)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("code", CODES)
def test_every_failure_has_an_answer_in_the_wires_own_shape(wire: Wire, code: FailureCode) -> None:
    answer = encode_error(wire, failure(code, "told so"), "r1")
    assert 400 <= answer.status < 600
    assert header(answer, "x-dragoman-request-id") == "r1"
    assert (header(answer, "x-should-retry") == "false") is not failure(code, "").retryable
    error = body(answer)["error"]
    assert error["type"]
    assert error["message"]
    if wire == "messages":
        assert body(answer)["type"] == "error"
    else:
        assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "message", ["Prompt exceeds max length", "context", "maximum context length is 131072 tokens"]
)
def test_claude_code_gets_the_sentence_it_compacts_on(message: str) -> None:
    answer = encode_error("messages", failure("context", message), "r", context_window=131072)
    assert answer.status == 400
    text = body(answer)["error"]["message"]
    found = re.match(r"^prompt is too long: (\d+) tokens > (\d+) maximum$", text)
    assert found
    assert int(found[1]) > int(found[2]) == 131072


def test_the_native_sentence_and_its_numbers_are_kept() -> None:
    native = "prompt is too long: 210000 tokens > 200000 maximum"
    answer = encode_error(
        "messages", failure("context", native, prompt_tokens=210000, limit_tokens=200000), "r"
    )
    assert body(answer)["error"]["message"] == native
    foreign = encode_error("messages", failure("context", "x", prompt_tokens=5000, limit_tokens=4000), "r")
    assert body(foreign)["error"]["message"] == "prompt is too long: 5000 tokens > 4000 maximum"


def test_an_exhausted_quota_is_never_retried_and_says_when_it_is_back() -> None:
    told = failure("quota_window", "Your limit will reset at 05:00:00", resets_at=1000.0)
    claude = encode_error("messages", told, "r", now=400.0)
    assert (claude.status, header(claude, "retry-after"), header(claude, "x-should-retry")) == (
        429,
        "600",
        "false",
    )
    assert "05:00" in body(claude)["error"]["message"]
    codex = encode_error("responses", told, "r", now=400.0)
    assert codex.status == 429
    assert body(codex)["error"]["code"] == "insufficient_quota"
    assert "05:00" in body(codex)["error"]["message"]
    assert header(codex, "retry-after") is None


def test_a_rate_limit_carries_the_wait_as_it_came() -> None:
    for wire in WIRES:
        answer = encode_error(wire, failure("rate", "slow", retry_after_s=2), "r")
        assert (answer.status, header(answer, "retry-after")) == (429, "2")
        assert body(answer)["error"]["message"] == "slow"


@pytest.mark.parametrize(("wait_s", "told"), [(0.25, "1"), (29.946, "30"), (30.0, "30"), (0.0, "0")])
def test_a_wait_is_told_in_whole_seconds_as_http_knows_no_others(wait_s: float, told: str) -> None:
    for wire in WIRES:
        answer = encode_error(wire, failure("rate", "slow", retry_after_s=wait_s), "r")
        assert header(answer, "retry-after") == told


def test_an_overload_uses_the_status_each_client_knows() -> None:
    told = failure("overloaded", "overloaded")
    assert encode_error("messages", told, "r").status == 529
    codex = encode_error("responses", told, "r")
    assert (codex.status, body(codex)["error"]["code"]) == (503, "server_is_overloaded")


@pytest.mark.parametrize("code", CODES)
def test_in_a_stream_codex_stops_exactly_at_what_cannot_succeed(code: FailureCode) -> None:
    told = failure(code, "why")
    before = responses_error(told, content_sent=False)["code"]
    after = responses_error(told, content_sent=True)["code"]
    assert (after in FINAL_IN_CODEX) is not told.retryable
    assert (before in FINAL_IN_CODEX) is (not told.retryable or code == "overloaded")


def test_a_wait_is_put_into_the_words_codex_reads() -> None:
    assert (
        "try again in 2.5s"
        in responses_error(failure("rate", "x", retry_after_s=2.5), content_sent=False)["message"]
    )


@pytest.mark.parametrize("code", ["rate", "overloaded", "upstream"])
@pytest.mark.parametrize("content_sent", [False, True])
def test_a_wait_too_long_to_sit_out_is_final_for_codex(code: FailureCode, content_sent: bool) -> None:
    told = failure(code, "Slow down.", retry_after_s=3600)
    said = responses_error(told, content_sent=content_sent)
    assert said["code"] in FINAL_IN_CODEX
    assert "try again in" not in said["message"].lower()
    assert header(encode_error("responses", told, "r"), "retry-after") is None
    assert header(encode_error("messages", told, "r"), "retry-after") == "3600"


def test_a_failure_before_the_stream_can_be_told_as_a_stream() -> None:
    answer = encode_error("responses", failure("context", "too long"), "r9", in_stream=True)
    assert (answer.status, header(answer, "content-type")) == (200, "text/event-stream")
    name, data = answer.body.decode().strip().split("\n")
    event = json.loads(data.removeprefix("data: "))
    assert name == "event: response.failed"
    assert event["type"] == "response.failed"
    assert event["response"]["error"] == {"code": "context_length_exceeded", "message": "too long"}
    assert encode_error("messages", failure("context", "x"), "r", in_stream=True).status == 400


def test_every_code_has_words_of_its_own() -> None:
    assert set(DEFAULT_MESSAGES) == set(CODES)

"""The official OpenAI SDK reads every Responses stream and body we write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from dragoman.wire.decode_error import decode_error
from dragoman.wire.encode_error import encode_error
from dragoman.wire.errors import FailureCode, failure
from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Fail,
    Finish,
    Open,
    ReasoningBlock,
    Start,
    TextBlock,
    Usage,
)
from dragoman.wire.responses.encode_stream import Encoder, encode_body
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Carrier, Request, raw

REQUEST = Request(wire="responses", model="glm-5.2")
SEAL = (Carrier(kind="signature", data="SIG", realm="here"),)

ANSWER: list[Event] = [
    Start("up", "m-up"),
    Open(ReasoningBlock()),
    Delta(b"hm"),
    Delta(b", yes"),
    Close(SEAL),
    Open(ReasoningBlock()),
    Close(SEAL),
    Open(TextBlock()),
    Delta(raw("hé \u2028 ")),
    Delta(b"there"),
    Close(),
    Open(CallBlock("c1", "read", "mcp__fs")),
    Delta(rb"{\"path\":\"a\"}"),
    Close(),
    Open(CallBlock("c2", "apply_patch", None, "freeform")),
    Delta(rb"*** Begin\n"),
    Close(),
    Open(CallBlock("c3", "local_shell", None, "local_shell")),
    Delta(rb"{\"command\":[\"ls\"]}"),
    Close(),
    Usage(input_tokens=10, output_tokens=5, cache_read_tokens=4, reasoning_tokens=2),
    Finish("tool_use"),
]
ENDS: dict[str, list[Event]] = {
    "completed": [Finish("end")],
    "incomplete": [Usage(input_tokens=1, output_tokens=1), Finish("length")],
    "failed": [Fail(failure("upstream", "broke"))],
}
# `mcp__fs` apart from the name is Codex's own extension of the protocol, the SDK keeps it as an extra field.
_event: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def stream_of(events: Sequence[Event]) -> bytes:
    return Encoder(REQUEST, ToolTable(), "abc123", 1_700_000_000).feed(events)


def client_for(status: int, headers: dict[str, str], body: bytes) -> openai.OpenAI:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, content=body)

    transport: Any = httpx.Client(transport=httpx.MockTransport(answer))
    return openai.OpenAI(base_url="http://gateway/v1", api_key="k", http_client=transport, max_retries=0)


def streaming(events: Sequence[Event]) -> openai.OpenAI:
    return client_for(200, {"content-type": "text/event-stream"}, stream_of(events))


@pytest.mark.parametrize("end", ENDS)
def test_every_event_fits_its_model_strictly(end: str) -> None:
    stream = stream_of([*ANSWER[:-2], *ENDS[end]])
    kinds = {
        _event.validate_json(line[6:]).type for line in stream.split(b"\n") if line.startswith(b"data: ")
    }
    assert f"response.{end}" in kinds
    assert {"response.function_call_arguments.delta", "response.custom_tool_call_input.done"} <= kinds


def test_the_stream_helper_folds_the_answer() -> None:
    with streaming(ANSWER).responses.stream(model="glm-5.2", input="hi") as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text == "hé \u2028 there"
    assert [item.type for item in final.output] == [
        "reasoning",
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
        "local_shell_call",
    ]
    assert final.usage is not None
    assert (final.usage.total_tokens, final.usage.input_tokens_details.cached_tokens) == (15, 4)


@pytest.mark.parametrize("end", ["incomplete", "failed"])
def test_the_plain_stream_tells_a_bad_end(end: str) -> None:
    events = list(streaming([Start(), *ENDS[end]]).responses.create(model="m", input="hi", stream=True))
    assert events[-1].type == f"response.{end}"


def test_a_whole_answer_is_a_strict_response() -> None:
    body = encode_body(ANSWER, request=REQUEST, tools=ToolTable(), response_id="abc123", created_at=5)
    Response.model_validate_json(body, strict=True)
    client = client_for(200, {"content-type": "application/json"}, body)
    response = client.responses.create(model="glm-5.2", input="hi")
    assert response.output_text == "hé \u2028 there"
    assert response.status == "completed"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("auth", openai.AuthenticationError),
        ("permission", openai.PermissionDeniedError),
        ("not_found", openai.NotFoundError),
        ("invalid", openai.BadRequestError),
        ("context", openai.BadRequestError),
        ("rate", openai.RateLimitError),
        ("quota_window", openai.RateLimitError),
        ("overloaded", openai.InternalServerError),
        ("upstream", openai.InternalServerError),
        ("timeout", openai.InternalServerError),
        ("filtered", openai.BadRequestError),
    ],
)
@pytest.mark.parametrize("wire", ["responses", "chat"])
def test_a_refusal_raises_the_exception_of_its_kind(
    code: FailureCode, error: type[Exception], wire: Any
) -> None:
    answer = encode_error(wire, failure(code, "told so"), "r1")
    client = client_for(answer.status, dict(answer.headers), answer.body)
    with pytest.raises(error, match="told so") as caught:
        client.responses.create(model="m", input="hi")
    assert isinstance(caught.value, openai.APIStatusError)
    assert caught.value.response.headers["x-dragoman-request-id"] == "r1"


@pytest.mark.parametrize(
    "code",
    [
        "auth",
        "permission",
        "not_found",
        "context",
        "too_large",
        "rate",
        "quota_window",
        "overloaded",
        "timeout",
    ],
)
@pytest.mark.parametrize("wire", ["responses", "chat", "messages"])
def test_our_own_errors_are_read_back_as_what_they_are(code: FailureCode, wire: Any) -> None:
    """A gateway may stand behind a gateway."""
    answer = encode_error(wire, failure(code, "told so"), "r1")
    found = decode_error(answer.status, dict(answer.headers), answer.body)
    expected = "rate" if (wire, code) == ("messages", "quota_window") else code
    assert found.code == expected
    assert json.loads(answer.body)

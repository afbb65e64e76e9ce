"""The vendors' own SDKs read everything that is emitted."""

from __future__ import annotations

import importlib
import importlib.util
import json
from typing import Any

import anthropic
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import streams

from dragoman.wire import translate
from dragoman.wire.encode_error import encode_error
from dragoman.wire.errors import failure
from dragoman.wire.events import CallBlock, Close, Delta, Event, Fail, Finish, Open, ReasoningBlock, TextBlock
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Request, Wire, plain, raw

# Whichever of the two the installed SDKs are built on.
httpx: Any = importlib.import_module("httpx2" if importlib.util.find_spec("httpx2") else "httpx")

ANSWER: list[Event] = [
    Open(ReasoningBlock()), Delta(raw("hm")), Close(),
    Open(TextBlock()), Delta(raw("h\u2028é")), Delta(raw(" 😀")), Close(),
    Open(CallBlock("call_1", "Bash")), Delta(raw('{"command":')), Delta(raw('"ls"}')), Close(),
    Open(CallBlock("call_2", "List")), Close(),
    Finish("tool_use"),
]  # fmt: skip


def served(body: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    return httpx.MockTransport(
        lambda _: httpx.Response(status, content=body, headers={"content-type": kind, **(headers or {})})
    )


def answer(wire: Wire, events: list[Event], *, stream: bool) -> Any:
    request = Request(wire=wire, model="asked", stream=stream, include_usage=True)
    fields: dict[str, Any] = {"request": request, "tools": ToolTable(), "response_id": "r1", "created_at": 5}
    if stream:
        return served(translate.stream_encoder(wire, **fields).feed(events), "text/event-stream")
    return served(translate.encode_body(wire, events, **fields), "application/json")


def anthropic_client(transport: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", http_client=httpx.Client(transport=transport), max_retries=0)


def openai_client(transport: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", http_client=httpx.Client(transport=transport), max_retries=0)


def claude(events: list[Event], *, stream: bool) -> Any:
    asked: Any = {"model": "asked", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    client = anthropic_client(answer("messages", events, stream=stream))
    if not stream:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as opened:
        return opened.get_final_message()


@pytest.mark.parametrize("stream", [True, False])
def test_the_anthropic_sdk_reads_thinking_text_and_calls(stream: bool) -> None:
    message = claude(ANSWER, stream=stream)
    assert message.model == "asked"
    assert message.stop_reason == "tool_use"
    thinking, text, call, empty = message.content
    assert thinking.thinking == "hm"
    assert text.text == "h\u2028é 😀"
    assert (call.id, call.name, call.input) == ("call_1", "Bash", {"command": "ls"})
    assert empty.input == {}


@given(events=streams())
@settings(max_examples=15, deadline=None)
def test_the_anthropic_sdk_reads_any_stream(events: list[Event]) -> None:
    message = claude(events, stream=True)
    texts = "".join(plain(e.text) for e in _deltas(events, TextBlock))
    assert "".join(block.text for block in message.content if block.type == "text") == texts
    assert message.usage.output_tokens > 0


def _deltas(events: list[Event], kind: type) -> list[Delta]:
    out: list[Delta] = []
    block: object = None
    for event in events:
        if isinstance(event, Open):
            block = event.block
        elif isinstance(event, Delta) and isinstance(block, kind):
            out.append(event)
    return out


def test_the_anthropic_sdk_raises_on_an_answer_that_broke_off() -> None:
    broken = [*ANSWER[:4], Fail(failure("truncated", "it broke off"))]
    with pytest.raises(anthropic.APIStatusError, match="it broke off"):
        claude(broken, stream=True)


def test_the_anthropic_sdk_knows_our_errors_by_their_type() -> None:
    found = encode_error("messages", failure("rate", "slow down", retry_after_s=2), "req_1")
    client = anthropic_client(served(found.body, "application/json", found.status, dict(found.headers)))
    with pytest.raises(anthropic.RateLimitError, match="slow down"):
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])


def chat(events: list[Event], *, stream: bool) -> Any:
    asked: Any = {"model": "asked", "messages": [{"role": "user", "content": "hi"}]}
    client = openai_client(answer("chat", events, stream=stream))
    if not stream:
        return client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as opened:
        for _ in opened:
            pass
        return opened.get_final_completion()


@pytest.mark.parametrize("stream", [True, False])
def test_the_openai_sdk_reads_chat_text_and_calls(stream: bool) -> None:
    completion = chat(ANSWER, stream=stream)
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "h\u2028é 😀"
    assert [call.function.name for call in choice.message.tool_calls] == ["Bash", "List"]
    assert [json.loads(call.function.arguments) for call in choice.message.tool_calls] == [
        {"command": "ls"},
        {},
    ]
    assert completion.usage.total_tokens == 0


@given(events=streams())
@settings(max_examples=15, deadline=None)
def test_the_openai_sdk_reads_any_chat_stream(events: list[Event]) -> None:
    if isinstance(events[-1], Finish) and events[-1].reason in ("length", "refusal"):
        events = [*events[:-1], Finish("end")]  # the SDK's helper raises on these two by itself
    message = chat(events, stream=True).choices[0].message
    assert (message.content or "") == "".join(plain(e.text) for e in _deltas(events, TextBlock))


def test_the_openai_sdk_raises_on_a_chat_stream_that_broke_off() -> None:
    broken = [*ANSWER[:4], Fail(failure("upstream", "it broke off"))]
    with pytest.raises(openai.APIError, match="it broke off"):
        chat(broken, stream=True)


@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_the_openai_sdk_knows_our_errors_by_their_status(data: st.DataObject) -> None:
    code: Any = data.draw(st.sampled_from(["invalid", "context", "filtered"]))
    found = encode_error("chat", failure(code, "no"), "req_1")
    client = openai_client(served(found.body, "application/json", found.status))
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])

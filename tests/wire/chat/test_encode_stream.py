"""Chat Completions answers, written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkers import ChatAnswer, sse_blocks

from dragoman.wire import translate
from dragoman.wire.errors import failure
from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Fail,
    Finish,
    FinishReason,
    Open,
    ReasoningBlock,
    TextBlock,
    Usage,
)
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Request


def encoder(**fields: Any) -> Any:
    request = Request(wire="chat", model="asked", stream=True, **fields)
    return translate.stream_encoder(
        "chat", request=request, tools=ToolTable(), response_id="r1", created_at=5
    )


def block(kind: Any, *texts: bytes) -> list[Event]:
    return [Open(kind), *(Delta(text) for text in texts), Close()]


def test_every_chunk_shows_the_asked_model_and_one_id() -> None:
    stream = encoder().feed([*block(TextBlock(), b"a"), Finish("end")])
    chunks = [json.loads(data) for _, data in sse_blocks(stream) if data != "[DONE]"]
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks} == {
        ("chatcmpl-r1", "asked", 5)
    }


def test_calls_are_counted_among_calls_alone() -> None:
    events = [
        *block(ReasoningBlock(), b"t"),
        *block(TextBlock(), b"x"),
        *block(CallBlock("c", "f"), b"{", b"}"),
        Finish("tool_use"),
    ]
    answer = ChatAnswer(encoder().feed(events))
    assert answer.calls == [{"id": "c", "kind": "function", "name": "f", "arguments": "{}"}]
    assert (answer.reasoning, answer.text, answer.finish_reason) == ("t", "x", "tool_calls")


def test_a_call_without_arguments_says_an_empty_object() -> None:
    answer = ChatAnswer(encoder().feed([*block(CallBlock("c", "f")), Finish("tool_use")]))
    assert answer.calls[0]["arguments"] == "{}"


def test_a_freeform_call_is_a_custom_one() -> None:
    answer = ChatAnswer(
        encoder().feed([*block(CallBlock("c", "p", None, "freeform"), b"P"), Finish("tool_use")])
    )
    assert answer.calls == [{"id": "c", "kind": "custom", "name": "p", "arguments": "P"}]


@pytest.mark.parametrize("wanted", [True, False])
def test_usage_comes_only_when_it_was_asked_for(wanted: bool) -> None:
    events = [Usage(input_tokens=10, output_tokens=2, cache_read_tokens=7, reasoning_tokens=1), Finish("end")]
    answer = ChatAnswer(encoder(include_usage=wanted).feed(events))
    expected = {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert answer.usage == (expected if wanted else None)


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("end", "stop"),
        ("length", "length"),
        ("refusal", "content_filter"),
        ("stop_sequence", "stop"),
        ("context", "length"),
    ],
)
def test_finish_words(reason: FinishReason, word: str) -> None:
    assert ChatAnswer(encoder().feed([Finish(reason)])).finish_reason == word


def test_no_done_follows_an_error_and_nothing_follows_the_end() -> None:
    found = encoder()
    stream = found.feed([Open(TextBlock()), Delta(b"a"), Fail(failure("overloaded", "busy"))])
    assert b"[DONE]" not in stream
    assert ChatAnswer(stream).error == {
        "message": "busy",
        "type": "server_error",
        "param": None,
        "code": "server_is_overloaded",
    }
    assert found.feed([Delta(b"x")]) == found.keep_alive() == found.fail(failure("upstream", "x")) == b""


def test_a_sign_of_life_is_a_comment() -> None:
    assert encoder().keep_alive().startswith(b": ")


def test_line_separators_are_escaped() -> None:
    stream = encoder().feed([*block(TextBlock(), "a\u2028b\u0085c".encode()), Finish("end")])
    assert ChatAnswer(stream).text == "a\u2028b\u0085c"


def test_a_whole_answer() -> None:
    events = [
        *block(TextBlock(), b"a"),
        *block(CallBlock("c", "f"), b"{}"),
        Usage(input_tokens=1, output_tokens=2),
        Finish("tool_use"),
    ]
    body = json.loads(
        translate.encode_body(
            "chat",
            events,
            request=Request(wire="chat", model="asked"),
            tools=ToolTable(),
            response_id="r1",
            created_at=5,
        )
    )
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == "a"
    assert body["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert body["usage"]["total_tokens"] == 3


def test_an_empty_answer_is_an_empty_string() -> None:
    body = json.loads(
        translate.encode_body(
            "chat",
            [Finish("end")],
            request=Request(wire="chat", model="m"),
            tools=ToolTable(),
            response_id="r",
            created_at=5,
        )
    )
    assert body["choices"][0]["message"]["content"] == ""

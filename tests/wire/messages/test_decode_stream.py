"""Messages streams as providers really send them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rendering import data, event

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Fail,
    Finish,
    Open,
    Ping,
    ReasoningBlock,
    Start,
    TextBlock,
    Usage,
)
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Carrier, Tool, plain

TOOLS = ToolTable([Tool(name="f"), Tool(name="p", kind="freeform"), Tool(name="read", namespace="mcp__fs")])
STOP = event({"type": "message_stop"})


def start(**usage: int) -> bytes:
    return event(
        {"type": "message_start", "message": {"id": "msg_u", "model": "up", "content": [], "usage": usage}}
    )


def opened(index: int, **block: Any) -> bytes:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def delta(index: int, **fields: Any) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": fields})


def stopped(index: int) -> bytes:
    return event({"type": "content_block_stop", "index": index})


def ending(reason: str, **usage: int) -> bytes:
    return event({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage})


def events(*frames: bytes, dialect: Dialect | None = None) -> list[Event]:
    decoder = translate.stream_decoder(
        "messages", dialect=dialect or Dialect(realm="r"), tools=TOOLS, id_seed="s"
    )
    found = decoder.feed(b"".join(frames)) + decoder.eof()
    assert decoder.finished
    assert decoder.feed(STOP) == decoder.eof() == []
    return found


def blocks(found: list[Event]) -> list[tuple[object, str]]:
    out: list[tuple[object, str]] = []
    block: object = None
    said: list[bytes] = []
    for item in found:
        match item:
            case Open(block):
                said = []
            case Delta(text):
                said.append(text)
            case Close():
                out.append((block, plain(b"".join(said))))
            case _:
                pass
    return out


def test_a_whole_conversation_turn() -> None:
    found = events(
        start(input_tokens=3, cache_read_input_tokens=7, cache_creation_input_tokens=2),
        event({"type": "ping"}),
        opened(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="T"),
        delta(0, type="signature_delta", signature="SI"),
        delta(0, type="signature_delta", signature="G"),
        stopped(0),
        opened(1, type="text", text=""),
        delta(1, type="text_delta", text="a"),
        stopped(1),
        ending("end_turn", output_tokens=5),
        STOP,
    )
    assert found == [
        Start("msg_u", "up"),
        Ping(),
        Open(ReasoningBlock()),
        Delta(b"T"),
        Close((Carrier(kind="signature", data="SIG", realm="r", model="up"),)),
        Open(TextBlock()),
        Delta(b"a"),
        Close(),
        Usage(input_tokens=12, output_tokens=5, cache_read_tokens=7, cache_write_tokens=2),
        Finish("end", "end_turn"),
    ]


def test_redacted_thinking_is_carried_unread() -> None:
    found = events(
        start(), opened(0, type="redacted_thinking", data="X"), stopped(0), ending("end_turn"), STOP
    )
    assert found[1:3] == [
        Open(ReasoningBlock()),
        Close((Carrier(kind="redacted", data="X", realm="r", model="up"),)),
    ]


def test_a_whole_input_in_the_start_counts_when_no_delta_comes() -> None:
    found = events(
        start(),
        opened(0, type="tool_use", id="c", name="f", input={"a": 1}),
        stopped(0),
        ending("tool_use"),
        STOP,
    )
    assert [json.loads(text) for _, text in blocks(found)] == [{"a": 1}]


def test_deltas_win_over_an_input_in_the_start() -> None:
    found = events(
        start(),
        opened(0, type="tool_use", id="c", name="f", input={"a": 1}),
        delta(0, type="input_json_delta", partial_json='{"a":2}'),
        stopped(0),
        ending("tool_use"),
        STOP,
    )
    assert blocks(found) == [(CallBlock("c", "f"), '{"a":2}')]


def test_text_in_the_start_is_not_lost() -> None:
    found = events(
        start(),
        opened(0, type="text", text="a"),
        delta(0, type="text_delta", text="b"),
        stopped(0),
        ending("end_turn"),
        STOP,
    )
    assert blocks(found) == [(TextBlock(), "ab")]


def test_interleaved_blocks_are_told_apart_by_their_index() -> None:
    found = events(
        start(),
        opened(0, type="text", text=""),
        opened(1, type="tool_use", id="c", name="f", input={}),
        delta(0, type="text_delta", text="a"),
        delta(1, type="input_json_delta", partial_json="{"),
        delta(0, type="text_delta", text="b"),
        delta(1, type="input_json_delta", partial_json="}"),
        stopped(1),
        stopped(0),
        ending("tool_use"),
        STOP,
    )
    assert blocks(found) == [(TextBlock(), "ab"), (CallBlock("c", "f"), "{}")]


def test_names_and_kinds_are_the_clients_again() -> None:
    found = events(
        start(),
        opened(0, type="tool_use", id="c1", name="p", input={}),
        delta(0, type="input_json_delta", partial_json='{"input":'),
        delta(0, type="input_json_delta", partial_json='"P"}'),
        stopped(0),
        opened(1, type="tool_use", id="c2", name="mcp__fs__read", input={}),
        stopped(1),
        ending("tool_use"),
        STOP,
    )
    assert blocks(found) == [
        (CallBlock("c1", "p", None, "freeform"), "P"),
        (CallBlock("c2", "read", "mcp__fs"), ""),
    ]


def test_unknown_blocks_and_events_are_skipped_with_their_deltas() -> None:
    found = events(
        start(),
        opened(0, type="server_tool_use", id="s", name="web_search", input={}),
        delta(0, type="input_json_delta", partial_json="{}"),
        stopped(0),
        event({"type": "brand_new"}),
        opened(1, type="text", text=""),
        delta(1, type="text_delta", text="a"),
        delta(1, type="citations_delta", citation={}),
        stopped(1),
        ending("end_turn"),
        STOP,
    )
    assert blocks(found) == [(TextBlock(), "a")]


def test_event_lines_are_not_needed() -> None:
    frames = [
        data({"type": "message_start", "message": {"id": "m"}}),
        data({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        data({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}),
        data({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        data({"type": "message_stop"}),
    ]
    assert blocks(events(*frames)) == [(TextBlock(), "a")]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "end"),
        ("max_tokens", "length"),
        ("refusal", "refusal"),
        ("stop_sequence", "stop_sequence"),
        ("model_context_window_exceeded", "context"),
        ("pause_turn", "pause"),
        ("tool_use", "end"),
        ("unheard_of", "end"),
    ],
)
def test_why_an_answer_without_calls_ended(word: str, reason: str) -> None:
    assert events(start(), ending(word), STOP)[-1] == Finish(reason, word)  # type: ignore[arg-type]


def test_usage_only_at_the_end_is_usage_and_zeros_change_nothing() -> None:
    found = events(
        start(input_tokens=0, output_tokens=0), ending("end_turn", input_tokens=9, output_tokens=4), STOP
    )
    assert found[-2] == Usage(input_tokens=9, output_tokens=4)
    kept = events(start(input_tokens=9), ending("end_turn", input_tokens=0, output_tokens=4), STOP)
    assert kept[-2] == Usage(input_tokens=9, output_tokens=4)


def test_a_missing_message_stop_is_forgiven_after_a_stop_reason() -> None:
    assert isinstance(events(start(), ending("end_turn"))[-1], Finish)


@pytest.mark.parametrize(
    "frames",
    [
        (),
        (start(),),
        (start(), opened(0, type="text", text=""), delta(0, type="text_delta", text="a")),
        (start(), ending("end_turn")[:-20]),
    ],
)
def test_an_answer_that_breaks_off_is_truncated(frames: tuple[bytes, ...]) -> None:
    last = events(*frames)[-1]
    assert isinstance(last, Fail)
    assert last.failure.code == "truncated"


def test_an_open_block_stays_open_when_the_answer_fails() -> None:
    error = event({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    found = events(
        start(input_tokens=5), opened(0, type="text", text=""), delta(0, type="text_delta", text="a"), error
    )
    assert not any(isinstance(item, Close) for item in found)
    assert isinstance(found[-1], Fail)
    assert found[-1].failure.code == "overloaded"


def test_a_business_error_inside_a_200_is_a_failure() -> None:
    frame = data({"error": {"code": "1305", "message": "busy"}})
    last = events(frame, dialect=Dialect(error_codes={"1305": "overloaded"}))[-1]
    assert isinstance(last, Fail)
    assert last.failure.code == "overloaded"


def test_a_call_cut_by_the_ceiling_is_not_complete() -> None:
    found = events(
        start(),
        opened(0, type="tool_use", id="c", name="f", input={}),
        delta(0, type="input_json_delta", partial_json='{"a'),
        ending("max_tokens"),
        STOP,
    )
    assert Close(complete=False) in found


def test_a_whole_answer_gives_the_same_events() -> None:
    body = {
        "id": "m",
        "type": "message",
        "model": "up",
        "content": [
            {"type": "thinking", "thinking": "T", "signature": "S"},
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"n": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    found = translate.decode_body(
        "messages", json.dumps(body).encode(), dialect=Dialect(realm="r"), tools=TOOLS
    )
    assert blocks(found) == [(ReasoningBlock(), "T"), (TextBlock(), "a"), (CallBlock("c", "f"), '{"n": 1}')]
    assert found[-2:] == [Usage(input_tokens=1, output_tokens=2), Finish("tool_use", "tool_use")]


@pytest.mark.parametrize(
    "body",
    [b'{"type":"error","error":{"message":"bad"}}', b"[]", b"<html>", b"{}", b'{"content":5}', b"\xff"],
)
def test_a_body_without_an_answer_is_a_failure(body: bytes) -> None:
    found = translate.decode_body("messages", body, dialect=Dialect(), tools=TOOLS)
    assert [type(item) for item in found] == [Fail]

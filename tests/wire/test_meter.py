"""Reading along."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rendering import chat_stream, messages_stream
from strategies import chunks_of, cuts, streams

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.events import Fail, Finish, Usage
from dragoman.wire.meter import UsageMeter, is_content
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Wire

RENDER = {"chat": chat_stream, "messages": messages_stream}


@pytest.mark.parametrize("wire", ["chat", "messages"])
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_passing_stream_is_counted_however_it_is_cut(wire: Wire, data: st.DataObject) -> None:
    events = data.draw(streams())
    stream = RENDER[wire](events)
    meter = UsageMeter(wire)
    for piece in chunks_of(stream, data.draw(cuts(len(stream)))):
        meter.feed(piece)
    meter.eof()
    assert meter.finished
    assert meter.failure is None
    assert isinstance(meter.finish, Finish)
    assert meter.usage == next(event for event in events if isinstance(event, Usage))


@pytest.mark.parametrize("wire", ["chat", "messages", "responses"])
def test_a_stream_that_closes_early_is_truncated(wire: Wire) -> None:
    meter = UsageMeter(wire)
    meter.eof()
    assert meter.failure is not None
    assert meter.failure.code == "truncated"


HALF: dict[Wire, bytes] = {
    "chat": b'data: {"choices":[{"index":0,"delta":{"content":"half","tool_ca',
    "messages": b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_re',
    "responses": b'event: response.completed\ndata: {"type":"response.completed","response":{"id":',
}


@pytest.mark.parametrize("wire", HALF)
def test_half_a_frame_at_the_end_is_a_cut_and_no_fault_of_the_providers_json(wire: Wire) -> None:
    meter = UsageMeter(wire)
    meter.feed(HALF[wire])
    meter.eof()
    assert meter.failure is not None
    assert meter.failure.code == "truncated"


@pytest.mark.parametrize("wire", ["chat", "messages"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_wherever_a_stream_is_cut_it_is_whole_or_truncated(wire: Wire, data: st.DataObject) -> None:
    stream = RENDER[wire](data.draw(streams()))
    begun = stream[: data.draw(st.integers(0, len(stream)))]
    decoder = translate.stream_decoder(wire, dialect=Dialect(), tools=ToolTable())
    last = [*decoder.feed(begun), *decoder.eof()][-1]
    meter = UsageMeter(wire)
    meter.feed(begun)
    meter.eof()
    assert isinstance(last, Finish) or (isinstance(last, Fail) and last.failure.code == "truncated")
    assert (meter.failure is None) == isinstance(last, Finish)
    assert meter.failure is None or meter.failure.code == "truncated"


def test_an_end_without_its_blank_line_counts() -> None:
    meter = UsageMeter("chat")
    meter.feed(b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}')
    meter.eof()
    assert meter.failure is None
    assert meter.finish is not None
    assert meter.content_seen


def test_an_event_over_several_lines_is_read() -> None:
    meter = UsageMeter("chat")
    meter.feed(
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],\ndata: "usage":{"prompt_tokens":3}}\n\n'
    )
    meter.feed(b"data: [DONE]\n\n")
    assert meter.failure is None
    assert meter.usage is not None
    assert meter.usage.input_tokens == 3


CONTENT: list[tuple[Wire, dict[str, object], bool]] = [
    ("chat", {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}, False),
    ("chat", {"choices": [{"delta": {"role": "assistant"}, "finish_reason": None}]}, False),
    ("chat", {"choices": [{"delta": {"content": "x"}, "finish_reason": None}]}, True),
    ("chat", {"choices": [{"delta": {"reasoning_content": "x"}, "finish_reason": None}]}, True),
    ("chat", {"choices": [{"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}]}, True),
    ("messages", {"type": "ping"}, False),
    ("messages", {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}, True),
    ("responses", {"type": "response.created", "response": {"id": "r"}}, False),
    ("responses", {"type": "response.queued", "sequence_number": 1}, False),
    ("responses", {"type": "response.output_item.added", "item": {"type": "message"}}, True),
]


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize(("wire", "frame", "content"), CONTENT)
def test_only_a_part_of_the_answer_itself_is_content(
    wire: Wire, frame: dict[str, object], content: bool, spaced: bool
) -> None:
    meter = UsageMeter(wire)
    separators = (", ", ": ") if spaced else (",", ":")
    meter.feed(b"data: " + json.dumps(frame, separators=separators).encode() + b"\n\n")
    assert meter.content_seen is content


def test_an_error_inside_a_stream_is_seen() -> None:
    meter = UsageMeter("messages")
    meter.feed(
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'
    )
    assert meter.failure is not None
    assert meter.failure.code == "overloaded"


@pytest.mark.parametrize(
    ("wire", "frame", "content"),
    [
        ("messages", {"type": "content_block_delta", "index": 0, "delta": {"text": '"usage"'}}, True),
        ("messages", {"type": "message_delta", "usage": {}}, False),
        ("chat", {"choices": [{"delta": {"content": '"usage":{'}, "finish_reason": None}]}, True),
        (
            "chat",
            {"choices": [{"delta": {"content": '"error"'}, "finish_reason": None}], "usage": None},
            True,
        ),
        ("chat", {"choices": [{"delta": {}, "finish_reason": "stop"}]}, False),
        ("chat", {"choices": [], "usage": {"prompt_tokens": 1}}, False),
        ("responses", {"type": "response.output_text.delta", "delta": '"response":{'}, True),
        ("responses", {"type": "response.completed", "response": {}}, False),
    ],
)
def test_only_frames_that_are_surely_content_are_left_unread(
    wire: Wire, frame: object, content: bool
) -> None:
    assert is_content(wire, json.dumps(frame, separators=(",", ":")).encode()) is content

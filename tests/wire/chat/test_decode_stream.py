"""Chat Completions streams as providers really send them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from rendering import data

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
    ReasoningBlock,
    Start,
    TextBlock,
    Usage,
)
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Carrier, Reasoning, Tool, plain

DONE = b"data: [DONE]\n\n"
TOOLS = ToolTable([Tool(name="f"), Tool(name="p", kind="freeform"), Tool(name="read", namespace="mcp__fs")])


def delta(**fields: Any) -> bytes:
    return data({"id": "u", "model": "up", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]})


def finish(reason: str) -> bytes:
    return data({"id": "u", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})


def call(arguments: object = None, **fields: Any) -> bytes:
    function = {key: fields.pop(key) for key in ("name",) if key in fields}
    if arguments is not None:
        function["arguments"] = arguments
    return delta(tool_calls=[{**fields, "function": function}])


def events(*frames: bytes, dialect: Dialect | None = None, recall: Any = None) -> list[Event]:
    decoder = translate.stream_decoder(
        "chat", dialect=dialect or Dialect(realm="r"), tools=TOOLS, id_seed="s", recall=recall
    )
    found = decoder.feed(b"".join(frames)) + decoder.eof()
    assert decoder.finished
    assert decoder.feed(delta(content="late")) == decoder.eof() == []
    return found


def blocks(found: Sequence[Event]) -> list[tuple[object, str]]:
    out: list[tuple[object, str]] = []
    block: object = None
    said: list[bytes] = []
    for event in found:
        match event:
            case Open(block):
                said = []
            case Delta(text):
                said.append(text)
            case Close():
                out.append((block, plain(b"".join(said))))
            case _:
                pass
    return out


def test_a_plain_answer() -> None:
    found = events(
        delta(role="assistant", content=""), delta(content="o"), delta(content="k"), finish("stop"), DONE
    )
    assert found == [
        Start("u", "up"),
        Open(TextBlock()),
        Delta(b"o"),
        Delta(b"k"),
        Close(),
        Finish("end", "stop"),
    ]


def test_empty_pieces_open_nothing() -> None:
    assert blocks(events(delta(content=""), delta(content=None), delta(), finish("stop"), DONE)) == []


def test_reasoning_and_text_take_turns_and_reasoning_carries_its_maker() -> None:
    found = events(
        delta(reasoning_content="t", content="a"),
        delta(reasoning_content="u"),
        delta(content="b"),
        finish("stop"),
        DONE,
    )
    assert [text for _, text in blocks(found)] == ["t", "a", "u", "b"]
    closes = [event for event in found if isinstance(event, Close)]
    assert closes[0].carriers == (Carrier(kind="reasoning_content", realm="r", model="up"),)


def test_reasoning_under_its_other_name() -> None:
    found = events(delta(reasoning="t"), delta(reasoning="u", content=""), finish("stop"), DONE)
    assert blocks(found) == [(ReasoningBlock(), "tu")]


def test_think_tags_are_reasoning_where_the_profile_says_so() -> None:
    frames = (delta(content="<thi"), delta(content="nk>a</think>"), delta(content="b"), finish("stop"), DONE)
    assert blocks(events(*frames, dialect=Dialect(think_tags=True))) == [
        (ReasoningBlock(), "a"),
        (TextBlock(), "b"),
    ]
    assert blocks(events(*frames)) == [(TextBlock(), "<think>a</think>b")]


def test_a_refusal_and_content_parts_are_text() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    ]
    found = events(delta(content=parts), delta(refusal="no"), finish("stop"), DONE)
    assert blocks(found) == [(TextBlock(), "a"), (ReasoningBlock(), "hm"), (TextBlock(), "no")]


def test_interleaved_calls_come_out_one_after_the_other() -> None:
    found = events(
        call('{"a"', index=0, id="c1", name="f"),
        call('{"b"', index=1, id="c2", name="f"),
        call(":1}", index=0),
        call(":2}", index=1),
        finish("tool_calls"),
        DONE,
    )
    assert blocks(found) == [(CallBlock("c1", "f"), '{"a":1}'), (CallBlock("c2", "f"), '{"b":2}')]
    assert found[-1] == Finish("tool_use", "tool_calls")


def test_a_whole_call_is_closed_as_soon_as_the_next_begins() -> None:
    decoder = translate.stream_decoder("chat", dialect=Dialect(), tools=TOOLS)
    decoder.feed(call("{}", index=0, id="c1", name="f"))
    found = decoder.feed(call("{", index=1, id="c2", name="f"))
    assert found == [Close(), Open(CallBlock("c2", "f")), Delta(b"{")]


@pytest.mark.parametrize(
    "frames",
    [
        (call("{}", id="c1", name="f"), call("[]", id="c2", name="f")),
        (call("{}", index=0, id="c1", name="f"), call("[]", index=0, id="c2", name="f")),
        (call("{", id="c1", name="f"), call("}", id="c1"), call("[]", id="c2", name="f")),
        (call("{", id="c1", name="f"), call("}"), call("[]", id="c2", name="f")),
        (call("{", index=0, id="c1"), call("}", index=0, name="f"), call("[]", index=1, id="c2", name="f")),
        (
            call("{", index=0, name="f"),
            call("}", index=0, id="c1", name="f"),
            call("[]", index=1, id="c2", name="f"),
        ),
        (
            call("{}", index=0, id="c1", name="f"),
            call("", index=0, id="", name=""),
            call("[]", index=1, id="c2", name="f"),
        ),
    ],
    ids=["no index", "one index twice", "id repeated", "neither", "late name", "late id", "empty repeats"],
)
def test_calls_are_told_apart_however_they_are_labelled(frames: tuple[bytes, ...]) -> None:
    found = events(*frames, finish("tool_calls"), DONE)
    assert blocks(found) == [(CallBlock("c1", "f"), "{}"), (CallBlock("c2", "f"), "[]")]


def test_a_name_said_twice_is_not_doubled() -> None:
    found = events(
        call("{", index=0, id="c", name="f"), call("}", index=0, name="f"), finish("tool_calls"), DONE
    )
    assert blocks(found) == [(CallBlock("c", "f"), "{}")]


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    found = events(call("{}", index=0, name="f"), call("{}", index=1, name="f"), finish("tool_calls"), DONE)
    ids = [block.id for block, _ in blocks(found) if isinstance(block, CallBlock)]
    assert len(set(ids)) == 2
    assert all(ids)


def test_arguments_may_be_an_object() -> None:
    found = events(call({"a": 1}, index=0, id="c", name="f"), finish("tool_calls"), DONE)
    assert [json.loads(text) for _, text in blocks(found)] == [{"a": 1}]


def test_the_older_function_call_is_a_call() -> None:
    found = events(
        delta(function_call={"name": "f", "arguments": "{"}),
        delta(function_call={"arguments": "}"}),
        finish("function_call"),
        DONE,
    )
    assert [(block.name, text) for block, text in blocks(found)] == [("f", "{}")]  # type: ignore[attr-defined]


def test_names_and_kinds_are_the_clients_again() -> None:
    found = events(
        call('{"input":"*** Begin', index=0, id="c1", name="p"),
        call(' Patch"}', index=0),
        call("{}", index=1, id="c2", name="mcp__fs__read"),
        finish("tool_calls"),
        DONE,
    )
    assert blocks(found) == [
        (CallBlock("c1", "p", None, "freeform"), "*** Begin Patch"),
        (CallBlock("c2", "read", "mcp__fs"), "{}"),
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "end"),
        ("length", "length"),
        ("content_filter", "refusal"),
        ("model_context_window_exceeded", "context"),
        ("tool_calls", "end"),
        ("unheard_of", "end"),
    ],
)
def test_why_an_answer_without_calls_ended(word: str, reason: str) -> None:
    assert events(delta(content="a"), finish(word), DONE)[-1] == Finish(reason, word)  # type: ignore[arg-type]


def test_a_profile_names_its_own_finish_words() -> None:
    dialect = Dialect(finish_reasons={"sense": "refusal"}, error_finish={"network_error": "upstream"})
    assert events(delta(content="a"), finish("sense"), DONE, dialect=dialect)[-1] == Finish(
        "refusal", "sense"
    )
    failed = events(delta(content="a"), finish("network_error"), DONE, dialect=dialect)[-1]
    assert isinstance(failed, Fail)
    assert failed.failure.retryable


def test_a_call_decides_although_the_provider_says_stop() -> None:
    assert events(call("{}", index=0, id="c", name="f"), finish("stop"), DONE)[-1] == Finish(
        "tool_use", "stop"
    )


def test_a_call_cut_by_the_ceiling_is_not_complete() -> None:
    found = events(
        call("{}", index=0, id="c1", name="f"),
        call('{"a', index=1, id="c2", name="f"),
        finish("length"),
        DONE,
    )
    assert [event.complete for event in found if isinstance(event, Close)] == [True, False]


def test_late_usage_is_counted_and_null_usage_is_not() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    found = events(
        data({"choices": [{"delta": {"content": "a"}}], "usage": None}),
        finish("stop"),
        data({"choices": [], "usage": usage}),
        DONE,
    )
    assert found[-2] == Usage(input_tokens=10, output_tokens=3, cache_read_tokens=8, reasoning_tokens=2)


def test_another_providers_cache_field_is_counted() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 6}
    found = events(
        delta(content="a"), data({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage}), DONE
    )
    assert found[-2] == Usage(input_tokens=10, output_tokens=1, cache_read_tokens=6)


@pytest.mark.parametrize(
    "frames",
    [
        (delta(content="a"), finish("stop")),
        (delta(content="a"), DONE),
        (call("{}", index=0, id="c", name="f"), DONE),
    ],
    ids=["no [DONE]", "no finish", "a whole call and no finish"],
)
def test_half_an_ending_is_an_ending(frames: tuple[bytes, ...]) -> None:
    assert isinstance(events(*frames)[-1], Finish)


@pytest.mark.parametrize(
    "frames",
    [
        (delta(content="a"),),
        (),
        (call('{"a', index=0, id="c", name="f"), DONE),
        (delta(content="a"), b'data: {"choices":[{"del'),
        (finish("stop")[:-30],),
    ],
    ids=["no end at all", "nothing", "inside a call", "inside a frame", "inside the finish"],
)
def test_an_answer_that_breaks_off_is_truncated(frames: tuple[bytes, ...]) -> None:
    last = events(*frames)[-1]
    assert isinstance(last, Fail)
    assert last.failure.code == "truncated"


def test_an_error_inside_a_stream_ends_it() -> None:
    error = data({"error": {"code": "1302", "message": "High concurrency"}})
    found = events(
        delta(content="a"), error, delta(content="b"), dialect=Dialect(error_codes={"1302": "rate"})
    )
    assert isinstance(found[-1], Fail)
    assert found[-1].failure.code == "rate"
    assert blocks(found) == []


def test_a_frame_that_is_no_json_fails_the_answer_and_never_loses_text_silently() -> None:
    assert isinstance(
        events(delta(content="a"), b"data: {oops\n\n", delta(content="b"), finish("stop"), DONE)[-1], Fail
    )


def test_raw_control_characters_and_lone_surrogates_are_mended() -> None:
    found = events(
        b'data: {"choices":[{"delta":{"content":"a\tb"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        finish("stop"),
        DONE,
    )
    assert blocks(found) == [(TextBlock(), "a\tb\ufffd\ufffd")]


def test_the_session_remembers_what_was_thought_before_each_call() -> None:
    kept: list[tuple[list[str], Reasoning]] = []

    class Memory:
        def find(self, call_id: str) -> None:
            return None

        def keep(self, call_ids: Sequence[str], reasoning: Reasoning) -> None:
            kept.append((list(call_ids), reasoning))

    events(
        delta(reasoning_content="th"),
        delta(reasoning_content="ink"),
        call("{}", index=0, id="c1", name="f"),
        call("{}", index=1, id="c2", name="f"),
        finish("tool_calls"),
        DONE,
        recall=Memory(),
    )
    ((ids, reasoning),) = kept
    assert ids == ["c1", "c2"]
    assert reasoning.text == b"think"


def body_events(message: object, **fields: Any) -> list[Event]:
    choice = {"index": 0, "message": message, "finish_reason": fields.pop("finish_reason", "stop")}
    body = json.dumps({"id": "u", "model": "up", "choices": [choice], **fields}).encode()
    return translate.decode_body("chat", body, dialect=Dialect(), tools=TOOLS, id_seed="s")


def test_a_whole_answer_gives_the_same_events() -> None:
    calls = [
        {"id": "c", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c", "function": {"name": "f", "arguments": "[]"}},
    ]
    message = {"role": "assistant", "content": "x", "reasoning_content": "R", "tool_calls": calls}
    found = body_events(
        message, finish_reason="tool_calls", usage={"prompt_tokens": 4, "completion_tokens": 2}
    )
    assert blocks(found) == [
        (ReasoningBlock(), "R"),
        (TextBlock(), "x"),
        (CallBlock("c", "f"), "{}"),
        (CallBlock("c", "f"), "[]"),
    ]
    assert found[-2:] == [Usage(input_tokens=4, output_tokens=2), Finish("tool_use", "tool_calls")]


@pytest.mark.parametrize(
    "body", [b'{"error":{"message":"bad"}}', b"[]", b"<html>", b"{}", b'{"choices":[]}', b'"x"']
)
def test_a_body_without_an_answer_is_a_failure(body: bytes) -> None:
    found = translate.decode_body("chat", body, dialect=Dialect(), tools=TOOLS)
    assert [type(event) for event in found] == [Fail]

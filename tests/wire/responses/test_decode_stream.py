"""Responses upstreams, as they really are, become events."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from dragoman.wire.responses.decode_stream import Decoder, decode_body
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Carrier, Reasoning, Tool

DIALECT = Dialect(realm="here", error_codes={"1305": "overloaded"})
PATCH = Tool(kind="freeform", name="apply_patch")
TOOLS = ToolTable([Tool(name="f"), PATCH, Tool(name="read", namespace="mcp__fs")], dialect=DIALECT)


class Memory:
    """A session's memory of reasoning."""

    def __init__(self) -> None:
        self.kept: list[tuple[tuple[str, ...], Reasoning]] = []

    def find(self, call_id: str) -> Reasoning | None:
        return None

    def keep(self, call_ids: Any, reasoning: Reasoning) -> None:
        self.kept.append((tuple(call_ids), reasoning))


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)


def decode(data: bytes, tools: ToolTable = TOOLS, *, cuts: tuple[int, ...] = ()) -> list[Event]:
    decoder = Decoder(dialect=DIALECT, tools=tools, id_seed="s")
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    events = [event for a, b in pairwise(edges) for event in decoder.feed(data[a:b])]
    return events + decoder.eof()


def of(*events: dict[str, Any], tools: ToolTable = TOOLS) -> list[Event]:
    return decode(stream(*events), tools)


CREATED = {"type": "response.created", "response": {"id": "r", "model": "gpt"}}
COMPLETED = {
    "type": "response.completed",
    "response": {
        "id": "r",
        "status": "completed",
        "output": [],
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 11,
        },
    },
}
START = Start("r", "gpt")
USAGE = Usage(input_tokens=9, output_tokens=2, cache_read_tokens=4, reasoning_tokens=1)


def added(item: dict[str, Any], index: int | None = 0) -> dict[str, Any]:
    place = {} if index is None else {"output_index": index}
    return {"type": "response.output_item.added", **place, "item": item}


def done(item: dict[str, Any], index: int | None = 0) -> dict[str, Any]:
    return {**added(item, index), "type": "response.output_item.done"}


def message(text: str, item_id: str = "msg_1") -> dict[str, Any]:
    return {
        "type": "message",
        "id": item_id,
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def call(arguments: Any = "{}", **fields: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "c1",
        "name": "f",
        "arguments": arguments,
        **fields,
    }


def text_delta(text: str, **place: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": text, **place}


def test_text_passes_as_it_is_escaped() -> None:
    data = stream(CREATED, added(message(""))) + (
        b'data: {"type":"response.output_text.delta","output_index":0,"delta":"a\\u00e9\\/\xc3\xa9"}\n\n'
    )
    assert decode(data + stream(done(message("x")), COMPLETED)) == [
        START,
        Open(TextBlock()),
        Delta(b"a\\u00e9\\/\xc3\xa9"),
        Close(),
        USAGE,
        Finish("end", "completed"),
    ]


@pytest.mark.parametrize(
    "events",
    [
        [text_delta("x", item_id="m")],
        [text_delta("x")],
        [added(message("")), text_delta("x", output_index=0, item_id="changed"), done(message("x", "again"))],
        [added(message(""), None), text_delta("x", item_id="msg_1"), done(message("x"), None)],
        [added(message("")), {"type": "response.output_text.done", "output_index": 0, "text": "x"}],
        [added(message("")), done(message("x"))],
        [done(message("x"))],
        [done(message("x"), None)],
        [{"type": "response.refusal.delta", "delta": "x"}],
    ],
)
def test_text_is_found_wherever_it_stands(events: list[dict[str, Any]]) -> None:
    assert of(CREATED, *events, COMPLETED) == [
        START,
        Open(TextBlock()),
        Delta(b"x"),
        Close(),
        USAGE,
        Finish("end", "completed"),
    ]


def test_items_that_only_stand_in_the_last_event_are_found() -> None:
    last = {"type": "response.completed", "response": {"id": "r", "output": [message("x"), call('{"a":1}')]}}
    assert of(CREATED, last) == [
        START,
        Open(TextBlock()),
        Delta(b"x"),
        Close(),
        Open(CallBlock("c1", "f")),
        Delta(rb"{\"a\":1}"),
        Close(),
        Finish("tool_use", "completed"),
    ]


ARGUMENTS_DELTA = "response.function_call_arguments.delta"


@pytest.mark.parametrize(
    "events",
    [
        [
            added(call("")),
            {"type": ARGUMENTS_DELTA, "output_index": 0, "delta": '{"a":1}'},
            done(call('{"a":1}')),
        ],
        [
            added(call("")),
            {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"a":1}'},
        ],
        [added(call("")), done(call('{"a":1}'))],
        [done(call('{"a":1}'))],
        [
            added(call("", name="")),
            {"type": ARGUMENTS_DELTA, "output_index": 0, "delta": "{"},
            done(call('{"a":1}')),
        ],
    ],
)
def test_arguments_are_found_wherever_they_stand(events: list[dict[str, Any]]) -> None:
    found = of(CREATED, *events, COMPLETED)
    assert found[1:4] == [Open(CallBlock("c1", "f")), Delta(rb"{\"a\":1}"), Close()]
    assert found[-1] == Finish("tool_use", "completed")


def test_arguments_given_as_an_object_become_text() -> None:
    assert Delta(rb"{\"a\": 1}") in of(CREATED, done(call({"a": 1})), COMPLETED)


def test_interleaved_calls_leave_one_after_the_other() -> None:
    other = {"id": "fc_2", "call_id": "c2"}
    found = of(
        CREATED,
        added(call(""), 0),
        added(call("", **other), 1),
        {"type": ARGUMENTS_DELTA, "output_index": 1, "delta": "2"},
        {"type": ARGUMENTS_DELTA, "output_index": 0, "delta": "1"},
        done(call("2", **other), 1),
        done(call("1"), 0),
        COMPLETED,
    )
    blocks = [event for event in found if isinstance(event, Open | Delta | Close)]
    assert blocks == [
        Open(CallBlock("c1", "f")),
        Delta(b"1"),
        Close(),
        Open(CallBlock("c2", "f")),
        Delta(b"2"),
        Close(),
    ]


def test_names_come_back_as_the_client_declared_them() -> None:
    wrapped = call('{"input":"*** Begin\\n"}', name="apply_patch")
    flat = call("{}", name="mcp__fs__read", call_id="c2", id="fc_2")
    found = of(CREATED, done(wrapped, 0), done(flat, 1), COMPLETED)
    assert found[1:4] == [
        Open(CallBlock("c1", "apply_patch", None, "freeform")),
        Delta(rb"*** Begin\n"),
        Close(),
    ]
    assert found[4] == Open(CallBlock("c2", "read", "mcp__fs"))


def test_native_freeform_and_namespaced_calls_are_understood() -> None:
    native = ToolTable([PATCH], dialect=Dialect(freeform_tools=True), wire="responses")
    custom = {"type": "custom_tool_call", "id": "ctc", "call_id": "c1", "name": "apply_patch", "input": "P\n"}
    found = of(CREATED, done(custom, 0), done(call(namespace="ns", call_id="c2"), 1), COMPLETED, tools=native)
    assert found[1:3] == [Open(CallBlock("c1", "apply_patch", None, "freeform")), Delta(rb"P\n")]
    assert Open(CallBlock("c2", "f", "ns")) in found


def test_summary_parts_are_paragraphs_of_one_thought_sealed_by_its_item() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": []}
    found = of(
        CREATED,
        added(item),
        {"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "delta": "p1"},
        {"type": "response.reasoning_summary_part.added", "item_id": "rs_1", "summary_index": 1},
        {
            "type": "response.reasoning_summary_text.delta",
            "item_id": "rs_1",
            "summary_index": 1,
            "delta": "p2",
        },
        done({**item, "summary": [{"text": "p1"}, {"text": "p2"}], "encrypted_content": "E"}),
        COMPLETED,
    )
    sealed = Carrier(kind="encrypted", data="E", realm="here", model="gpt", item_id="rs_1")
    assert found[1:5] == [Open(ReasoningBlock()), Delta(b"p1"), Delta(rb"\n\np2"), Close((sealed,))]


def test_raw_reasoning_text_is_a_thought_that_carries_itself() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": []}
    plain = Carrier(kind="reasoning_content", realm="here", model="gpt")
    live = of(
        CREATED,
        added(item),
        {"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0, "delta": "R"},
        done({**item, "content": [{"type": "reasoning_text", "text": "R"}]}),
        COMPLETED,
    )
    late = of(CREATED, done({**item, "content": [{"type": "reasoning_text", "text": "R"}]}), COMPLETED)
    assert live == late
    assert live[1:4] == [Open(ReasoningBlock()), Delta(b"R"), Close((plain,))]


def test_encrypted_reasoning_without_words_is_kept() -> None:
    found = of(CREATED, done({"type": "reasoning", "summary": [], "encrypted_content": "E"}), COMPLETED)
    assert found[1:3] == [
        Open(ReasoningBlock()),
        Close((Carrier(kind="encrypted", data="E", realm="here", model="gpt"),)),
    ]


def test_reasoning_is_remembered_by_the_calls_it_led_to() -> None:
    memory = Memory()
    decoder = Decoder(dialect=DIALECT, tools=TOOLS, recall=memory)
    decoder.feed(
        stream(
            CREATED,
            done({"type": "reasoning", "summary": [{"text": "why"}]}, 0),
            done(call(), 1),
            done(call(call_id="c2", id="fc_2"), 2),
            COMPLETED,
        )
    )
    ((ids, thought),) = memory.kept
    assert (ids, thought.text) == (("c1", "c2"), b"why")


def test_items_of_no_concern_are_skipped() -> None:
    found = of(
        CREATED,
        added({"type": "web_search_call", "id": "ws", "status": "searching"}),
        {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws"},
        done({"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search"}}),
        {"type": "response.output_text.annotation.added", "annotation": {"x": 1}, "output_index": 1},
        {"type": "brand.new", "delta": {"deep": 1}, "output_index": "odd"},
        done(message("x"), 1),
        COMPLETED,
    )
    assert [type(event) for event in found] == [Start, Open, Delta, Close, Usage, Finish]


@pytest.mark.parametrize(
    ("end", "finish"),
    [
        (
            {
                "type": "response.incomplete",
                "response": {"incomplete_details": {"reason": "max_output_tokens"}},
            },
            "length",
        ),
        (
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}},
            "refusal",
        ),
        ({"type": "response.completed", "response": {"status": "incomplete"}}, "length"),
    ],
)
def test_incomplete_answers_say_why_and_cut_what_is_open(end: dict[str, Any], finish: str) -> None:
    found = of(CREATED, added(call("")), {"type": ARGUMENTS_DELTA, "output_index": 0, "delta": '{"a'}, end)
    assert isinstance(last := found[-1], Finish)
    assert last.reason == finish
    assert found[-2] == Close(complete=False)


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "rate_limit_exceeded", "message": "x"}},
            },
            "rate",
            "x",
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "1305", "message": "x"}}},
            "overloaded",
            "x",
        ),
        ({"type": "response.failed", "response": {"status": "failed", "error": None}}, "upstream", "why"),
        ({"type": "error", "code": "context_length_exceeded", "message": "long"}, "context", "long"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "overloaded", "busy"),
        ({"type": "error", "error": {"type": "server_error", "message": "m"}, "item": 5}, "upstream", "m"),
    ],
)
def test_every_spelling_of_a_failure_ends_the_answer(end: dict[str, Any], code: str, message: str) -> None:
    found = of(CREATED, text_delta("a"), end, done(call()), COMPLETED)
    assert isinstance(last := found[-1], Fail)
    assert last.failure.code == code
    assert message in last.failure.message
    assert Close() not in found


def test_an_error_without_type_is_a_failure() -> None:
    (start, fail) = decode(stream(CREATED) + b'data: {"error":{"message":"no","code":"1305"}}\n\n')
    assert isinstance(start, Start)
    assert isinstance(fail, Fail)
    assert fail.failure.code == "overloaded"


@pytest.mark.parametrize(
    "data", [b"", stream(CREATED, text_delta("a")), stream(CREATED) + b"data: [DONE]\n\n"]
)
def test_a_stream_without_its_end_is_truncated(data: bytes) -> None:
    assert isinstance(last := decode(data)[-1], Fail)
    assert last.failure.code == "truncated"
    assert last.failure.retryable


def test_what_follows_the_end_is_ignored() -> None:
    whole = stream(CREATED, text_delta("a"), COMPLETED)
    decoder = Decoder(dialect=DIALECT, tools=TOOLS)
    events = decoder.feed(whole + stream(done(call()), COMPLETED) + b"data: [DONE]\n\n")
    assert decoder.finished
    assert isinstance(events[-1], Finish)
    assert decoder.feed(stream(COMPLETED)) == decoder.eof() == []


def test_signs_of_life_are_passed_on() -> None:
    assert of(CREATED, {"type": "response.in_progress", "response": {"id": "r"}}, COMPLETED)[1] == Ping()


def test_almost_json_is_mended_and_what_is_none_ends_the_turn() -> None:
    lone = b'data: {"type":"response.output_text.delta","output_index":0,"delta":"x\\ud83d"}\n\n'
    assert Delta("x\ufffd".encode()) in decode(stream(CREATED) + lone + stream(COMPLETED))
    assert isinstance(decode(stream(CREATED) + b"data: {bad\n\n" + stream(COMPLETED))[-1], Fail)


def test_counts_in_another_shape_cost_only_the_counts() -> None:
    odd = {"type": "response.completed", "response": {"usage": {"input_tokens": "many"}}}
    assert [type(event) for event in of(CREATED, text_delta("a"), odd)] == [Start, Open, Delta, Close, Finish]


def test_a_whole_answer_gives_the_same_events_as_its_stream() -> None:
    response = COMPLETED["response"]
    assert isinstance(response, dict)
    body = {**response, "model": "gpt", "output": [message("x"), call('{"a":1}')]}
    whole = decode_body(json.dumps(body).encode(), dialect=DIALECT, tools=TOOLS)
    streamed = of(CREATED, done(message("x"), 0), done(call('{"a":1}'), 1), COMPLETED)
    assert whole == streamed


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"code":"1305","message":"x"}}', "overloaded"),
        (b'{"status":"failed","error":{"code":"rate_limit_exceeded","message":"x"},"output":[]}', "rate"),
        (b"<html>", "upstream"),
        (b"", "upstream"),
        (b"[]", "upstream"),
        (b'{"output":[{"type":"message","id":5}]}', "upstream"),
    ],
)
def test_a_whole_answer_that_is_an_error_fails(body: bytes, code: str) -> None:
    (*_, last) = decode_body(body, dialect=DIALECT, tools=TOOLS)
    assert isinstance(last, Fail)
    assert last.failure.code == code


SAMPLE = stream(
    CREATED,
    added({"type": "reasoning", "id": "rs", "summary": []}, 0),
    {
        "type": "response.reasoning_summary_text.delta",
        "output_index": 0,
        "summary_index": 0,
        "delta": "thé\u2028",
    },
    done({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "E"}, 0),
    added(message(""), 1),
    text_delta("hé 世 😀", output_index=1),
    done(message("hé 世 😀"), 1),
    added(call("", name="apply_patch"), 2),
    {"type": ARGUMENTS_DELTA, "output_index": 2, "delta": '{"input":"a'},
    {"type": ARGUMENTS_DELTA, "output_index": 2, "delta": '\\nb"}'},
    done(call('{"input":"a\\nb"}', name="apply_patch"), 2),
    COMPLETED,
).replace(b"\n", b"\r\n")


@settings(max_examples=80, deadline=None)
@given(cuts=st.lists(st.integers(1, len(SAMPLE) - 1), max_size=30).map(tuple))
def test_any_chunking_gives_the_same_events(cuts: tuple[int, ...]) -> None:
    assert decode(SAMPLE, cuts=cuts) == decode(SAMPLE)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_damage_gives_one_terminal_event_and_no_exception(data: st.DataObject) -> None:
    broken = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(broken) - 1))
        length = data.draw(st.integers(0, 40))
        broken[at : at + length] = data.draw(st.binary(max_size=8) | st.just(SAMPLE[at : at + 30]))
        if not broken:
            break
    events = decode(bytes(broken))
    ends = [event for event in events if isinstance(event, Finish | Fail)]
    assert len(ends) == 1
    assert events[-1] is ends[0]
    depth = 0
    for event in events:
        if isinstance(event, Open):
            depth += 1
        elif isinstance(event, Close):
            depth -= 1
        elif isinstance(event, Delta):
            assert depth == 1
        assert depth in (0, 1)

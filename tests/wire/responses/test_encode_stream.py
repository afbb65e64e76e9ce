"""Answers written for Responses clients: always legal, whatever is said in whatever pieces."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.wire import envelope
from dragoman.wire.errors import FailureCode, failure
from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Fail,
    Finish,
    FinishReason,
    Open,
    Ping,
    ReasoningBlock,
    Start,
    TextBlock,
    Usage,
)
from dragoman.wire.responses import compaction
from dragoman.wire.responses.encode_stream import Encoder, encode_body
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Carrier, Request, Text, User, plain, raw

Check = Callable[[bytes], Any]

REQUEST = Request(wire="responses", model="glm-5.2[1m]")


def encoder(request: Request = REQUEST) -> Encoder:
    return Encoder(request, ToolTable(), "abc123", 1_700_000_000)


def said(*events: Event) -> bytes:
    return encoder().feed([Start("up", "m-up"), *events])


def text_block(*pieces: str) -> list[Event]:
    return [Open(TextBlock()), *(Delta(raw(piece)) for piece in pieces), Close()]


def call_block(block: CallBlock, *pieces: str, complete: bool = True) -> list[Event]:
    return [Open(block), *(Delta(raw(piece)) for piece in pieces), Close(complete=complete)]


def test_a_message_is_announced_told_in_deltas_and_done(check_stream: Check) -> None:
    stream = said(
        *text_block("o", "k"), Usage(input_tokens=3, output_tokens=2, cache_read_tokens=1), Finish("end")
    )
    checked = check_stream(stream)
    assert [part["text"] for part in checked.done[0]["content"]] == ["ok"]
    response = checked.terminal["response"]
    assert response["model"] == "glm-5.2[1m]"
    assert response["id"] == "resp_abc123"
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }
    assert [
        json.loads(line[6:])["delta"] for line in stream.split(b"\n") if b'output_text.delta","' in line
    ] == [
        "o",
        "k",
    ]


def test_reasoning_is_shown_as_summary_and_sealed_whole(check_stream: Check) -> None:
    carrier = Carrier(kind="reasoning_content", realm="deepseek", model="m")
    checked = check_stream(
        said(Open(ReasoningBlock()), Delta(b"th"), Delta(b"ink"), Close((carrier,)), Finish("end"))
    )
    item = checked.done[0]
    assert item["summary"] == [{"type": "summary_text", "text": "think"}]
    found = envelope.unwrap(item["encrypted_content"])
    assert found is not None
    assert (found.text, found.carriers) == (b"think", (carrier,))


def test_redacted_reasoning_has_an_empty_summary_and_its_seal(check_stream: Check) -> None:
    carrier = Carrier(kind="redacted", data="OPAQUE", realm="anthropic")
    item = check_stream(said(Open(ReasoningBlock()), Close((carrier,)), Finish("end"))).done[0]
    assert item["summary"] == []
    found = envelope.unwrap(item["encrypted_content"])
    assert found is not None
    assert found.carriers == (carrier,)


def test_a_namespaced_call_keeps_namespace_and_name_apart(check_stream: Check) -> None:
    block = CallBlock("c1", "ro_echo", "mcp__probe")
    item = check_stream(said(*call_block(block, '{"a":', "1}"), Finish("tool_use"))).done[0]
    assert (item["namespace"], item["name"], item["arguments"]) == ("mcp__probe", "ro_echo", '{"a":1}')


def test_a_freeform_call_is_a_custom_tool_call_with_its_text(check_stream: Check) -> None:
    block = CallBlock("c%1", "apply_patch", None, "freeform")
    stream = said(*call_block(block, "*** Begin\n", "+é\u2028"), Finish("tool_use"))
    item = check_stream(stream).done[0]
    assert (item["type"], item["call_id"], item["input"]) == (
        "custom_tool_call",
        "c%1",
        "*** Begin\n+é\u2028",
    )
    assert b"function_call_arguments" not in stream


def test_a_call_without_arguments_gets_an_empty_object_and_a_freeform_one_stays_empty(
    check_stream: Check,
) -> None:
    checked = check_stream(
        said(
            *call_block(CallBlock("a", "f")),
            *call_block(CallBlock("b", "g", None, "freeform")),
            Finish("end"),
        )
    )
    assert checked.done[0]["arguments"] == "{}"
    assert checked.done[1]["input"] == ""


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ('{"command":["ls","-a"],"timeout_ms":5}', ["ls", "-a"]),
        ('{"command":"ls -a"}', ["bash", "-lc", "ls -a"]),
        ('{"command":', []),
    ],
)
def test_a_local_shell_call_carries_an_action(
    check_stream: Check, arguments: str, command: list[str]
) -> None:
    block = CallBlock("c", "local_shell", None, "local_shell")
    item = check_stream(said(*call_block(block, arguments), Finish("tool_use"))).done[0]
    assert item["action"]["command"] == command


def test_a_tool_search_call_carries_an_object(check_stream: Check) -> None:
    block = CallBlock("c", "tool_search", None, "tool_search")
    item = check_stream(said(*call_block(block, '{"query":"q"}'), Finish("tool_use"))).done[0]
    assert (item["type"], item["execution"], item["arguments"]) == (
        "tool_search_call",
        "client",
        {"query": "q"},
    )


def test_malformed_arguments_pass_as_they_are(check_stream: Check) -> None:
    item = check_stream(said(*call_block(CallBlock("c", "f"), '{"p":"a'), Finish("tool_use"))).done[0]
    assert item["arguments"] == '{"p":"a'


def test_a_length_stop_is_incomplete_and_a_cut_call_never_done(check_stream: Check) -> None:
    checked = check_stream(
        said(*text_block("a"), *call_block(CallBlock("c", "f"), '{"p":', complete=False), Finish("length"))
    )
    assert checked.terminal["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["type"] for item in checked.done] == ["message"]


def test_several_cut_calls_have_places_of_their_own(check_stream: Check) -> None:
    events = [event for name in "abc" for event in call_block(CallBlock(name, "f"), "{", complete=False)]
    assert check_stream(said(*events, Finish("length"))).done == []


@pytest.mark.parametrize(
    ("finish", "code"),
    [(Finish("refusal", "sensitive"), "invalid_prompt"), (Finish("context"), "context_length_exceeded")],
)
def test_what_must_not_be_repeated_fails_for_good(check_stream: Check, finish: Finish, code: str) -> None:
    checked = check_stream(said(*text_block("a"), finish))
    assert checked.terminal["type"] == "response.failed"
    assert checked.terminal["response"]["error"]["code"] == code


def test_a_failure_in_the_middle_never_finishes_the_open_call(check_stream: Check) -> None:
    checked = check_stream(
        said(
            *call_block(CallBlock("c1", "f"), '{"a":1}'),
            Open(CallBlock("c2", "g")),
            Delta(b'{\\"b\\":'),
            Fail(failure("upstream", "broke")),
        )
    )
    assert [item["call_id"] for item in checked.done] == ["c1"]
    assert checked.terminal["response"]["error"] == {"code": "server_error", "message": "broke"}


def test_after_the_end_nothing_is_written(check_stream: Check) -> None:
    writer = encoder()
    stream = writer.feed([Start(), *text_block("a"), Finish("end"), *text_block("b"), Finish("end")])
    assert writer.feed(text_block("late")) == b""
    assert writer.keep_alive() == b""
    assert writer.fail(failure("upstream", "late")) == b""
    assert len(check_stream(stream).done) == 1


def test_keep_alives_are_real_events_at_any_time(check_stream: Check) -> None:
    writer = encoder()
    stream = writer.keep_alive() + writer.keep_alive()
    assert b"response.in_progress" in stream
    for event in [Start(), *text_block("a", "b"), *call_block(CallBlock("c", "f"), "{}"), Finish("tool_use")]:
        stream += writer.feed([event]) + writer.keep_alive()
    assert [item["type"] for item in check_stream(stream).done] == ["message", "function_call"]


def test_a_failure_before_any_word_is_a_whole_stream(check_stream: Check) -> None:
    checked = check_stream(encoder().fail(failure("overloaded", "busy")))
    assert checked.terminal["response"]["error"]["code"] == "server_is_overloaded"


def test_empty_blocks_leave_no_item(check_stream: Check) -> None:
    checked = check_stream(
        said(Open(TextBlock()), Close(), Open(ReasoningBlock()), Close(), Ping(), Finish("end"))
    )
    assert checked.done == []
    assert checked.terminal["type"] == "response.completed"


def test_a_compaction_is_answered_with_exactly_one_item(check_stream: Check) -> None:
    request = Request(wire="responses", model="m", turns=(User(parts=(Text(b"hi"),)), compaction.trigger()))
    stream = encoder(request).feed(
        [Start(), Open(ReasoningBlock()), Delta(b"hm"), Close(), *text_block("the ", "sum"), Finish("end")]
    )
    (item,) = check_stream(stream).done
    assert item["type"] == "compaction"
    summary = compaction.unwrap(item["encrypted_content"])
    assert summary == User(parts=(Text(compaction.HEADING + b"the sum"),))


def test_the_whole_answer_is_the_fold_of_the_same_events() -> None:
    events = [
        *text_block("a"),
        *call_block(CallBlock("c", "f"), "{}"),
        Usage(output_tokens=1),
        Finish("tool_use"),
    ]
    body = json.loads(
        encode_body(events, request=REQUEST, tools=ToolTable(), response_id="abc123", created_at=5)
    )
    assert body["status"] == "completed"
    assert [item["type"] for item in body["output"]] == ["message", "function_call"]
    cut = encode_body(
        [*text_block("a"), Finish("refusal")],
        request=REQUEST,
        tools=ToolTable(),
        response_id="x",
        created_at=5,
    )
    assert json.loads(cut)["incomplete_details"] == {"reason": "content_filter"}


# --- whatever is said

texts = st.lists(st.text(max_size=12), max_size=4).map(lambda pieces: [Delta(raw(p)) for p in pieces if p])
carriers = st.lists(
    st.builds(
        Carrier,
        kind=st.sampled_from(["signature", "encrypted", "reasoning_content"]),
        data=st.text(max_size=5),
        realm=st.text(max_size=5),
    ),
    max_size=2,
).map(tuple)
names = st.text("abz_-", min_size=1, max_size=8)
calls = st.builds(
    CallBlock,
    id=st.text(min_size=1, max_size=8),
    name=names,
    namespace=st.none() | names,
    kind=st.sampled_from(["function", "freeform", "local_shell", "tool_search"]),
)
blocks = st.one_of(
    texts.map(lambda deltas: [Open(TextBlock()), *deltas, Close()]),
    st.builds(lambda deltas, c: [Open(ReasoningBlock()), *deltas, Close(c)], texts, carriers),
    st.builds(lambda block, deltas: [Open(block), *deltas, Close()], calls, texts),
)
cut_blocks = st.builds(
    lambda block, deltas: [Open(block), *deltas, Close(complete=False)],
    st.one_of(st.just(TextBlock()), st.just(ReasoningBlock()), calls),
    texts,
)
ends = st.one_of(
    st.sampled_from(get_args(FinishReason)).map(lambda r: [Finish(r)]),
    cut_blocks.map(lambda block: [*block, Finish("length")]),
    st.sampled_from(get_args(FailureCode)).map(lambda code: [Fail(failure(code, "why"))]),
    st.builds(lambda block: [*block[:-1], Fail(failure("upstream", "cut"))], blocks),
)
usages = st.lists(
    st.builds(Usage, input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9)), max_size=1
)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """A whole answer in the order decoders promise."""
    body: list[Event] = [event for block in draw(st.lists(blocks, max_size=4)) for event in block]
    whole = [Start("r", "m"), *body, *draw(usages), *draw(ends)]
    for place in draw(st.lists(st.integers(1, len(whole) - 1), max_size=2)):
        whole.insert(place, Ping())
    return whole


@settings(max_examples=80, deadline=None)
@given(events=answers(), cuts=st.lists(st.integers(0, 40), max_size=5))
def test_every_answer_is_a_legal_stream_in_any_batches(
    events: list[Event], cuts: list[int], check_stream: Check
) -> None:
    whole = encoder().feed(events)
    checked = check_stream(whole)
    edges = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    pieces = encoder()
    assert b"".join(pieces.feed(events[a:b]) for a, b in itertools.pairwise(edges)) == whole
    if checked.terminal["type"] == "response.completed":
        body = encode_body(
            events, request=REQUEST, tools=ToolTable(), response_id="abc123", created_at=1_700_000_000
        )
        assert json.loads(body) == checked.terminal["response"]


@settings(max_examples=80, deadline=None)
@given(events=answers())
def test_no_word_is_lost(events: list[Event], check_stream: Check) -> None:
    checked = check_stream(encoder().feed(events))
    told = [
        (type(block), b"".join(e.text for e in inner if isinstance(e, Delta)))
        for block, inner, close in _groups(events)
        if close is not None and (close.complete or not isinstance(block, CallBlock))
    ]
    texts_told = [plain(text) for kind, text in told if kind is TextBlock and text]
    assert [item["content"][0]["text"] for item in checked.done if item["type"] == "message"] == texts_told
    assert sum(kind is CallBlock for kind, _ in told) == sum(
        i["type"].endswith("_call") for i in checked.done
    )


def _groups(events: list[Event]) -> list[tuple[Any, list[Event], Close | None]]:
    out: list[tuple[Any, list[Event], Close | None]] = []
    for event in events:
        if isinstance(event, Open):
            out.append((event.block, [], None))
        elif isinstance(event, Close):
            block, inner, _ = out.pop()
            out.append((block, inner, event))
        elif out and isinstance(event, Delta):
            out[-1][1].append(event)
    return out

"""What must hold for every conversation and every answer on the Responses wire, whatever is in it."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meaning import meaning, system_text
from responses_checker import Checker, check_responses_request
from strategies import REALM, TOOLS, broken_conversations, chunks_of, conversations, cuts, streams

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import failure
from dragoman.wire.events import CallBlock, Close, Delta, Event, Fail, Finish, Open, ReasoningBlock, TextBlock
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import (
    Call,
    Reasoning,
    Request,
    Text,
    plain,
)

REQUEST = Request(wire="responses", model="asked", stream=True)
KEEPER = Dialect(realm=REALM, reasoning_replay="always", item_ids=True, valid_arguments=False)


def encoded(events: list[Event]) -> bytes:
    encoder = translate.stream_encoder(
        "responses", request=REQUEST, tools=ToolTable(), response_id="r", created_at=1
    )
    return encoder.feed(events)


def decoded(pieces: list[bytes], dialect: Dialect = KEEPER) -> list[Event]:
    decoder = translate.stream_decoder("responses", dialect=dialect, tools=ToolTable())
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.eof()


def said(events: list[Event]) -> list[tuple[object, str]]:
    """Blocks with their whole text; blocks without words and reasoning without carriers leave no trace."""
    out: list[tuple[object, str]] = []
    block: object = None
    texts: list[bytes] = []
    for event in events:
        match event:
            case Open(block):
                texts = []
            case Delta(text):
                texts.append(text)
            case Close():
                text = plain(b"".join(texts))
                if isinstance(block, CallBlock):
                    out.append((block, text or "{}"))
                elif text or (isinstance(block, ReasoningBlock) and event.carriers):
                    out.append((block, text))
            case _:
                pass
    return out


@given(events=streams(tools=TOOLS))
@settings(max_examples=50, deadline=None)
def test_every_answer_is_a_legal_stream(events: list[Event]) -> None:
    Checker(encoded(events))


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_every_prefix_of_a_stream_that_then_fails_is_legal(data: st.DataObject) -> None:
    events = data.draw(streams(tools=TOOLS))
    upto = data.draw(st.integers(0, len(events) - 1))
    checked = Checker(encoded([*events[:upto], Fail(failure("truncated", "cut"))]))
    assert checked.terminal["type"] == "response.failed"


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_stream_cut_anywhere_gives_the_same_events(data: st.DataObject) -> None:
    stream = encoded(data.draw(streams()))
    assert decoded(chunks_of(stream, data.draw(cuts(len(stream))))) == decoded([stream])


@given(events=streams())
@settings(max_examples=50, deadline=None)
def test_an_answer_is_decoded_to_what_was_said(events: list[Event]) -> None:
    got = decoded([encoded(events)])
    assert said(got) == said(events)
    meant = events[-1]
    assert isinstance(meant, Finish)
    if meant.reason == "refusal":
        assert isinstance(got[-1], Fail)
    else:
        assert isinstance(got[-1], Finish)
        assert got[-1].reason == meant.reason
        assert events[-2] in got


@given(events=streams())
@settings(max_examples=50, deadline=None)
def test_a_client_keeps_an_answer_and_gives_it_back_whole(events: list[Event]) -> None:
    items = Checker(encoded(events)).done
    body = {"model": "m", "input": [{"role": "user", "content": "hi"}, *items]}
    turns = translate.decode_request("responses", json.dumps(body).encode()).turns
    assert len(turns) <= 2
    parts = turns[1].parts if len(turns) == 2 else ()
    blocks: list[tuple[object, str]] = []
    for part in parts:
        match part:
            case Text():
                blocks.append((TextBlock(), plain(part.text)))
            case Reasoning():
                blocks.append((ReasoningBlock(), plain(part.text)))
            case Call():
                blocks.append((CallBlock(part.id, part.name), plain(part.arguments)))
            case _:
                pytest.fail(f"{part}")
    assert blocks == said(events)
    assert [part.carriers for part in parts if isinstance(part, Reasoning)] == [
        event.carriers for event in events if isinstance(event, Close) and event.carriers
    ]


@given(request=broken_conversations())
@settings(max_examples=50, deadline=None)
def test_any_conversation_becomes_a_legal_request(request: Request) -> None:
    found = translate.encode_request(
        "responses", request, model="up", dialect=Dialect(realm=REALM), stream=True
    )
    check_responses_request(json.loads(found.body))


@pytest.mark.parametrize("native", [False, True])
@given(request=conversations(reasoning=False, notes=True))
@settings(max_examples=50, deadline=None)
def test_a_request_there_and_back_says_the_same(native: bool, request: Request) -> None:
    dialect = msgspec.structs.replace(KEEPER, freeform_tools=native)
    found = translate.encode_request("responses", request, model="up", dialect=dialect, stream=True)
    check_responses_request(json.loads(found.body))
    back = translate.decode_request("responses", found.body)
    assert system_text(back) == system_text(request)
    assert meaning(back, "responses") == meaning(request, "responses", found.tools)
    assert [(t.name, t.kind) for t in back.tools] == [
        (entry.upstream_name, "freeform" if native and entry.tool.kind == "freeform" else "function")
        for entry in found.tools.entries
    ]


def test_the_answer_to_a_freeform_call_fits_it_whichever_client_gave_it() -> None:
    custom = {"id": "c1", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin Patch"}}
    asked = {
        "model": "m",
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [custom]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ],
    }
    request = translate.decode_request("chat", json.dumps(asked).encode())
    dialect = msgspec.structs.replace(KEEPER, freeform_tools=True)
    sent = translate.encode_request("responses", request, model="up", dialect=dialect, stream=True)
    kinds = [item["type"] for item in json.loads(sent.body)["input"]]
    assert kinds == ["message", "custom_tool_call", "custom_tool_call_output"]

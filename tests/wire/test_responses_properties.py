"""What must hold for every conversation and every answer on the Responses wire, whatever is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from responses_checker import Checker, check_responses_request
from strategies import REALM, broken_conversations, chunks_of, conversations, cuts, streams

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import failure
from dragoman.wire.events import CallBlock, Close, Delta, Event, Fail, Finish, Open, ReasoningBlock, TextBlock
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import (
    Assistant,
    Call,
    Note,
    Part,
    Reasoning,
    Request,
    Result,
    Text,
    Turn,
    User,
    plain,
    raw,
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


@given(events=streams())
@settings(max_examples=50, deadline=None)
def test_every_answer_is_a_legal_stream(events: list[Event]) -> None:
    Checker(encoded(events))


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_every_prefix_of_a_stream_that_then_fails_is_legal(data: st.DataObject) -> None:
    events = data.draw(streams())
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


@given(request=conversations(reasoning=False, notes=True))
@settings(max_examples=50, deadline=None)
def test_a_request_there_and_back_says_the_same(request: Request) -> None:
    found = translate.encode_request("responses", request, model="up", dialect=KEEPER, stream=True)
    back = translate.decode_request("responses", found.body)
    assert joined(back.system) == joined(request.system)
    assert flat(back.turns) == flat(request.turns)
    assert [(t.name, t.description, t.schema) for t in back.tools] == [
        (t.name, t.description, t.schema) for t in request.tools
    ]


def joined(texts: tuple[Text, ...]) -> str:
    return "\n\n".join(plain(text.text) for text in texts)


def flat(turns: tuple[Turn, ...]) -> list[tuple[Any, ...]]:
    """Everything said, in order."""
    out: list[tuple[Any, ...]] = []
    for turn in turns:
        match turn:
            case User():
                out += [("result", result.call_id, words(result)) for result in turn.results]
                out += [("user", *part_of(part)) for part in turn.parts]
            case Assistant():
                out += [("assistant", *part_of(part)) for part in turn.parts]
            case Note():
                out += [("note", plain(part.text)) for part in turn.parts]
    return out


def words(result: Result) -> Any:
    """What a result says; texts alone are one text."""
    if all(isinstance(part, Text) for part in result.parts):
        return plain(raw("\n\n").join(part.text for part in result.parts if isinstance(part, Text)))
    return [part_of(part) for part in result.parts]


def part_of(part: Part | Any) -> tuple[Any, ...]:
    if isinstance(part, Text):
        return ("text", plain(part.text))
    if isinstance(part, Call):
        return ("call", part.id, part.name, plain(part.arguments) or "{}")
    return (type(part).__name__, part.media_type, part.data)

"""What must hold for every conversation and every stream, whatever is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkers import ChatAnswer, MessagesAnswer, check_chat_request, check_messages_request
from hypothesis import given, settings
from hypothesis import strategies as st
from meaning import meaning, system_text
from reading_back import chat_history, messages_history
from rendering import chat_stream, messages_stream
from strategies import (
    REALM,
    TOOLS,
    broken_conversations,
    chunks_of,
    conversations,
    cuts,
    streams,
)

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import failure
from dragoman.wire.events import CallBlock, Close, Delta, Event, Fail, Finish, Open, ReasoningBlock, TextBlock
from dragoman.wire.tools import ToolTable, arguments_text
from dragoman.wire.turns import (
    Assistant,
    Call,
    Note,
    Reasoning,
    Request,
    Text,
    User,
    Wire,
    plain,
)

RENDER = {"chat": chat_stream, "messages": messages_stream}
KEEPER = Dialect(
    realm=REALM,
    reasoning_replay="always",
    foreign_reasoning="text",
    unsigned_thinking=True,
    late_system=True,
    tool_images=True,
)


def feed_all(wire: Wire, chunks: list[bytes], dialect: Dialect = KEEPER) -> list[Event]:
    decoder = translate.stream_decoder(wire, dialect=dialect, tools=ToolTable(), id_seed="seed")
    events: list[Event] = []
    for chunk in chunks:
        events += decoder.feed(chunk)
    events += decoder.eof()
    assert decoder.finished
    return events


def said(events: list[Event]) -> list[tuple[object, str]]:
    """Blocks with their whole text."""
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
                out.append((block, plain(b"".join(texts))))
            case _:
                pass
    return out


@pytest.mark.parametrize("wire", ["chat", "messages"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_stream_cut_anywhere_gives_the_same_events(wire: Wire, data: st.DataObject) -> None:
    stream = RENDER[wire](data.draw(streams()))
    whole = feed_all(wire, [stream])
    assert feed_all(wire, chunks_of(stream, data.draw(cuts(len(stream))))) == whole


@pytest.mark.parametrize("wire", ["chat", "messages"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_stream_is_decoded_to_what_the_upstream_said(wire: Wire, data: st.DataObject) -> None:
    meant = data.draw(streams())
    got = feed_all(wire, [RENDER[wire](meant)])
    assert said(got) == said(meant)
    assert got[-1] == Finish(meant[-1].reason, got[-1].raw)  # type: ignore[union-attr]
    assert meant[-2] in got


@pytest.mark.parametrize("wire", ["chat", "messages"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_kind_of_call_comes_back_as_it_was_declared(wire: Wire, data: st.DataObject) -> None:
    meant = data.draw(streams(tools=TOOLS))
    table = ToolTable(TOOLS, dialect=KEEPER, wire=wire)
    stream = RENDER[wire](meant, table)
    decoder = translate.stream_decoder(wire, dialect=KEEPER, tools=table, id_seed="seed")
    events = [
        event for chunk in chunks_of(stream, data.draw(cuts(len(stream)))) for event in decoder.feed(chunk)
    ]
    assert said([*events, *decoder.eof()]) == said(meant)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_messages_client_keeps_an_answer_and_gives_it_back_whole(data: st.DataObject) -> None:
    meant = data.draw(streams())
    answer = MessagesAnswer(encoded("messages", meant))
    assert answer.error is None
    parts = decoded_assistant("messages", messages_history(answer))
    assert as_parts(parts) == as_meant(meant)
    assert [p.carriers for p in parts if isinstance(p, Reasoning)] == [
        close.carriers for close in meant if isinstance(close, Close) and close.carriers
    ]


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_chat_client_keeps_an_answer_and_gives_it_back(data: st.DataObject) -> None:
    meant = data.draw(streams())
    answer = ChatAnswer(encoded("chat", meant))
    parts = decoded_assistant("chat", chat_history(answer))
    kept = as_parts(parts)
    wanted = as_meant(meant)
    for kind in ("text", "reasoning"):
        assert "".join(t for k, t in kept if k == kind) == "".join(t for k, t in wanted if k == kind)
    assert [part for part in kept if part[0] == "call"] == [part for part in wanted if part[0] == "call"]


@pytest.mark.parametrize(("wire", "judge"), [("chat", ChatAnswer), ("messages", MessagesAnswer)])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_prefix_of_a_stream_that_then_fails_is_legal(
    wire: Wire, judge: Any, data: st.DataObject
) -> None:
    events = data.draw(streams())
    upto = data.draw(st.integers(0, len(events) - 1))
    broken = [*events[:upto], Fail(failure("truncated", "cut"))]
    answer = judge(encoded(wire, broken))
    assert answer.error is not None


@pytest.mark.parametrize("wire", ["chat", "messages"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_body_says_what_the_stream_says(wire: Wire, data: st.DataObject) -> None:
    events = data.draw(streams())
    request = Request(wire=wire, model="asked", stream=False)
    body = json.loads(
        translate.encode_body(wire, events, request=request, tools=ToolTable(), response_id="r", created_at=1)
    )
    if wire == "messages":
        streamed = MessagesAnswer(encoded("messages", events))
        assert body["stop_reason"] == streamed.stop_reason
        assert body["usage"] == streamed.usage
        folded = messages_history(streamed)["content"]
        assert body["content"] == folded
    else:
        streamed = ChatAnswer(encoded("chat", events))
        choice = body["choices"][0]
        assert choice["finish_reason"] == streamed.finish_reason
        assert (choice["message"]["content"] or "") == streamed.text
        assert choice["message"].get("reasoning_content", "") == streamed.reasoning


@given(request=conversations())
@settings(max_examples=25, deadline=None)
def test_a_request_there_and_back_over_messages_says_the_same(request: Request) -> None:
    back = translate.decode_request("messages", encode("messages", request))
    table = ToolTable(request.tools, dialect=KEEPER, wire="messages")
    assert system_text(back) == system_text(request)
    assert meaning(back, "messages") == meaning(request, "messages", table)
    assert [tool.name for tool in back.tools] == [entry.upstream_name for entry in table.entries]


@given(request=conversations(reasoning=False))
@settings(max_examples=25, deadline=None)
def test_a_request_there_and_back_over_chat_says_the_same(request: Request) -> None:
    body = json.loads(encode("chat", request))
    back = translate.decode_request("chat", json.dumps(body).encode())
    table = ToolTable(request.tools, dialect=KEEPER, wire="chat")
    assert system_text(back) == system_text(request)
    assert meaning(back, "chat") == meaning(request, "chat", table)
    assert [tool.name for tool in back.tools] == [entry.upstream_name for entry in table.entries]


@given(request=broken_conversations())
@settings(max_examples=25, deadline=None)
def test_any_conversation_becomes_a_legal_chat_request(request: Request) -> None:
    check_chat_request(json.loads(encode("chat", request, Dialect(realm=REALM))))


@given(request=broken_conversations())
@settings(max_examples=25, deadline=None)
def test_any_conversation_becomes_a_legal_messages_request(request: Request) -> None:
    check_messages_request(json.loads(encode("messages", request, Dialect(realm=REALM))))


@pytest.mark.parametrize("wire", ["chat", "messages", "responses"])
@given(request=conversations(notes=True), upto=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_a_request_is_a_prefix_of_its_continuation(wire: Wire, request: Request, upto: int) -> None:
    users = [i for i, turn in enumerate(request.turns) if isinstance(turn, User)]
    end = users[min(upto, len(users) - 1)] + 1
    shorter = Request(**{**fields_of(request), "turns": request.turns[:end]})
    dialect = Dialect(realm=REALM, reasoning_replay="always")
    short, long = (encode(wire, found, dialect).rstrip(b"]}") for found in (shorter, request))
    if end < len(request.turns) and isinstance(request.turns[end], Note):
        return  # a note right after user words joins them
    assert long.startswith(short)


def encoded(wire: Wire, events: list[Event]) -> bytes:
    request = Request(wire=wire, model="asked", stream=True, include_usage=True)
    encoder = translate.stream_encoder(
        wire, request=request, tools=ToolTable(), response_id="r", created_at=1
    )
    return encoder.feed(events)


def encode(wire: Wire, request: Request, dialect: Dialect = KEEPER) -> bytes:
    return translate.encode_request(wire, request, model="up", dialect=dialect, stream=True).body


def fields_of(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__struct_fields__}


def decoded_assistant(wire: Wire, message: dict[str, Any]) -> tuple[Any, ...]:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}, message]}
    turn = translate.decode_request(wire, json.dumps(body).encode()).turns[1]
    assert isinstance(turn, Assistant)
    return turn.parts


def as_parts(parts: tuple[Any, ...]) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for part in parts:
        match part:
            case Text(text):
                out.append(("text", plain(text)))
            case Reasoning():
                out.append(("reasoning", plain(part.text)))
            case Call():
                arguments = json.loads(plain(arguments_text(part)) or "{}")
                out.append(("call", (part.id, part.name, arguments)))
            case _:
                out.append(("?", part))
    return out


def as_meant(events: list[Event]) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for block, text in said(events):
        match block:
            case TextBlock():
                out.append(("text", text))
            case ReasoningBlock():
                out.append(("reasoning", text))
            case _:
                assert isinstance(block, CallBlock)
                out.append(("call", (block.id, block.name, json.loads(text or "{}"))))
    return out

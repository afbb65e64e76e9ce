"""Streams and requests broken at random: nothing but declared errors may come of them, and sound ones among
them must still be understood."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest
from rendering import chat_stream, messages_stream

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import BadRequest
from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Fail,
    Finish,
    Open,
    ReasoningBlock,
    TextBlock,
    Usage,
)
from dragoman.wire.meter import UsageMeter
from dragoman.wire.splice import ModelRewriter
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Reasoning, Recall, Request, Tool, Wire, plain, raw

WIRES: tuple[Wire, ...] = ("chat", "messages", "responses")
TOOLS = ToolTable(
    [Tool(name="Bash"), Tool(name="apply_patch", kind="freeform"), Tool(name="x", namespace="mcp__a")]
)
DIALECT = Dialect(realm="r", error_codes={"1302": "rate"}, think_tags=False)

EVENTS: list[Event] = [
    Open(ReasoningBlock()),
    Delta(raw('let me "see"\n')),
    Close(),
    Open(TextBlock()),
    Delta(raw("hé 世 😀 \u2028")),
    Delta(raw("more")),
    Close(),
    Open(CallBlock("call_1", "Bash")),
    Delta(raw('{"command":')),
    Delta(raw('"ls \\"a\\""}')),
    Close(),
    Open(CallBlock("call_2", "apply_patch")),
    Delta(raw('{"input":"*** Begin Patch"}')),
    Close(),
    Usage(input_tokens=12, output_tokens=5, cache_read_tokens=4),
    Finish("tool_use"),
]
TEXT = "hé 世 😀 \u2028more"


def responses_stream() -> bytes:
    """Written out by hand: the smallest stream with a text and a call."""
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    text = {"type": "output_text", "text": TEXT, "annotations": []}
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "Bash", "arguments": "{}"}
    usage = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
    script = [
        {"type": "response.created", "response": {"id": "resp_1", "model": "up"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**message, "content": []}},
        {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "delta": TEXT},
        {"type": "response.output_item.done", "output_index": 0, "item": {**message, "content": [text]}},
        {"type": "response.output_item.added", "output_index": 1, "item": {**call, "arguments": ""}},
        {
            "type": "response.function_call_arguments.delta",
            "item_id": "fc_1",
            "output_index": 1,
            "delta": "{}",
        },
        {"type": "response.output_item.done", "output_index": 1, "item": call},
        {"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "usage": usage}},
    ]
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e, ensure_ascii=False).encode())  # type: ignore[union-attr]
        for e in script
    )


SOUND: dict[Wire, bytes] = {
    "chat": chat_stream(EVENTS),
    "messages": messages_stream(EVENTS),
    "responses": responses_stream(),
}
TOKENS = [
    b"null", b"{}", b"[]", b'""', b"-1", b"1e999", b"true", b"\xff\xfe", b"\\ud83d", b"\n\n", b"\r", b"data:",
    b"data: [DONE]\n\n", b'"index":', b'"id":null', b'"type":"error"', b"\xef\xbb\xbf",
    b"{" * 40, b"[" * 2000,
    b'{"error":{"code":"1302","message":"slow"}}', b'"tool_calls":[{}]', b"\x00", b"99999999999999999999",
]  # fmt: skip


def damaged(stream: bytes, rng: random.Random) -> bytes:
    """The stream with a few things done to it."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(stream) + 1)
        far = min(len(stream), place + rng.randrange(1, 60))
        match rng.randrange(6):
            case 0:
                stream = stream[:place] + stream[far:]
            case 1:
                stream = stream[:place] + rng.choice(TOKENS) + stream[place:]
            case 2:
                stream = stream[:place] + rng.choice(TOKENS) + stream[far:]
            case 3:
                stream = stream[:place] + stream[place:far] * 2 + stream[far:]
            case 4:
                stream = stream[:place]
            case _:
                flipped = bytes(byte ^ (1 << rng.randrange(8)) for byte in stream[place : place + 1])
                stream = stream[:place] + flipped + stream[place + 1 :]
    return stream


def pieces(stream: bytes, rng: random.Random) -> Iterator[bytes]:
    while stream:
        size = rng.choice((1, 7, 64, 500, 5000))
        yield stream[:size]
        stream = stream[size:]


class Memory:
    """A memory of reasoning that forgets everything."""

    def find(self, call_id: str) -> Reasoning | None:
        return None

    def keep(self, call_ids: object, reasoning: Reasoning) -> None:
        return None


def run_stream(wire: Wire, stream: bytes, rng: random.Random, dialect: Dialect = DIALECT) -> list[Event]:
    """Everything the gateway does with an upstream stream."""
    recall: Recall = Memory()
    decoder = translate.stream_decoder(wire, dialect=dialect, tools=TOOLS, id_seed="s", recall=recall)
    client = rng.choice(WIRES)
    encoder = translate.stream_encoder(
        client, request=Request(wire=client, model="m"), tools=TOOLS, response_id="r", created_at=1
    )
    meter = UsageMeter(wire, dialect=dialect)
    rewriter = ModelRewriter(wire, "m")
    events: list[Event] = []
    for piece in pieces(stream, rng):
        found = decoder.feed(piece)
        events += found
        encoder.feed(found)
        meter.feed(piece)
        rewriter.feed(piece)
    found = decoder.eof()
    events += found
    encoder.feed(found)
    meter.eof()
    rewriter.eof()
    ends = [event for event in events if isinstance(event, Finish | Fail)]
    assert len(ends) == 1, "exactly one end"
    assert events[-1] is ends[0], "and it is the last event"
    assert decoder.finished
    return events


def words(events: list[Event]) -> str:
    """What an answer says to the user."""
    said: list[bytes] = []
    block: object = None
    for event in events:
        if isinstance(event, Open):
            block = event.block
        elif isinstance(event, Delta) and isinstance(block, TextBlock):
            said.append(event.text)
    return plain(b"".join(said))


def fuzz_streams(count: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(count):
        wire = WIRES[number % 3]
        if number % 50 == 0:
            sound = run_stream(wire, SOUND[wire], rng)
            assert isinstance(sound[-1], Finish)
            assert any(isinstance(event, Open) and isinstance(event.block, CallBlock) for event in sound)
            assert words(sound) == TEXT
            continue
        stream = damaged(SOUND[wire], rng)
        try:
            run_stream(wire, stream, rng)
        except Exception as error:
            raise AssertionError(f"{wire} stream of seed {seed}, number {number}: {stream!r}") from error


@pytest.mark.parametrize("seed", range(4))
def test_no_damaged_stream_raises_and_sound_ones_are_understood(seed: int) -> None:
    fuzz_streams(5_000, seed)


@pytest.mark.endurance
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_million_damaged_streams_raise_nothing(seed: int) -> None:
    fuzz_streams(100_000, seed)


REQUESTS: dict[Wire, object] = {
    "messages": {
        "model": "m", "max_tokens": 9, "stream": True, "system": [{"type": "text", "text": "s"}],
        "thinking": {"type": "enabled", "budget_tokens": 2000}, "tool_choice": {"type": "auto"},
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t", "signature": "x"},
                {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "é"}]},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}]}],
        "tools": [{"name": "Bash", "input_schema": {"type": "object"}}],
    },
    "chat": {
        "model": "m", "stream": True, "stop": ["a"], "temperature": 1.0, "tool_choice": "auto",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [
                {"type": "text", "text": "hé"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
            {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "Bash", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "out"}],
        "tools": [{"type": "function", "function": {"name": "Bash", "parameters": {"type": "object"}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    },
    "responses": {
        "model": "m", "stream": True, "instructions": "s", "reasoning": {"effort": "low"},
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hé"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}],
             "encrypted_content": "e"},
            {"type": "function_call", "call_id": "c", "name": "Bash", "arguments": "{\"a\":1}"},
            {"type": "function_call_output", "call_id": "c", "output": "out"}],
        "tools": [{"type": "function", "name": "Bash", "parameters": {"type": "object"}},
                  {"type": "custom", "name": "apply_patch"}],
    },
}  # fmt: skip


def damaged_value(value: object, rng: random.Random) -> object:
    """A JSON value with something in it replaced by something of another type."""
    if rng.random() < 0.02:
        return rng.choice([None, 0, -1, 1.5, "", "x", [], {}, True, [[]], {"type": "x"}, "\ud83d", 10**20])
    if isinstance(value, dict):
        found = {str(key): damaged_value(inner, rng) for key, inner in value.items()}
        if found and rng.random() < 0.1:
            found.pop(rng.choice(list(found)))
        return found
    if isinstance(value, list):
        return [damaged_value(inner, rng) for inner in value]
    return value


def fuzz_requests(count: int, seed: int) -> int:
    rng = random.Random(seed)
    refused = 0
    for number in range(count):
        wire = WIRES[number % 3]
        body = json.dumps(damaged_value(REQUESTS[wire], rng)).encode()
        if number % 5 == 0:
            body = damaged(body, rng)
        try:
            peek = translate.peek_request(wire, body)
            request = translate.decode_request(wire, body)
            for upstream in WIRES:
                json.loads(
                    translate.encode_request(
                        upstream, request, model="u", dialect=DIALECT, stream=peek.stream
                    ).body
                )
            translate.forward_request(wire, body, model="u", dialect=Dialect(checked=True))
        except BadRequest as error:
            refused += error.http_status == 400 and error.path.startswith("$")
        except Exception as error:
            raise AssertionError(f"{wire} request of seed {seed}, number {number}: {body!r}") from error
    return refused


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_request_is_translated_or_refused_with_a_path(seed: int) -> None:
    refused = fuzz_requests(3_000, seed)
    assert 300 < refused < 2_700


@pytest.mark.parametrize("wire", WIRES)
def test_the_undamaged_request_passes(wire: Wire) -> None:
    body = json.dumps(REQUESTS[wire]).encode()
    request = translate.decode_request(wire, body)
    for upstream in WIRES:
        encoded = translate.encode_request(upstream, request, model="u", dialect=DIALECT, stream=True)
        assert b"Bash" in encoded.body

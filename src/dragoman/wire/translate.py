"""The front door of the wire: everything the gateway needs, for any pair of protocols.

A request is decoded to turns, repaired once and encoded for the upstream; the answer is decoded to events
and encoded for the client. Nothing here reads a socket, a file or a clock.

Each wire's folder has four modules with these entry points:

- `decode_request.decode(body) -> Request`
- `encode_request.encode(request, tools, *, model, dialect, limits, stream) -> (body, shims)`
- `decode_stream.Decoder(*, dialect, tools, id_seed, recall)` with `feed`, `eof`, `finished`, and
  `decode_stream.decode_body(body, *, dialect, tools, id_seed, recall) -> list[Event]`
- `encode_stream.Encoder(request, tools, response_id, created_at)` with `feed`, `keep_alive`, `fail`, and
  `encode_stream.encode_body(events, *, request, tools, response_id, created_at) -> bytes`
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from dragoman.wire.adapt import adapt
from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.errors import Failure
from dragoman.wire.events import Event
from dragoman.wire.reading import read, sound
from dragoman.wire.repair import repair
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Recall, Request, Wire

__all__ = [
    "Dialect",
    "EncodedRequest",
    "Limits",
    "Peek",
    "Recall",
    "Request",
    "StreamDecoder",
    "StreamEncoder",
    "ToolTable",
    "Wire",
    "decode_body",
    "decode_request",
    "encode_body",
    "encode_request",
    "peek_request",
    "stream_decoder",
    "stream_encoder",
]


class Peek(msgspec.Struct, frozen=True, gc=False):
    """What routing needs to know of a request."""

    model: str
    stream: bool


class EncodedRequest(msgspec.Struct, frozen=True):
    """A request in the upstream's wire.

    Attributes:
        body: the JSON to send.
        tools: the table that brings calls back to the client's names; give it to the stream's decoder.
        shims: short names of everything that was changed on purpose, for `explain` and logs.
    """

    body: bytes
    tools: ToolTable
    shims: tuple[str, ...] = ()


class StreamDecoder(Protocol):
    """Upstream bytes in, events out, whatever the chunking."""

    finished: bool
    """True once a terminal event was given out; what follows is ignored."""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        ...

    def eof(self) -> list[Event]:
        """The last events, when the upstream closed. A stream without its end becomes `Fail(truncated)`."""
        ...


class StreamEncoder(Protocol):
    """Events in, client bytes out."""

    def feed(self, events: Sequence[Event]) -> bytes:
        """The frames for these events, in one piece."""
        ...

    def keep_alive(self) -> bytes:
        """A frame that shows the client a sign of life."""
        ...

    def fail(self, failure: Failure) -> bytes:
        """The frames that end the stream with a failure."""
        ...


class _Peek(msgspec.Struct):
    model: str
    stream: bool | None = None


_peek = msgspec.json.Decoder(_Peek)


def _half(wire: Wire, name: str) -> Any:
    return importlib.import_module(f"dragoman.wire.{wire}.{name}")


def peek_request(wire: Wire, body: bytes) -> Peek:
    """Read model and stream flag without decoding the rest.

    Raises:
        BadRequest: the body is not JSON, or these two are not what they must be.
    """
    fields = read(_peek, sound(body))
    return Peek(fields.model, bool(fields.stream))


def decode_request(wire: Wire, body: bytes) -> Request:
    """Decode a client's request.

    Raises:
        BadRequest: with the JSON path of what is wrong.
    """
    return _half(wire, "decode_request").decode(sound(body))


def encode_request(
    wire: Wire,
    request: Request,
    *,
    model: str,
    dialect: Dialect,
    stream: bool,
    limits: Limits | None = None,
    recall: Recall | None = None,
) -> EncodedRequest:
    """Write a request for an upstream.

    Args:
        wire: the upstream's wire.
        request: as decoded from the client; it is normalised here.
        model: the upstream's name of the model.
        dialect: the upstream's quirks.
        stream: whether to ask for a stream.
        limits: what the model can take.
        recall: the session's memory of reasoning.

    Raises:
        BadRequest: something in it cannot be said to this upstream at all.
    """
    limits = limits or Limits()
    tools = ToolTable(request.tools, dialect=dialect, wire=wire)
    adapted, shims = adapt(request, wire=wire, dialect=dialect, limits=limits, recall=recall)
    repaired = repair(
        adapted,
        late_system=dialect.late_system or wire == "responses",
        user_turn_required=dialect.user_turn_required,
        billing_header=dialect.billing_header and wire == "messages",
    )
    body, more = _half(wire, "encode_request").encode(
        repaired, tools, model=model, dialect=dialect, limits=limits, stream=stream
    )
    return EncodedRequest(body, tools, (*shims, *more))


def stream_decoder(
    wire: Wire, *, dialect: Dialect, tools: ToolTable, id_seed: str = "", recall: Recall | None = None
) -> StreamDecoder:
    """A decoder for an upstream's stream.

    Args:
        wire: the upstream's wire.
        dialect: the upstream's quirks.
        tools: the table made by `encode_request`.
        id_seed: fresh letters and digits; calls that the upstream left without an id get one made from it.
        recall: the session's memory of reasoning, filled while the answer passes.
    """
    return _half(wire, "decode_stream").Decoder(dialect=dialect, tools=tools, id_seed=id_seed, recall=recall)


def decode_body(
    wire: Wire,
    body: bytes,
    *,
    dialect: Dialect,
    tools: ToolTable,
    id_seed: str = "",
    recall: Recall | None = None,
) -> list[Event]:
    """The events of an upstream's whole JSON answer."""
    return _half(wire, "decode_stream").decode_body(
        body, dialect=dialect, tools=tools, id_seed=id_seed, recall=recall
    )


def stream_encoder(
    wire: Wire, *, request: Request, tools: ToolTable, response_id: str, created_at: int
) -> StreamEncoder:
    """An encoder for a client's stream.

    Args:
        wire: the client's wire.
        request: the client's request: its model name is echoed, its wishes respected.
        tools: the table made by `encode_request`.
        response_id: a fresh id without prefix, letters and digits.
        created_at: Unix seconds.
    """
    return _half(wire, "encode_stream").Encoder(
        request=request, tools=tools, response_id=response_id, created_at=created_at
    )


def encode_body(
    wire: Wire,
    events: Sequence[Event],
    *,
    request: Request,
    tools: ToolTable,
    response_id: str,
    created_at: int,
) -> bytes:
    """A client's whole JSON answer: a fold of the same events. A `Fail` among them is the caller's to turn
    into an error answer (`encode_error`)."""
    return _half(wire, "encode_stream").encode_body(
        events, request=request, tools=tools, response_id=response_id, created_at=created_at
    )

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

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Protocol

import msgspec

from dragoman.wire.adapt import adapt
from dragoman.wire.chat import decode_request as chat_decode_request
from dragoman.wire.chat import decode_stream as chat_decode_stream
from dragoman.wire.chat import encode_request as chat_encode_request
from dragoman.wire.chat import encode_stream as chat_encode_stream
from dragoman.wire.decode_error import decode_error
from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.encode_error import encode_error
from dragoman.wire.errors import Failure
from dragoman.wire.events import Event, Usage
from dragoman.wire.messages import decode_request as messages_decode_request
from dragoman.wire.messages import decode_stream as messages_decode_stream
from dragoman.wire.messages import encode_request as messages_encode_request
from dragoman.wire.messages import encode_stream as messages_encode_stream
from dragoman.wire.messages.billing_line import without_billing_line
from dragoman.wire.meter import UsageMeter
from dragoman.wire.reading import NotJson, is_utf8, mended, read
from dragoman.wire.repair import repair
from dragoman.wire.responses import compaction
from dragoman.wire.responses import decode_request as responses_decode_request
from dragoman.wire.responses import decode_stream as responses_decode_stream
from dragoman.wire.responses import encode_request as responses_encode_request
from dragoman.wire.responses import encode_stream as responses_encode_stream
from dragoman.wire.responses.private_fields import without_private_fields
from dragoman.wire.same_wire import (
    has_compaction,
    has_odd_ids,
    needs_check,
    same_meaning,
    thinks_unasked,
    top_level_fields,
)
from dragoman.wire.splice import ModelRewriter, splice_model
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Recall, Request, Wire

__all__ = [
    "Dialect",
    "EncodedRequest",
    "Limits",
    "ModelRewriter",
    "Peek",
    "Recall",
    "Request",
    "StreamDecoder",
    "StreamEncoder",
    "ToolTable",
    "UsageMeter",
    "Wire",
    "decode_body",
    "decode_error",
    "decode_request",
    "encode_body",
    "encode_error",
    "encode_request",
    "forward_request",
    "forward_steps",
    "peek_request",
    "splice_model",
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
        foreign_answer: same wire only: the answer is not in the form the client waits for and has to be
            decoded and encoded, too.
    """

    body: bytes
    tools: ToolTable
    shims: tuple[str, ...] = ()
    foreign_answer: bool = False


class StreamDecoder(Protocol):
    """Upstream bytes in, events out, whatever the chunking."""

    finished: bool
    """True once a terminal event was given out; what follows is ignored."""

    @property
    def usage_so_far(self) -> Usage | None:
        """What the upstream has counted so far; only Messages says so before the end."""
        ...

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


_DECODE_REQUEST: Mapping[Wire, Callable[[bytes], Request]] = {
    "responses": responses_decode_request.decode,
    "chat": chat_decode_request.decode,
    "messages": messages_decode_request.decode,
}
_ENCODE_REQUEST: Mapping[Wire, Callable[..., tuple[bytes, list[str]]]] = {
    "responses": responses_encode_request.encode,
    "chat": chat_encode_request.encode,
    "messages": messages_encode_request.encode,
}
_DECODER: Mapping[Wire, Callable[..., StreamDecoder]] = {
    "responses": responses_decode_stream.Decoder,
    "chat": chat_decode_stream.Decoder,
    "messages": messages_decode_stream.Decoder,
}
_DECODE_BODY: Mapping[Wire, Callable[..., list[Event]]] = {
    "responses": responses_decode_stream.decode_body,
    "chat": chat_decode_stream.decode_body,
    "messages": messages_decode_stream.decode_body,
}
_ENCODER: Mapping[Wire, Callable[..., StreamEncoder]] = {
    "responses": responses_encode_stream.Encoder,
    "chat": chat_encode_stream.Encoder,
    "messages": messages_encode_stream.Encoder,
}
_ENCODE_BODY: Mapping[Wire, Callable[..., bytes]] = {
    "responses": responses_encode_stream.encode_body,
    "chat": chat_encode_stream.encode_body,
    "messages": messages_encode_stream.encode_body,
}


def peek_request(wire: Wire, body: bytes) -> Peek:
    """Read model and stream flag without decoding the rest.

    Raises:
        BadRequest: the body is not JSON, or these two are not what they must be.
    """
    try:
        fields = read(_peek, body)
    except NotJson:
        fields = read(_peek, mended(body))
    return Peek(fields.model, bool(fields.stream))


def decode_request(wire: Wire, body: bytes) -> Request:
    """Decode a client's request.

    Raises:
        BadRequest: with the JSON path of what is wrong.
    """
    decode = _DECODE_REQUEST[wire]
    if not is_utf8(body):
        return decode(mended(body))
    try:
        return decode(body)
    except NotJson:
        return decode(mended(body))


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
    body, more = _ENCODE_REQUEST[wire](
        repaired, tools, model=model, dialect=dialect, limits=limits, stream=stream
    )
    return EncodedRequest(body, tools, (*shims, *more))


def forward_request(
    wire: Wire,
    body: bytes,
    *,
    model: str,
    dialect: Dialect,
    stream: bool | None = None,
    limits: Limits | None = None,
    recall: Recall | None = None,
) -> EncodedRequest:
    """The request for an upstream of the client's own wire: the same bytes with only the model's name
    replaced and, for other vendors than the client's own, Codex's metadata or Claude Code's billing line cut
    out; or, where the profile asks for checks and something must change, a request written anew.

    `EncodedRequest.shims` is empty when the bytes were kept.

    Args:
        wire: the wire of both sides.
        body: the client's body.
        model: the upstream's name of the model.
        dialect: the upstream's quirks.
        stream: whether to ask for a stream; None keeps what the client asked for.
        limits: what the model can take.
        recall: the session's memory of reasoning.

    Raises:
        BadRequest: with the JSON path of what is wrong.
    """
    steps = forward_steps(
        wire, body, model=model, dialect=dialect, stream=stream, limits=limits, recall=recall
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def forward_steps(
    wire: Wire,
    body: bytes,
    *,
    model: str,
    dialect: Dialect,
    stream: bool | None = None,
    limits: Limits | None = None,
    recall: Recall | None = None,
) -> Generator[None, None, EncodedRequest]:
    """`forward_request` in steps, each about as long as reading the body once, so that others who share the
    thread get their turn in between. What `forward_request` returns is returned at the end."""
    cut: tuple[str, ...] = ()
    if wire == "responses" and not dialect.keeps_client_metadata:
        whole, body = body, without_private_fields(body)
        cut = ("client metadata left out",) if body is not whole else ()
        yield
    elif wire == "messages" and not dialect.billing_header:
        whole, body = body, without_billing_line(body)
        cut = ("billing line left out",) if body is not whole else ()
        yield
    if not needs_check(wire, body, dialect, limits):
        yield
        return EncodedRequest(splice_model(body, model), ToolTable(), cut)
    yield
    request = decode_request(wire, body)
    yield
    encoded = encode_request(
        wire,
        request,
        model=model,
        dialect=dialect,
        stream=request.stream if stream is None else stream,
        limits=limits,
        recall=recall,
    )
    yield
    must_change = (
        (dialect.strip_fields and dialect.strip_fields & top_level_fields(request.body))
        or (wire == "messages" and has_odd_ids(request, body))
        or (wire == "messages" and dialect.thinks_by_default and thinks_unasked(request, encoded.body))
        or (wire == "responses" and has_compaction(body, dialect))
    )
    if not must_change:
        yield
        again = decode_request(wire, encoded.body)
        yield
        if same_meaning(request, again):
            yield
            return EncodedRequest(splice_model(body, model), encoded.tools, cut)
    return msgspec.structs.replace(
        encoded,
        shims=(*cut, *encoded.shims, "request written anew"),
        foreign_answer=wire == "responses" and compaction.is_compaction(request),
    )


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
    return _DECODER[wire](dialect=dialect, tools=tools, id_seed=id_seed, recall=recall)


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
    return _DECODE_BODY[wire](body, dialect=dialect, tools=tools, id_seed=id_seed, recall=recall)


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
    return _ENCODER[wire](request=request, tools=tools, response_id=response_id, created_at=created_at)


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
    return _ENCODE_BODY[wire](
        events, request=request, tools=tools, response_id=response_id, created_at=created_at
    )

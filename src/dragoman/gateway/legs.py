"""The way from upstream bytes to client bytes: translated, or passed through with a meter beside it."""

from __future__ import annotations

import re
from typing import Literal, Protocol

import msgspec

from dragoman.wire.encode_error import error_body, failed_event
from dragoman.wire.errors import Failure
from dragoman.wire.events import Delta, Event, Fail, Finish, Ping, Start, Usage
from dragoman.wire.meter import UsageMeter
from dragoman.wire.splice import ModelRewriter
from dragoman.wire.sse import COMMENT_KEEP_ALIVE, SseReader, data_frame, frame
from dragoman.wire.translate import StreamDecoder, StreamEncoder
from dragoman.wire.turns import Wire

_PING = frame(b"ping", b'{"type":"ping"}')
_MAX_HELD_BYTES = 1 << 20
_FRAME_END = re.compile(rb"(?>\r\n|\n|\r){2}")
_encode = msgspec.json.Encoder().encode


class _Head(msgspec.Struct):
    type: str | None = None
    error: msgspec.Raw = msgspec.Raw()


_head = msgspec.json.Decoder(_Head)


class Leg(Protocol):
    """Turns upstream bytes into client bytes and notes what passes.

    Attributes:
        content: something of the answer itself has passed; nobody else may be asked from here on.
        finished: the answer's end has passed, good or bad.
        failure: why it ended badly, as the upstream said it inside its stream.
        usage: the last usage seen.
        said: bytes of text, reasoning and arguments that were translated, for an estimate without usage.
    """

    content: bool
    finished: bool
    failure: Failure | None
    usage: Usage | None
    said: int

    def feed(self, data: bytes) -> bytes:
        """What to send for the next bytes. Nothing when they hold a failure and nothing was said yet."""
        ...

    def eof(self) -> bytes:
        """What to send because the upstream has ended its body."""
        ...

    def keep_alive(self) -> bytes:
        """A sign of life; nothing when there is no safe place for one."""
        ...

    def fail(self, failure: Failure) -> bytes:
        """What ends the client's stream with a failure."""
        ...

    def leave(self) -> None:
        """The client is gone: note what the upstream has counted so far, if it has said."""
        ...

    def usage_so_far(self) -> Usage | None:
        """What the upstream has counted so far, if it has said; asking changes nothing."""
        ...


class _Meter:
    """Reads events as they pass."""

    def __init__(self) -> None:
        self.content = False
        self.finished = False
        self.failure: Failure | None = None
        self.usage: Usage | None = None
        self.said = 0

    def note(self, events: list[Event]) -> None:
        for event in events:
            kind = type(event)
            if kind is Delta:
                self.said += len(event.text)  # pyright: ignore[reportAttributeAccessIssue]
            elif isinstance(event, Usage):
                self.usage = event
            elif isinstance(event, Fail):
                self.failure = event.failure
                self.finished = True
            elif isinstance(event, Finish):
                self.finished = self.content = True
            elif not isinstance(event, Start | Ping):
                self.content = True


class Translation(_Meter):
    """Upstream and client speak different wires.

    Args:
        decoder: of the upstream's stream.
        encoder: of the client's stream; shared with an earlier attempt of the same request when the client
            has already been shown a sign of life through it.
    """

    def __init__(self, decoder: StreamDecoder, encoder: StreamEncoder) -> None:
        super().__init__()
        self._decoder = decoder
        self._encoder = encoder

    def feed(self, data: bytes) -> bytes:
        return self._pass(self._decoder.feed(data))

    def eof(self) -> bytes:
        return self._pass(self._decoder.eof())

    def replay(self, events: list[Event]) -> bytes:
        """Pass a whole answer's events."""
        return self._pass(events)

    def keep_alive(self) -> bytes:
        return self._encoder.keep_alive()

    def fail(self, failure: Failure) -> bytes:
        return self._encoder.fail(failure)

    def usage_so_far(self) -> Usage | None:
        return self.usage or self._decoder.usage_so_far

    def leave(self) -> None:
        if not self.finished:
            self.usage = next((e for e in self._decoder.eof() if isinstance(e, Usage)), self.usage)

    def _pass(self, events: list[Event]) -> bytes:
        if not events:
            return b""
        self.note(events)
        if self.failure is not None and not self.content:
            return b""
        return self._encoder.feed(events)


class PassThrough(_Meter):
    """Both sides speak the same wire: frames go through as they are, each as soon as it is whole.

    Bytes after the last frame's end are held until the frame is complete, so that keep-alives stand between
    frames and a cut never leaves half a frame behind.

    Args:
        wire: of both sides.
        meter: reads along.
        rewriter: shows the client the model name it asked for; None when it is the upstream's own.
    """

    def __init__(self, wire: Wire, meter: UsageMeter, rewriter: ModelRewriter | None) -> None:
        super().__init__()
        self._wire: Wire = wire
        self._meter = meter
        self._rewriter = rewriter
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        if self.finished and self.failure is not None:
            return b""
        if not self.finished:
            self._meter.feed(data)
            self._take()
            if self.failure is not None and not self.content:
                return b""
        if self._rewriter is not None:
            data = self._rewriter.feed(data)
        whole = self._held + data if self._held else data
        if self.failure is not None:
            self._held = b""
            return self._ended_badly(whole, self.failure)
        if whole.endswith(b"\n\n"):
            self._held = b""
            return whole
        end = max(whole.rfind(b"\n\n") + 2, whole.rfind(b"\r\n\r\n") + 4, whole.rfind(b"\r\r") + 2)
        if end < 4 and len(whole) < _MAX_HELD_BYTES:
            # No frame's end: `rfind` found nothing, or something shorter than any frame.
            self._held = whole
            return b""
        if end < 4:
            end = len(whole)
        self._held = whole[end:]
        return whole[:end]

    def eof(self) -> bytes:
        if self.finished and self.failure is not None:
            return b""
        if not self.finished:
            self._meter.eof()
            self._take()
        held, self._held = self._held, b""
        if self.failure is not None:
            return self.fail(self.failure) if self.content else b""
        return held if self._rewriter is None else held + self._rewriter.eof()

    def keep_alive(self) -> bytes:
        # Codex re-arms its idle timer on events, not on comments; Chat clients know no event but chunks.
        return COMMENT_KEEP_ALIVE if self._wire == "chat" else _PING

    def fail(self, failure: Failure) -> bytes:
        return failure_frame(self._wire, failure)

    def _ended_badly(self, data: bytes, found: Failure) -> bytes:
        """The frames up to the failure, and the failure as this wire's clients know it.

        The provider's own error passes as it is. What is no event at all is left out, since SDKs break over
        it, and so is the event `error` of Responses, which Codex 0.169 overlooks: it would ask again.
        """
        sound = 0
        for end in _FRAME_END.finditer(data):
            match _kind_of(self._wire, data[sound : end.end()]):
                case "content":
                    sound = end.end()
                case "error":
                    return data[: end.end()]
                case "other":
                    break
        return data[:sound] + self.fail(found)

    def usage_so_far(self) -> Usage | None:
        return self._meter.usage_so_far

    def leave(self) -> None:
        if not self.finished:
            self._meter.eof()
            self.usage = self._meter.usage

    def _take(self) -> None:
        meter = self._meter
        self.usage = meter.usage
        self.failure = meter.failure
        self.finished = meter.finished
        if meter.content_seen or meter.finish is not None:
            self.content = True


def _kind_of(wire: Wire, whole: bytes) -> Literal["content", "error", "other"]:
    """What a whole frame is to a client of this wire: a proper end in failure, or nothing it could read."""
    for payload in SseReader().feed(whole):
        try:
            event = _head.decode(payload)
        except (ValueError, RecursionError):
            return "other"
        match wire:
            case "chat" if len(event.error) and bytes(event.error) != b"null":
                return "error"
            case "messages" if event.type == "error":
                return "error"
            case "responses" if event.type == "response.failed":
                return "error"
            case "responses" if event.type == "error":
                return "other"
            case _:
                pass
    return "content"


def failure_frame(wire: Wire, failure: Failure) -> bytes:
    """A failure inside a stream we did not write ourselves."""
    match wire:
        case "chat":
            return data_frame(_encode(error_body("chat", failure)))
        case "messages":
            return frame(b"error", _encode(error_body("messages", failure)))
        case "responses":
            return failed_event(failure, response_id="resp_cut", created_at=0, sequence_number=1 << 30)

"""Reading along with a stream that passes through: its usage, its end and its errors.

Frames that can only be content are told by a look at their bytes and never parsed; the rest goes through the
wire's own decoder.
"""

from __future__ import annotations

import re

from dragoman.wire.chat import decode_stream as chat
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import Failure
from dragoman.wire.events import Delta, Event, Fail, Finish, Open, Usage
from dragoman.wire.messages import decode_stream as messages
from dragoman.wire.responses import decode_stream as responses
from dragoman.wire.sse import FrameTooLarge, SseReader, data_frame
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Wire

_TYPE_WITHIN_BYTES = 64

# Where an answer's own content begins, however its JSON is spaced; a chunk that only names a role has none.
_CONTENT: dict[Wire, re.Pattern[bytes]] = {
    "chat": re.compile(
        rb'"(?:content|reasoning_content|reasoning|arguments)"\s*:\s*"[^"]|"tool_calls"\s*:\s*\['
    ),
    "messages": re.compile(rb'"content_block_'),
    "responses": re.compile(rb'"response\.(?:output_item|content_part|output_text|reasoning)'),
}


class UsageMeter:
    """Watches one passing stream.

    Args:
        wire: the wire of the stream.
        dialect: the upstream's quirks, for its error codes and finish words.

    Attributes:
        usage: what the upstream counted so far, None while it said nothing.
        finish: how the answer ended, None while it has not.
        failure: what went wrong, None if nothing. A stream that closed without its end is `truncated`.
        content_seen: whether something of the answer itself passed; nobody else may be asked from then on.
    """

    def __init__(self, wire: Wire, *, dialect: Dialect | None = None) -> None:
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.failure: Failure | None = None
        self.content_seen = False
        self._wire: Wire = wire
        self._reader = SseReader()
        tools = ToolTable()
        dialect = dialect or Dialect()
        match wire:
            case "chat":
                self._decoder = chat.Decoder(dialect=dialect, tools=tools)
            case "messages":
                self._decoder = messages.Decoder(dialect=dialect, tools=tools)
            case "responses":
                self._decoder = responses.Decoder(dialect=dialect, tools=tools)

    @property
    def usage_so_far(self) -> Usage | None:
        """What the upstream has counted until now, in the middle of its answer too."""
        return self.usage or self._decoder.usage_so_far

    @property
    def finished(self) -> bool:
        """Whether the answer is over, well or not."""
        return self._decoder.finished

    def feed(self, data: bytes) -> None:
        """Read along."""
        if self._decoder.finished:
            return
        try:
            for payload in self._reader.feed(data):
                self._frame(payload)
        except FrameTooLarge:
            self._reader = SseReader()
            self.content_seen = True

    def eof(self) -> None:
        """The upstream closed."""
        for payload in self._reader.eof():
            # Without its blank line, so that the decoder knows it as the last and perhaps half a frame.
            self._note(self._decoder.feed(_frame_of(payload)[:-2]))
        self._note(self._decoder.eof())

    def _frame(self, payload: bytes) -> None:
        if not self.content_seen and _CONTENT[self._wire].search(payload):
            self.content_seen = True
        if not is_content(self._wire, payload):
            self._note(self._decoder.feed(_frame_of(payload)))

    def _note(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Usage():
                    self.usage = event
                case Finish():
                    self.finish = event
                case Fail(failure):
                    self.failure = failure
                case Open() | Delta():
                    self.content_seen = True
                case _:
                    pass


def _frame_of(payload: bytes) -> bytes:
    return data_frame(payload.replace(b"\n", b" ") if b"\n" in payload else payload)


def is_content(wire: Wire, payload: bytes) -> bool:
    """Whether a frame surely holds content and nothing about usage, end or error.

    A quoted key inside a text has its quotes escaped, so it is never taken for a key of the frame. Doubtful
    frames are not content: they are decoded, which is slower and never wrong.
    """
    match wire:
        case "messages":
            return b'"content_block_' in payload[:_TYPE_WITHIN_BYTES]
        case "chat":
            return (
                b'"finish_reason":null' in payload
                and b'"usage":{' not in payload
                and b'"usage": {' not in payload
                and b'"error"' not in payload
            )
        case "responses":
            return (
                b'"response":' not in payload
                and b'"response" :' not in payload
                and b'"error"' not in payload
                and b'"response.' in payload[:_TYPE_WITHIN_BYTES]
            )

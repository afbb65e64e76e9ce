"""Server-sent events: reading frames out of any chunking, and writing them so that every reader agrees.

Lines end at LF, CR or CR LF and nowhere else: readers that also split at U+2028, U+0085 or VT lose JSON text
(seen in gateways built on `str.splitlines`). The `event:` line is optional on the way in, all three
protocols repeat its value in `data.type`; on the way out it is always written, Claude Code 2.1.197 drops a
stream without it.
"""

from __future__ import annotations

from dragoman.errors import DragomanError

MAX_FRAME_BYTES = 32 * 1024 * 1024
"""Largest single event accepted from an upstream; a whole image in one event stays below it."""

_BOM = b"\xef\xbb\xbf"
_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))

COMMENT_KEEP_ALIVE = b": keep-alive\n\n"


class FrameTooLarge(DragomanError):
    """An upstream sent one event larger than we hold in memory."""

    code = "frame_too_large"
    http_status = 502


class SseReader:
    """Collects the data of each event from a byte stream cut at any place.

    Comments, `event:`, `id:` and `retry:` lines are dropped, several `data:` lines are joined by LF, a byte
    order mark at the start is skipped.

    Args:
        max_frame_bytes: largest event held before `FrameTooLarge` is raised.
    """

    __slots__ = ("_at_start", "_buffer", "_max_frame_bytes", "_scanned", "_skip_lf", "_unsettled")

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer: bytes = b""
        self._scanned: int = 0
        self._skip_lf: bool = False
        self._at_start: bool = True
        self._unsettled: bool = True
        self._max_frame_bytes: int = max_frame_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the data of every event they complete.

        Raises:
            FrameTooLarge: the unfinished event exceeds the limit.
        """
        if data[-2:] == b"\n\n" and not self._unsettled and 13 not in data:
            # Whole frames, one write of the upstream: the usual case, and mostly just one frame.
            first, last = data.find(10), len(data) - 2
            if first == last and data[:6] == b"data: ":
                return [data[6:last]]
            if (
                data[first : first + 7] == b"\ndata: "
                and data.find(10, first + 1) == last
                and data[:6] == b"event:"
            ):
                return [data[first + 7 : last]]
            return _payloads(data[:last])
        if self._skip_lf and data:
            self._skip_lf = False
            if data[0] == 10:
                data = data[1:]
        if 13 in data:
            self._skip_lf = data[-1] == 13
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer = self._buffer + data if self._buffer else data
        if self._at_start:
            if len(buffer) < 3 and _BOM.startswith(buffer):
                self._buffer = buffer
                return []
            self._at_start = False
            buffer = buffer.removeprefix(_BOM)
        end = buffer.rfind(b"\n\n", self._scanned)
        if end < 0:
            if len(buffer) > self._max_frame_bytes:
                self._buffer = b""
                raise FrameTooLarge("An upstream event is too large to hold.")
            self._buffer = buffer
            self._scanned = max(len(buffer) - 1, 0)
            self._unsettled = bool(buffer) or self._skip_lf
            return []
        self._buffer = buffer[end + 2 :]
        self._scanned = max(len(self._buffer) - 1, 0)
        self._unsettled = bool(self._buffer) or self._skip_lf
        return _payloads(buffer[:end])

    def eof(self) -> list[bytes]:
        """Say that the stream ended; returns the data of a last event that lacks its blank line, if any.

        Some upstreams end right after `data: [DONE]`. A half event is returned as it is; its JSON does not
        parse, and the decoder then treats the stream as truncated.
        """
        block, self._buffer, self._scanned = self._buffer, b"", 0
        payload = _data_of(block.removeprefix(_BOM)) if block else None
        return [] if payload is None else [payload]


def _payloads(blocks: bytes) -> list[bytes]:
    """The data of whole events, without the blank line after the last one."""
    frames: list[bytes] = []
    for block in blocks.split(b"\n\n"):
        first = block.find(10)
        if first < 0:
            if block[:6] == b"data: ":
                frames.append(block[6:])
                continue
        elif (
            block[first : first + 7] == b"\ndata: "
            and block[:6] == b"event:"
            and block.find(10, first + 1) < 0
        ):
            frames.append(block[first + 7 :])
            continue
        if (payload := _data_of(block)) is not None:
            frames.append(payload)
    return frames


def _data_of(block: bytes) -> bytes | None:
    """The joined `data:` lines of one event, or None when it has none."""
    lines = [
        line[6:] if line.startswith(b"data: ") else line[5:]
        for line in block.split(b"\n")
        if line.startswith(b"data") and (line == b"data" or line[4] == 58)
    ]
    return b"\n".join(lines) if lines else None


def is_done(payload: bytes) -> bool:
    """Whether an event's data is the `[DONE]` mark that ends a Chat Completions stream."""
    return len(payload) < 16 and payload.strip() == b"[DONE]"


def escape_separators(data: bytes) -> bytes:
    """Escape the line separators that naive readers split at; here they only stand in JSON strings."""
    if data.isascii() or (data.find(b"\xe2\x80") < 0 and data.find(b"\xc2\x85") < 0):
        return data
    for raw, escaped in _SEPARATORS:
        data = data.replace(raw, escaped)
    return data


def frame(event: bytes, data: bytes) -> bytes:
    """One event with its `event:` line, ready to be sent."""
    return b"event: %b\ndata: %b\n\n" % (event, data)


def data_frame(data: bytes) -> bytes:
    """One event without `event:` line, as Chat Completions streams have them."""
    return b"data: %b\n\n" % data

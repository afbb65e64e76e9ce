"""Split a stream into lines without ever holding more than one bounded line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# A Read of a 5 MB picture comes back as base64 twice in one line; those may be lost. A final answer is
# never this long.
LINE_LIMIT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DroppedLine:
    """A line that was longer than the limit and was thrown away.

    Attributes:
        size_bytes: how long it was.
        head: its first bytes, enough to guess what it was.
    """

    size_bytes: int
    head: bytes


class LineSplitter:
    """Turns chunks into lines; memory stays below the limit plus one chunk.

    Args:
        limit_bytes: longest line that is kept, its newline not counted.
    """

    _HEAD_BYTES = 200

    def __init__(self, limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._head = b""

    def feed(self, chunk: bytes) -> Iterator[bytes | DroppedLine]:
        """The lines that `chunk` completes, without their newlines."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._take(chunk[start:end])
            yield self._line()
            start = end + 1
        self._take(chunk[start:])

    def rest(self) -> Iterator[bytes | DroppedLine]:
        """The unfinished last line, if there is one."""
        if self._size_bytes:
            yield self._line()

    def _take(self, part: bytes) -> None:
        if not part:
            return
        if len(self._head) < self._HEAD_BYTES:
            self._head += part[: self._HEAD_BYTES - len(self._head)]
        self._size_bytes += len(part)
        if self._size_bytes <= self._limit_bytes:
            self._parts.append(part)
        else:
            self._parts.clear()

    def _line(self) -> bytes | DroppedLine:
        size_bytes, head, parts = self._size_bytes, self._head, self._parts
        self._parts, self._size_bytes, self._head = [], 0, b""
        if size_bytes > self._limit_bytes:
            return DroppedLine(size_bytes, head)
        return b"".join(parts)


class Tail:
    """The last bytes of a stream.

    Args:
        limit_bytes: how many are kept.
    """

    def __init__(self, limit_bytes: int = 16 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._kept = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take a chunk."""
        self._kept += chunk[-self._limit_bytes :]
        del self._kept[: -self._limit_bytes]

    def text(self) -> str:
        """What is kept, broken characters replaced."""
        return self._kept.decode("utf-8", "replace")

"""The terminal as a grid of characters: bytes in, an unchanging view out (pyte does the work)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pyte

from dragoman.bridge.picture import picture

# pyte 0.8.2 does not know private markers other than `?`: `CSI > 1 u` (keyboard protocol, 2.1.197) would
# leave a `u` on the screen.
_PRIVATE = re.compile(rb"\x1b\[[<>=][0-9;:]*[ -/]*[@-~]")
_UNFINISHED = re.compile(rb"\x1b(\[[<>=0-9;:?]*)?\Z")


@dataclass(frozen=True, slots=True)
class View:
    """What can be seen at one moment.

    Attributes:
        lines: the rows without trailing blanks, and without the blank rows below the last one (the classic
            renderer draws its box right under the text, anywhere on the grid).
        title: the window title.
        cursor: column and row, from 0.
    """

    lines: tuple[str, ...] = ()
    title: str = ""
    cursor: tuple[int, int] = (0, 0)


class Screen:
    """A grid that is fed a terminal's output. It keeps no scrollback: texts come from hooks.

    Args:
        cols: width in columns.
        rows: height in rows.
        answer: where the terminal's own answers go (device attributes, cursor position).
    """

    def __init__(self, cols: int, rows: int, answer: Callable[[bytes], None] | None = None) -> None:
        self._screen: Any = pyte.Screen(cols, rows)
        self._stream: Any = pyte.ByteStream(self._screen)
        self._rest = b""
        self._view: View | None = None
        self._screen.write_process_input = self._answer
        self._send = answer

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return int(self._screen.columns), int(self._screen.lines)

    def feed(self, data: bytes) -> None:
        """Take output of the terminal. Nothing that a program prints can make this raise."""
        data = self._rest + data
        cut = _UNFINISHED.search(data)
        self._rest = data[cut.start() :] if cut else b""
        if cut:
            data = data[: cut.start()]
        try:
            self._stream.feed(_PRIVATE.sub(b"", data))
        except Exception:  # noqa: BLE001 - pyte raises on some malformed sequences; the next repaint mends it
            self._stream = cast(Any, pyte.ByteStream(self._screen))
        self._view = None

    def resize(self, cols: int, rows: int) -> None:
        """Change the size; the program is told separately and repaints."""
        self._screen.resize(rows, cols)
        self._view = None

    def view(self) -> View:
        """What can be seen now; the same object until something is fed."""
        if self._view is None:
            buffer, cols = self._screen.buffer, range(self._screen.columns)
            lines = [_row(buffer[y], cols).rstrip() for y in range(self._screen.lines)]
            while lines and not lines[-1]:
                lines.pop()
            cursor = self._screen.cursor
            self._view = View(tuple(lines), str(self._screen.title), (int(cursor.x), int(cursor.y)))
        return self._view

    def picture(self) -> bytes:
        """What draws all this on an empty terminal of the same size."""
        return picture(self._screen)

    def _answer(self, text: str) -> None:
        if self._send is not None:
            self._send(text.encode())


def _row(cells: Any, cols: range) -> str:
    """One row as text.

    pyte's own `display` raises an IndexError (0.8.2) where the left half of a wide character was overwritten
    and its right half, an empty cell, is still there; a renderer that repaints only what changed does that.
    """
    out: list[str] = []
    for x in cols:
        data: str = cells[x].data
        if data:
            out.append(data)
        elif not out or out[-1].isascii():
            out.append(" ")
    return "".join(out)

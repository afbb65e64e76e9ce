"""The screen as bytes that draw it anew: for who comes later and needs to see what is already there."""

from __future__ import annotations

from typing import Any

import pyte.graphics as graphics

_RESET = "\x1b[0m"


def _codes(*tables: dict[int, str]) -> dict[str, str]:
    return {name: str(code) for table in tables for code, name in table.items()}


_FOREGROUND = _codes(graphics.FG_ANSI, graphics.FG_AIXTERM)
_BACKGROUND = _codes(graphics.BG_ANSI, graphics.BG_AIXTERM)
_MARKS = (
    ("bold", "1"), ("italics", "3"), ("underscore", "4"), ("blink", "5"), ("reverse", "7"),
    ("strikethrough", "9"),
)  # fmt: skip


def picture(screen: Any) -> bytes:
    """What draws this screen on an empty terminal of its size: texts, colours, title, cursor.

    Args:
        screen: a `pyte.Screen`.
    """
    out = [
        f"\x1b]0;{_plain(str(screen.title))}\x07\x1b[?25{'l' if screen.cursor.hidden else 'h'}{_RESET}\x1b[2J"
    ]
    for y in range(screen.lines):
        out.append(_row(screen.buffer[y], screen.columns, y))
    out.append(f"{_RESET}\x1b[{screen.cursor.y + 1};{min(screen.cursor.x, screen.columns - 1) + 1}H")
    return "".join(out).encode()


def _row(cells: Any, cols: int, y: int) -> str:
    last = max((x for x in range(cols) if cells[x].data.strip() or _style(cells[x]) != "0"), default=-1)
    out, style = [f"\x1b[{y + 1};1H"] if last >= 0 else [], "0"
    for x in range(last + 1):
        cell = cells[x]
        if not cell.data and x and not cells[x - 1].data.isascii():
            continue  # the right half of the character before
        if (wanted := _style(cell)) != style:
            out.append(f"\x1b[{wanted}m")
            style = wanted
        out.append(cell.data or " ")
    if style != "0":
        out.append(_RESET)
    return "".join(out)


def _style(cell: Any) -> str:
    codes = [code for name, code in _MARKS if getattr(cell, name)]
    codes += _colour(cell.fg, _FOREGROUND, "38") + _colour(cell.bg, _BACKGROUND, "48")
    return ";".join(["0", *codes])


def _colour(name: str, known: dict[str, str], prefix: str) -> list[str]:
    if name == "default":
        return []
    if name in known:
        return [known[name]]
    # 256 colours and true colours alike are six hexadecimal digits.
    return [prefix, "2", *(str(int(name[at : at + 2], 16)) for at in (0, 2, 4))]


def _plain(text: str) -> str:
    return "".join(character for character in text if character.isprintable())

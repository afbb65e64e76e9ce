"""Prose with headings or labels, split into named sections: how packets and reports are read."""

from __future__ import annotations

import re
from collections.abc import Mapping

Fields = Mapping[str, tuple[str, ...]]

_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(?P<title>.+?)\s*#*\s*$")
_LABEL = re.compile(r"^(?:\*\*)?(?P<title>[A-Za-z][A-Za-z '/-]{1,40}?)(?:\*\*)?:(?:\*\*)?\s*(?P<rest>.*)$")
_BULLET = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+(?P<item>.+?)\s*$")
_TICKED = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^\s*(?P<mark>`{3,}|~{3,})(?P<info>.*)$")


class _Fences:
    """Whether a line stands in a fenced block; a block ends only with its own kind of mark, as long.

    So what a packet quotes (a diff of a document, another packet) can open no section of its own.
    """

    def __init__(self) -> None:
        self._open = ""

    def take(self, line: str) -> bool:
        """Take the next line; whether it is a fence itself."""
        found = _FENCE.match(line)
        if found is None:
            return False
        mark = found["mark"]
        if not self._open:
            self._open = mark
            return True
        if mark[0] == self._open[0] and len(mark) >= len(self._open) and not found["info"].strip():
            self._open = ""
            return True
        return False

    @property
    def inside(self) -> bool:
        return bool(self._open)


def _field_of(title: str, fields: Fields) -> str | None:
    folded = title.strip().strip("*").strip().lower()
    best: tuple[int, str] | None = None
    for field, names in fields.items():
        for name in names:
            fits = folded == name or folded.startswith((name + " ", name + "/"))
            if fits and (best is None or len(name) > best[0]):
                best = (len(name), field)
    return best[1] if best else None


def ticked_after(text: str, phrases: tuple[str, ...]) -> list[str]:
    """What stands in inline ticks behind a phrase on the same line, outside fenced blocks.

    Args:
        text: prose.
        phrases: in lower case.
    """
    found: list[str] = []
    fences = _Fences()
    for line in text.splitlines():
        if fences.take(line) or fences.inside:
            continue
        folded = line.lower()
        places = [folded.find(phrase) for phrase in phrases if phrase in folded]
        if places:
            found += _TICKED.findall(line[min(places) :])
    return list(dict.fromkeys(found))


def split_sections(text: str, fields: Fields) -> dict[str, list[str]]:
    """Lines by field; a fenced block never opens a section."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    fences = _Fences()
    for line in text.splitlines():
        if fences.take(line):
            if current is not None:
                current.append(line)
            continue
        heading = None if fences.inside else _HEADING.match(line)
        label = None if fences.inside or heading else _LABEL.match(line)
        if heading:
            field = _field_of(heading["title"].rstrip(":"), fields)
            current = found.setdefault(field, []) if field else None
            continue
        if label and (field := _field_of(label["title"], fields)):
            current = found.setdefault(field, [])
            if label["rest"]:
                current.append(label["rest"])
            continue
        if current is not None:
            current.append(line)
    return found


def items_of(lines: list[str]) -> list[str]:
    """Bullets where there are any, else the non-empty lines."""
    bullets = [match["item"] for line in lines if (match := _BULLET.match(line))]
    return bullets or [line.strip() for line in lines if line.strip() and not _FENCE.match(line)]


def paths_of(lines: list[str]) -> list[str]:
    """Paths from bullets, inline ticks or a comma-separated line, in order, each once."""
    found: list[str] = []
    for item in items_of(lines):
        ticked = _TICKED.findall(item)
        if ticked:
            found += ticked
            continue
        # A bullet may explain itself: "src/app.py - the parser".
        bare = re.split(r"\s+(?:-|--|–|—|\()\s*", item, maxsplit=1)[0]
        found += [part.strip() for part in bare.split(",")]
    return list(dict.fromkeys(path for path in found if path))


def commands_of(lines: list[str]) -> list[str]:
    """Commands from a fenced block, from inline ticks, or from bare bullets."""
    found: list[str] = []
    fences = _Fences()
    for line in lines:
        if fences.take(line):
            continue
        if fences.inside:
            candidates = [line.strip().removeprefix("$ ")]
        else:
            bullet = _BULLET.match(line)
            content = bullet["item"] if bullet else line.strip()
            candidates = _TICKED.findall(content) or [content]
        found += [command for command in candidates if command and not command.startswith("#")]
    return list(dict.fromkeys(found))

"""Prose with headings or labels, split into named sections: how packets and reports are read."""

from __future__ import annotations

import re
from collections.abc import Mapping

Fields = Mapping[str, tuple[str, ...]]

_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(?P<title>.+?)\s*#*\s*$")
_LABEL = re.compile(r"^(?:\*\*)?(?P<title>[A-Za-z][A-Za-z '/-]{1,40}?)(?:\*\*)?:(?:\*\*)?\s*(?P<rest>.*)$")
_BULLET = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+(?P<item>.+?)\s*$")
_TICKED = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^\s*(?:```|~~~)")


def _field_of(title: str, fields: Fields) -> str | None:
    folded = title.strip().strip("*").strip().lower()
    best: tuple[int, str] | None = None
    for field, names in fields.items():
        for name in names:
            fits = folded == name or folded.startswith((name + " ", name + "/"))
            if fits and (best is None or len(name) > best[0]):
                best = (len(name), field)
    return best[1] if best else None


def split_sections(text: str, fields: Fields) -> dict[str, list[str]]:
    """Lines by field; a fenced block never opens a section."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    fenced = False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
            if current is not None:
                current.append(line)
            continue
        heading = None if fenced else _HEADING.match(line)
        label = None if fenced or heading else _LABEL.match(line)
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
    fenced = False
    for line in lines:
        if _FENCE.match(line):
            fenced = not fenced
            continue
        if fenced:
            candidates = [line.strip().removeprefix("$ ")]
        else:
            bullet = _BULLET.match(line)
            content = bullet["item"] if bullet else line.strip()
            candidates = _TICKED.findall(content) or [content]
        found += [command for command in candidates if command and not command.startswith("#")]
    return list(dict.fromkeys(found))

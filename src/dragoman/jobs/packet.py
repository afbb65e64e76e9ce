"""The task packet: what the lead asks, parsed from prose into data.

A packet is Markdown in the shape the lead writes anyway: headings (`## Allowed files`) or lines that end in
a colon (`Allowed files:`), each followed by text, bullets or a fenced block. Unknown sections are kept in
the text and passed on; nothing is rewritten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from dragoman.errors import DragomanError, ExitCode

Role = Literal["implement", "review"]

# Section titles as leads write them, folded to lower case. The first word that fits wins, longest first.
_FIELDS: dict[str, tuple[str, ...]] = {
    "role": ("role",),
    "goal": ("goal", "task", "objective"),
    "allowed": (
        "allowed files",
        "files allowed",
        "files you may modify",
        "files you may change",
        "files the worker may modify",
        "only modify",
        "only touch",
        "expected changes",
    ),
    "relevant": ("files likely relevant", "relevant files", "files to read", "files"),
    "constraints": ("constraints",),
    "acceptance": ("acceptance criteria", "acceptance"),
    "validation": ("validation commands", "validation", "how to verify", "verification commands"),
    "do_not": ("do not", "don't", "forbidden"),
    "returns": ("return", "report", "output"),
}
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(?P<title>.+?)\s*#*\s*$")
_LABEL = re.compile(r"^(?:\*\*)?(?P<title>[A-Za-z][A-Za-z '/-]{1,40}?)(?:\*\*)?:(?:\*\*)?\s*(?P<rest>.*)$")
_BULLET = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+(?P<item>.+?)\s*$")
_TICKED = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^\s*(?:```|~~~)")


class PacketInvalid(DragomanError):
    """A packet that cannot be carried out as written."""

    code = "invalid_input"
    http_status = 400
    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Packet:
    """One task as data.

    Attributes:
        text: the packet as the lead wrote it; this is what the worker reads.
        role: `implement` may write, `review` may not.
        goal: the goal section as one text, or the first paragraph when no section is called so.
        allowed_files: patterns relative to the repository root that the worker may write; empty means any
            file of the repository.
        validation: commands that prove the result, in order, one shell-free command line each.
        constraints, acceptance, do_not, returns: the bullets of those sections.
    """

    text: str
    role: Role
    goal: str
    allowed_files: tuple[str, ...]
    validation: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    acceptance: tuple[str, ...] = ()
    do_not: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()


def parse_packet(text: str) -> Packet:
    """Parse a packet.

    Raises:
        PacketInvalid: the packet is empty, or an allowed path is absolute or leaves the repository.
    """
    if not text.strip():
        raise PacketInvalid("the task packet is empty", hint="write at least a Goal section")
    sections = _sections(text)
    role_text = " ".join(sections.get("role", [])).lower()
    goal_lines = sections.get("goal") or text.strip().split("\n\n")[0].splitlines()
    return Packet(
        text=text,
        role="review" if "review" in role_text else "implement",
        goal=" ".join(line.strip() for line in goal_lines if line.strip()),
        allowed_files=tuple(_checked_path(item) for item in _paths(sections.get("allowed", []))),
        validation=tuple(_commands(sections.get("validation", []))),
        constraints=tuple(_items(sections.get("constraints", []))),
        acceptance=tuple(_items(sections.get("acceptance", []))),
        do_not=tuple(_items(sections.get("do_not", []))),
        returns=tuple(_items(sections.get("returns", []))),
    )


def _field_of(title: str) -> str | None:
    folded = title.strip().strip("*").strip().lower()
    best: tuple[int, str] | None = None
    for field, names in _FIELDS.items():
        for name in names:
            fits = folded == name or folded.startswith((name + " ", name + "/"))
            if fits and (best is None or len(name) > best[0]):
                best = (len(name), field)
    return best[1] if best else None


def _sections(text: str) -> dict[str, list[str]]:
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
            field = _field_of(heading["title"].rstrip(":"))
            current = found.setdefault(field, []) if field else None
            continue
        if label and (field := _field_of(label["title"])):
            current = found.setdefault(field, [])
            if label["rest"]:
                current.append(label["rest"])
            continue
        if current is not None:
            current.append(line)
    return found


def _items(lines: list[str]) -> list[str]:
    """Bullets where there are any, else the non-empty lines."""
    bullets = [match["item"] for line in lines if (match := _BULLET.match(line))]
    return bullets or [line.strip() for line in lines if line.strip() and not _FENCE.match(line)]


def _paths(lines: list[str]) -> list[str]:
    """Paths from bullets, inline ticks or a comma-separated line, in order, each once."""
    found: list[str] = []
    for item in _items(lines):
        ticked = _TICKED.findall(item)
        if ticked:
            found += ticked
            continue
        # A bullet may explain itself: "src/app.py - the parser".
        bare = re.split(r"\s+(?:-|--|–|—|\()\s*", item, maxsplit=1)[0]
        found += [part.strip() for part in bare.split(",")]
    return list(dict.fromkeys(path for path in found if path))


def _commands(lines: list[str]) -> list[str]:
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


def _checked_path(raw: str) -> str:
    path = raw.removeprefix("./")
    pure = PurePosixPath(path)
    if pure.is_absolute() or path.startswith("~") or ".." in pure.parts or "\0" in path or not path:
        raise PacketInvalid(
            f"the allowed file '{raw}' is not inside the repository",
            hint="name files relative to the repository root, for example `src/app.py` or `tests/**`",
        )
    return path

"""The task packet: what the lead asks, parsed from prose into data.

A packet is Markdown in the shape the lead writes anyway: headings (`## Allowed files`) or lines that end in
a colon (`Allowed files:`), each followed by text, bullets or a fenced block. Unknown sections are kept in
the text and passed on; nothing is rewritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from dragoman.errors import DragomanError, ExitCode
from dragoman.jobs.sections import commands_of, items_of, paths_of, split_sections

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
    sections = split_sections(text, _FIELDS)
    role_text = " ".join(sections.get("role", [])).lower()
    goal_lines = sections.get("goal") or text.strip().split("\n\n")[0].splitlines()
    return Packet(
        text=text,
        role="review" if "review" in role_text else "implement",
        goal=" ".join(line.strip() for line in goal_lines if line.strip()),
        allowed_files=tuple(_checked_path(item) for item in paths_of(sections.get("allowed", []))),
        validation=tuple(commands_of(sections.get("validation", []))),
        constraints=tuple(items_of(sections.get("constraints", []))),
        acceptance=tuple(items_of(sections.get("acceptance", []))),
        do_not=tuple(items_of(sections.get("do_not", []))),
        returns=tuple(items_of(sections.get("returns", []))),
    )


def _checked_path(raw: str) -> str:
    path = raw.removeprefix("./")
    pure = PurePosixPath(path)
    if pure.is_absolute() or path.startswith("~") or ".." in pure.parts or "\0" in path or not path:
        raise PacketInvalid(
            f"the allowed file '{raw}' is not inside the repository",
            hint="name files relative to the repository root, for example `src/app.py` or `tests/**`",
        )
    return path

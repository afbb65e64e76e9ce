"""The task packet: what the lead asks, parsed from prose into data.

A packet is Markdown in the shape the lead writes anyway: headings (`## Allowed files`) or lines that end in
a colon (`Allowed files:`), each followed by text, bullets or a fenced block. Files in ticks on a line that
says "only modify" are a scope, too, wherever the line stands. Unknown sections are kept in the text and
passed on; nothing is rewritten. `lint.py` says what a packet lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from dragoman.errors import DragomanError, ExitCode
from dragoman.jobs.sections import commands_of, items_of, paths_of, split_sections, ticked_after

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
    "repository": ("repo/cwd", "repo", "repository", "cwd", "working directory"),
    "context_roots": ("context roots", "context folders", "further folders to read"),
    "constraints": ("constraints",),
    "acceptance": ("acceptance criteria", "acceptance"),
    "validation": ("validation commands", "validation", "how to verify", "verification commands"),
    "do_not": ("do not", "don't", "forbidden"),
    "returns": ("return", "report", "output"),
}

# What claude-glm52 0.0.3 reads as a scope in the middle of prose.
_SCOPE_PHRASES = (
    "only modify",
    "only touch",
    "only change",
    "only edit",
    "files allowed",
    "allowed files",
    "expected changed",
    "expected changes",
)

_EVERYTHING = frozenset({"any", "all", "any file", "all files", "everything"})
_NOTHING = frozenset({"none", "nothing", "n/a", "-"})


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
        repository: what it says of where the work is; told, never obeyed.
        relevant: files it says are worth reading; no permission.
        context_roots: folders outside the repository it wants readable; to be checked before they are.
        sections: the fields it has a section for.
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
    repository: str = ""
    relevant: tuple[str, ...] = ()
    context_roots: tuple[str, ...] = ()
    sections: frozenset[str] = frozenset()


def parse_packet(text: str) -> Packet:
    """Parse a packet.

    Raises:
        PacketInvalid: the packet is empty, or an allowed path is absolute or leaves the repository.
    """
    if not text.strip():
        raise PacketInvalid("the task packet is empty", hint="write at least a Goal section")
    sections = split_sections(text, _FIELDS)
    role_text = " ".join(sections.get("role", [])).lower()
    # "None" stays: as a pattern it allows nothing, while an empty list would allow everything.
    allowed = [path for path in paths_of(sections.get("allowed", [])) if not _says(path, _EVERYTHING)]
    # In prose ticks also mark what is no file (`/api/users`), so there only a usable path counts.
    allowed += [path for path in ticked_after(text, _SCOPE_PHRASES) if _stays_inside(path)]
    goal_lines = sections.get("goal") or text.strip().split("\n\n")[0].splitlines()
    return Packet(
        text=text,
        role="review" if "review" in role_text else "implement",
        goal=" ".join(line.strip() for line in goal_lines if line.strip()),
        allowed_files=tuple(dict.fromkeys(_checked_path(item) for item in allowed)),
        validation=tuple(commands_of(sections.get("validation", []))),
        constraints=tuple(items_of(sections.get("constraints", []))),
        acceptance=tuple(items_of(sections.get("acceptance", []))),
        do_not=tuple(items_of(sections.get("do_not", []))),
        returns=tuple(items_of(sections.get("returns", []))),
        repository=" ".join(sections.get("repository", [])).strip().strip("`"),
        relevant=tuple(
            path for path in paths_of(sections.get("relevant", [])) if not _says(path, _EVERYTHING | _NOTHING)
        ),
        context_roots=tuple(
            path
            for path in paths_of(sections.get("context_roots", []))
            if not _says(path, _EVERYTHING | _NOTHING)
        ),
        sections=frozenset(sections),
    )


def named_roots(text: str, repository: Path, *, home: Path) -> tuple[str, ...]:
    """Folders outside the repository a packet wants readable; `guards.check_context_roots` says which may be.

    Args:
        text: the packet.
        repository: absolute; what lies in it is readable anyway.
        home: what `~` stands for.
    """
    found: list[str] = []
    for said in paths_of(split_sections(text, _FIELDS).get("context_roots", [])):
        path = home / said[2:] if said.startswith("~/") else Path(said)
        if path.is_absolute() and not path.is_relative_to(repository):
            found.append(str(path))
    return tuple(dict.fromkeys(found))


def _says(item: str, words: frozenset[str]) -> bool:
    """Whether an item is one of these words in place of a file."""
    return item.strip(" .").lower() in words


def _checked_path(raw: str) -> str:
    if not _stays_inside(raw):
        raise PacketInvalid(
            f"the allowed file '{raw}' is not inside the repository",
            hint="name files relative to the repository root, for example `src/app.py` or `tests/**`",
        )
    return raw.removeprefix("./")


def _stays_inside(raw: str) -> bool:
    path = raw.removeprefix("./")
    pure = PurePosixPath(path)
    leaves = pure.is_absolute() or path.startswith("~") or ".." in pure.parts or "\0" in path
    return bool(path) and not leaves

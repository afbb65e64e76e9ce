"""What stands in the way of a change, one object for each path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .names import shown

ConflictKind = Literal[
    "content",  # both sides changed the same lines, or both a binary file
    "deleted_in_main",  # the worker changed what the user deleted
    "renamed_in_main",  # the worker changed what the user moved elsewhere
    "deleted_by_worker",  # the worker deleted what the user changed
    "added_on_both_sides",
    "file_and_folder",  # a file on one side, a folder on the other
    "rename",  # both sides moved the same file or folder differently
    "dirty",  # the user has uncommitted edits in the file, and the policy is to refuse
    "in_the_way",  # an untracked or ignored file, or a folder with such files, lies where a file must go
    "linked_folder",  # a folder on the way is a symbolic link in the user's tree
    "symlink_outside",  # a new symbolic link would lead out of the repository
    "submodule",  # a submodule pointer; never written
    "unsupported_file",  # a repository inside the tree, or a file nobody may read
    "filter",  # only the repository itself configures the file's filter, so it was not run
    "line_endings",  # the user's file mixes line endings git would make uniform
    "outside_sparse_checkout",  # the file is not in the user's sparse checkout
    "unsafe_name",  # a name that would reach into .git or out of the tree
]


@dataclass(frozen=True)
class Side:
    """A file on one side of a merge: its git mode and the id of its content."""

    mode: str
    id: str


@dataclass(frozen=True)
class Hunk:
    """Lines that could not be merged.

    Attributes:
        line: where the hunk starts in the merged file, counted from 1.
        ours: the user's lines.
        theirs: the worker's lines.
    """

    line: int
    ours: str
    theirs: str


@dataclass(frozen=True)
class Conflict:
    """One path in the way.

    Attributes:
        name: the path.
        kind: what is wrong.
        message: the same in a sentence.
        base, ours, theirs: the file at the start, at the user's now, and as the worker left it.
        hunks: lines that clash, for text.
        other: a second path that matters, such as the new name of a moved file.
    """

    name: bytes
    kind: ConflictKind
    message: str
    base: Side | None = None
    ours: Side | None = None
    theirs: Side | None = None
    hunks: tuple[Hunk, ...] = ()
    other: bytes | None = None

    @property
    def path(self) -> str:
        """The name for display and JSON."""
        return shown(self.name)


def read_hunks(merged: bytes, ours: str, theirs: str, *, limit: int = 20) -> tuple[Hunk, ...]:
    """Read the clashing parts out of a file merged with markers.

    Args:
        merged: the file.
        ours, theirs: labels git put after its markers.
        limit: the most hunks to give.
    """
    start, middle = f"<<<<<<< {ours}".encode(), b"======="
    end = f">>>>>>> {theirs}".encode()
    hunks: list[Hunk] = []
    sides: tuple[list[bytes], list[bytes]] = ([], [])
    clean: tuple[list[bytes], list[bytes]]
    inside: int | None = None
    first = 0
    for number, line in enumerate(merged.split(b"\n"), 1):
        bare = line.rstrip(b"\r")
        if inside is None:
            # git names a file behind the label when it was moved
            if bare == start or bare.startswith(start + b":"):
                clean = ([], [])
                inside, first, sides = 0, number, clean
        elif inside == 0 and bare == middle:
            inside = 1
        elif inside == 1 and (bare == end or bare.startswith(end + b":")):
            hunks.append(Hunk(first, _text(sides[0]), _text(sides[1])))
            inside = None
            if len(hunks) == limit:
                break
        else:
            sides[inside].append(line)
    return tuple(hunks)


def _text(lines: list[bytes]) -> str:
    return b"\n".join(lines).decode("utf-8", "replace")

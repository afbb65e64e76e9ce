"""Lists of changed files between two trees, as `git diff-tree` tells them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .keep import Keep
from .names import shown

Status = Literal["added", "modified", "deleted", "renamed", "copied", "type_changed"]
_STATUS: dict[str, Status] = {
    "A": "added",
    "M": "modified",
    "D": "deleted",
    "R": "renamed",
    "C": "copied",
    "T": "type_changed",
}
# Beyond this many candidates only files moved without an edit are paired: 2000 changes took 0.8 s to compare.
_RENAME_LIMIT = "-l200"
NO_MODE = "000000"
GITLINK = "160000"
SYMLINK = "120000"
_RAW = re.compile(rb":(\d{6}) (\d{6}) ([0-9a-f]+) ([0-9a-f]+) ([AMDRCT])\d*")


@dataclass(frozen=True)
class Change:
    """One changed file.

    Attributes:
        status: what happened to it.
        name: its name; the new one of a rename or copy.
        old_name: the name it had, of a rename or copy.
        old_mode, new_mode: git modes such as `100644`; `000000` where there is no file on that side.
        old_id, new_id: ids of the contents, zeros where there is none.
        added_lines, deleted_lines: None for binary files, and where lines were not asked for.
    """

    status: Status
    name: bytes
    old_name: bytes | None
    old_mode: str
    new_mode: str
    old_id: str
    new_id: str
    added_lines: int | None = None
    deleted_lines: int | None = None

    @property
    def path(self) -> str:
        """The name for display and JSON."""
        return shown(self.name)

    @property
    def old_path(self) -> str | None:
        """The old name for display and JSON."""
        return None if self.old_name is None else shown(self.old_name)

    @property
    def names(self) -> tuple[bytes, ...]:
        """Every name the change writes or removes."""
        return (
            (self.name,) if self.status != "renamed" or self.old_name is None else (self.old_name, self.name)
        )


def diff_trees(keep: Keep, old: str, new: str, *, renames: bool, lines: bool = False) -> tuple[Change, ...]:
    """List what differs between two trees.

    Args:
        keep: where the objects are read.
        old, new: ids of trees.
        renames: whether to pair deletions with additions of similar content, and to see copies.
        lines: whether to count lines, which reads the contents.
    """
    return read_diff(diff_raw(keep, old, new, renames=renames, lines=lines))


def diff_raw(keep: Keep, old: str, new: str, *, renames: bool, lines: bool = False) -> bytes:
    """Give the same as `diff_trees`, as git says it; equal bytes mean equal changes."""
    return keep.run(
        *("diff-tree", "-r", "-z", "--raw", "--full-index", "--no-abbrev"),
        *(("-M", "-C", _RENAME_LIMIT) if renames else ("--no-renames",)),
        *(("--numstat",) if lines else ()),
        *("--no-ext-diff", "--no-textconv", old, new),
    ).out


def read_diff(raw: bytes) -> tuple[Change, ...]:
    """Read `diff-tree -z --raw [--numstat]`."""
    parts = iter(raw.split(b"\0")[:-1])
    changes: dict[bytes, Change] = {}
    for part in parts:
        if match := _RAW.fullmatch(part):
            old_mode, new_mode, old_id, new_id, letter = (group.decode() for group in match.groups())
            first = next(parts)
            second = next(parts) if letter in "RC" else None
            name, old_name = (first, None) if second is None else (second, first)
            changes[name] = Change(_STATUS[letter], name, old_name, old_mode, new_mode, old_id, new_id)
        else:
            name, added, deleted = _read_lines(part, parts)
            known = changes[name]
            changes[name] = Change(
                known.status,
                name,
                known.old_name,
                known.old_mode,
                known.new_mode,
                known.old_id,
                known.new_id,
                added,
                deleted,
            )
    return tuple(changes.values())


def _read_lines(part: bytes, parts: Iterator[bytes]) -> tuple[bytes, int | None, int | None]:
    added, deleted, name = part.split(b"\t", 2)
    if not name:  # a rename: its two names follow
        next(parts)
        name = next(parts)
    return name, (None if added == b"-" else int(added)), (None if deleted == b"-" else int(deleted))

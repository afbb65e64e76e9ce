"""What must be true of the user's files on disk before a change may be written over them."""
# pathlib knows neither names that are bytes nor open folders.
# ruff: noqa: PTH115

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .changes import GITLINK, NO_MODE, SYMLINK, Change
from .conflicts import Conflict, ConflictKind
from .keep import Keep
from .names import is_safe, parents, printable
from .snapshot import split_names

_LINKS_FOLLOWED = 40
_Read = Callable[[bytes], bytes | None]
_EOL = re.compile(rb"i/(\S*)\s+w/(\S*)\s+attr/(.*?)\s*\t(.*)", re.DOTALL)


@dataclass(frozen=True)
class Checked:
    """What the checks found: conflicts, and names to be written with CRLF."""

    conflicts: tuple[Conflict, ...]
    crlf: frozenset[bytes]


def check_disk(
    keep: Keep,
    root: Path,
    index: Path,
    target: str,
    changes: Sequence[Change],
    refused_filters: frozenset[str],
) -> Checked:
    """Look at every path a change would write, never following a symbolic link.

    Args:
        keep: where objects are read.
        root: top of the user's work tree.
        index: index holding the user's files as they are.
        target: the tree to be written.
        changes: the files that would be written or removed.
        refused_filters: filters that are not run.
    """
    removed = frozenset(c.name for c in changes if c.new_mode == NO_MODE)
    conflicts: list[Conflict] = []
    for change in changes:
        found = _check_place(os.fsencode(root), change, removed)
        if found is not None:
            conflicts.append(found)
    links = [change for change in changes if change.new_mode == SYMLINK]
    if links:
        conflicts += _check_links(keep, root, target, links)
    edited = [c.name for c in changes if c.old_mode.startswith("100") and c.new_mode.startswith("100")]
    crlf: frozenset[bytes] = frozenset()
    if edited:
        if refused_filters:
            conflicts += _check_filters(keep, root, index, edited, refused_filters)
        crlf, mixed = _check_line_endings(keep, root, index, edited)
        conflicts += mixed
    return Checked(tuple(conflicts), crlf)


def _conflict(name: bytes, kind: ConflictKind, what: str) -> Conflict:
    return Conflict(name, kind, f"{printable(name)}: {what}")


def _check_place(root: bytes, change: Change, removed: frozenset[bytes]) -> Conflict | None:
    name = change.name
    if not is_safe(name):
        return _conflict(name, "unsafe_name", "this name would leave the work tree or reach into .git")
    if GITLINK in (change.old_mode, change.new_mode):
        return _conflict(name, "submodule", "a submodule pointer changed; submodules are never applied")
    for parent in parents(name):
        details = _lstat(root + b"/" + parent)
        if details is None:
            break
        if stat.S_ISLNK(details.st_mode) and parent not in removed:
            return _conflict(name, "linked_folder", f"{printable(parent)} is a symbolic link in your tree")
        if not stat.S_ISDIR(details.st_mode):
            if parent in removed:
                break
            return _conflict(name, "in_the_way", f"{printable(parent)} is a file in your tree")
    details = _lstat(root + b"/" + name)
    if change.old_mode != NO_MODE:
        if details is None:
            return _conflict(name, "outside_sparse_checkout", "it is not in your sparse checkout")
        return None
    if details is None:
        return None
    if stat.S_ISDIR(details.st_mode):
        left = _left_over(root, name, removed)
        if left is None:
            return None
        return _conflict(name, "in_the_way", f"{printable(left)} is in a folder of that name")
    if any(_is_same(root + b"/" + other, details) for other in removed if other.lower() == name.lower()):
        return None  # a rename by case alone, on a file system that does not tell them apart
    return _conflict(name, "in_the_way", "an untracked or ignored file of that name is in your tree")


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_same(path: bytes, details: os.stat_result) -> bool:
    other = _lstat(path)
    return other is not None and os.path.samestat(other, details)


def _left_over(root: bytes, folder: bytes, removed: frozenset[bytes]) -> bytes | None:
    """Name something below a folder that the change does not remove."""
    with os.scandir(root + b"/" + folder) as entries:
        for entry in entries:
            name = folder + b"/" + entry.name
            if entry.is_dir(follow_symlinks=False):
                left = _left_over(root, name, removed)
                if left is not None:
                    return left
            elif name not in removed:
                return name
    return None


def _check_links(keep: Keep, root: Path, target: str, links: Sequence[Change]) -> list[Conflict]:
    """Refuse new symbolic links that lead out of the tree or into .git, however many steps they take."""
    listed = keep.run("ls-tree", "-r", "-z", target).out
    known = dict[bytes, str]()
    for match in re.finditer(rb"(?:^|\0)120000 blob ([0-9a-f]+)\t([^\0]*)", listed):
        known[match[2]] = match[1].decode()
    contents: dict[bytes, bytes] = {}

    def read(name: bytes) -> bytes | None:
        if name in known:
            if name not in contents:
                contents[name] = keep.run("cat-file", "blob", known[name]).out
            return contents[name]
        try:
            return os.readlink(os.fsencode(root) + b"/" + name)
        except OSError:
            return None

    conflicts: list[Conflict] = []
    for change in links:
        if not _stays(change.name.split(b"/")[:-1], contents.get(change.name) or read(change.name), read):
            conflicts.append(
                _conflict(
                    change.name, "symlink_outside", "the symbolic link would lead out of the repository"
                )
            )
    return conflicts


def _stays(folder: list[bytes], link: bytes | None, read: _Read, steps: int = _LINKS_FOLLOWED) -> bool:
    """Follow a link from its folder through the merged tree; False as soon as it leaves it."""
    place = list(folder)
    if link is None:
        return True
    if link.startswith(b"/"):
        return False
    todo = link.split(b"/")
    while todo:
        part = todo.pop(0)
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not place:
                return False
            place.pop()
            continue
        place.append(part)
        if not is_safe(b"/".join(place)):
            return False
        further = read(b"/".join(place))
        if further is not None:
            if further.startswith(b"/"):
                return False
            steps -= 1
            if steps == 0:
                return True  # a circle: it leads nowhere, and the kernel follows no more links either
            place.pop()
            todo = further.split(b"/") + todo
    return True


def _check_filters(
    keep: Keep, root: Path, index: Path, names: Sequence[bytes], refused: frozenset[str]
) -> list[Conflict]:
    said = keep.run(
        *("check-attr", "-z", "--stdin", "filter"),
        work_tree=root,
        index=index,
        stdin=b"\0".join(names) + b"\0",
    ).out.split(b"\0")
    conflicts: list[Conflict] = []
    for name, value in zip(said[0::3], said[2::3], strict=False):
        chosen = value.decode("utf-8", "surrogateescape")
        if chosen in refused:
            conflicts.append(
                _conflict(name, "filter", f"its filter {chosen!r} is configured by the repository alone")
            )
    return conflicts


def _check_line_endings(
    keep: Keep, root: Path, index: Path, names: Sequence[bytes]
) -> tuple[frozenset[bytes], list[Conflict]]:
    """Find files that have CRLF in the work tree and LF in the repository.

    git would write such a file with LF where only `text=auto` says it is text, and every line would change
    under the user. Uniform CRLF is kept; mixed endings cannot be, so that is a conflict.
    """
    crlf: set[bytes] = set()
    conflicts: list[Conflict] = []
    wanted = set(names)
    # No names as arguments: the index holds little else, and there may be too many for a command line.
    for entry in split_names(keep.run("ls-files", "-z", "--eol", work_tree=root, index=index).out):
        match = _EOL.fullmatch(entry)
        if match is None or match[1] != b"lf" or match[4] not in wanted:
            continue
        if match[2] == b"crlf":
            crlf.add(match[4])
        elif match[2] == b"mixed":
            conflicts.append(_conflict(match[4], "line_endings", "your file mixes CRLF and LF"))
    return frozenset(crlf), conflicts

"""Turning files into a tree object without touching the index they belong to.

A copy of an index, with its time stamps, tells git which files it need not read. Names of what changed come
from `diff-files` and `ls-files`, and only those go through `update-index`; `git add` is not used, because
it starts `git status` inside submodules (on their configuration) and stops whole at one nested repository.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .keep import Keep

SkipReason = Literal["nested_repository", "unreadable"]


@dataclass(frozen=True)
class Skipped:
    """A file that could not become part of a tree, and why."""

    name: bytes
    reason: SkipReason


@dataclass(frozen=True)
class Snapshot:
    """What was found.

    Attributes:
        tree: id of the tree object.
        index: the temporary index that holds it, with the stat data of every file as it was read.
        skipped: files left out.
        changed: names that differed from the index the snapshot started from.
    """

    tree: str
    index: Path
    skipped: tuple[Skipped, ...]
    changed: frozenset[bytes]


def take_snapshot(
    keep: Keep,
    work_tree: Path,
    start: Path,
    scratch: Path,
    *,
    untracked: bool,
    names: Iterable[bytes] = (),
) -> Snapshot:
    """Make a tree object of the files in a work tree.

    Args:
        keep: where new objects go.
        work_tree: the files; they are only read.
        start: the index to start from; it is copied. A missing one means an empty index.
        scratch: where the copy goes; kept for the caller.
        untracked: whether files the index does not know and nothing ignores are taken in.
        names: files taken in whatever the index or the ignore rules say, if they exist.

    Raises:
        GitFailed: an object could not be read or written.
    """
    copy_index(start, scratch)
    look = _Look(os.fsencode(work_tree))
    wanted = {name for name in names if look.at(name) == "file"}
    if wanted:
        _unhide(keep, work_tree, scratch, wanted)
    changed = wanted | set(split_names(_diff_files(keep, work_tree, scratch)))
    if untracked:
        listed = keep.run(
            "ls-files", "-z", "--others", "--exclude-standard", work_tree=work_tree, index=scratch
        )
        changed.update(split_names(listed.out))
    found: dict[str, list[bytes]] = {"file": [], "gone": [], "nested_repository": [], "unreadable": []}
    for name in sorted(changed):
        found[look.at(name)].append(name)
    # Deletions first, and by force: git would not look below a folder that became a symbolic link.
    for names_of_kind, how in ((found["gone"], ("--force-remove",)), (found["file"], ("--add", "--replace"))):
        if names_of_kind:
            stdin = b"\0".join(names_of_kind) + b"\0"
            keep.run("update-index", "-z", *how, "--stdin", work_tree=work_tree, index=scratch, stdin=stdin)
    skipped = [Skipped(name.rstrip(b"/"), "nested_repository") for name in found["nested_repository"]]
    skipped += [Skipped(name, "unreadable") for name in found["unreadable"]]
    tree = keep.run("write-tree", "--missing-ok", index=scratch).text
    return Snapshot(tree, scratch, tuple(skipped), frozenset(found["file"] + found["gone"]))


def copy_index(start: Path, scratch: Path) -> None:
    """Copy an index with its time stamps, which git needs to tell a file written in the same instant.

    A split index names a second file it expects in its git folder, so that one comes along.
    """
    scratch.unlink(missing_ok=True)
    if not start.exists():
        return
    shutil.copy2(start, scratch)
    for shared in start.parent.glob("sharedindex.*"):
        target = scratch.parent / shared.name
        if not target.exists():
            shutil.copy2(shared, target)


def _unhide(keep: Keep, work_tree: Path, index: Path, names: set[bytes]) -> None:
    """Make git look at files marked assume-unchanged or skip-worktree that are there all the same."""
    listed = keep.run("ls-files", "-z", "-v", work_tree=work_tree, index=index).out
    hidden = [m[1] for m in re.finditer(rb"(?:^|\0)[Sa-z] ([^\0]*)", listed)]
    marked = [name for name in hidden if name in names]
    if marked:
        stdin = b"\0".join(marked) + b"\0"
        for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
            keep.run("update-index", "-z", flag, "--stdin", work_tree=work_tree, index=index, stdin=stdin)


def _diff_files(keep: Keep, work_tree: Path, index: Path) -> bytes:
    return keep.run(
        "diff-files", "-z", "--name-only", "--ignore-submodules=all", work_tree=work_tree, index=index
    ).out


def split_names(raw: bytes) -> list[bytes]:
    """Split git's NUL-ended names."""
    return [name for name in raw.split(b"\0") if name]


class _Look:
    """What is at a name, without ever following a symbolic link out of the work tree."""

    def __init__(self, work_tree: bytes) -> None:
        self._top = work_tree
        self._folders: dict[bytes, bool] = {b"": True}

    def at(self, name: bytes) -> Literal["file", "gone", "nested_repository", "unreadable"]:
        if name.endswith(b"/"):
            return "nested_repository"
        if not self._is_folder(name.rpartition(b"/")[0]):
            return "gone"
        path = self._top + b"/" + name
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return "gone"
        except OSError:
            return "unreadable"
        if stat.S_ISDIR(mode):
            # A tracked file became a folder: the file is gone, and what is in the folder is listed by itself.
            return "nested_repository" if os.path.lexists(path + b"/.git") else "gone"
        if stat.S_ISREG(mode):
            return "file" if os.access(path, os.R_OK) else "unreadable"
        return "file" if stat.S_ISLNK(mode) else "gone"

    def _is_folder(self, folder: bytes) -> bool:
        known = self._folders.get(folder)
        if known is None:
            known = self._is_folder(folder.rpartition(b"/")[0])
            if known:
                try:
                    known = stat.S_ISDIR(os.lstat(self._top + b"/" + folder).st_mode)
                except OSError:
                    known = False
            self._folders[folder] = known
        return known

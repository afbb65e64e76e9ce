"""Turning files into tree objects without touching the index they belong to.

A copy of an index, with its time stamps, tells git which files it need not read. Names of what changed come
from `diff-files` and `ls-files`, and only those are read; `git add` is not used, because it starts `git
status` inside submodules (on their configuration) and stops whole at one nested repository.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .keep import Keep
from .trees import Entry

SkipReason = Literal["nested_repository", "unreadable", "in_submodule"]


@dataclass(frozen=True)
class Skipped:
    """A file that could not become part of a tree, and why."""

    name: bytes
    reason: SkipReason


@dataclass(frozen=True)
class Found:
    """Files as they are now.

    Attributes:
        entries: what each name holds; None where there is no file.
        skipped: files left out.
    """

    entries: Mapping[bytes, Entry | None]
    skipped: tuple[Skipped, ...]


def find_changed(keep: Keep, work_tree: Path, index: Path, *, untracked: bool) -> set[bytes]:
    """Name the files that may differ from an index.

    Args:
        keep: our git folder.
        work_tree: the files.
        index: what they are compared with; it is not written.
        untracked: whether files the index does not know and nothing ignores are named.
    """

    def differing() -> bytes:
        return keep.run(
            "diff-files", "-z", "--name-only", "--ignore-submodules=all", work_tree=work_tree, index=index
        ).out

    def others() -> bytes:
        return keep.run(
            "ls-files", "-z", "--others", "--exclude-standard", work_tree=work_tree, index=index
        ).out

    if not untracked:
        return set(split_names(differing()))
    with ThreadPoolExecutor(1) as beside:  # each reads every folder; together they take as long as one
        listed = beside.submit(others)
        return set(split_names(differing())) | set(split_names(listed.result()))


def hash_files(
    keep: Keep,
    work_tree: Path,
    index: Path,
    names: Iterable[bytes],
    *,
    seed: Mapping[bytes, Entry | None] | None = None,
    own_disk: bool = False,
) -> Found:
    """Read files into objects, as `git add` would.

    Args:
        keep: where the objects go.
        work_tree: the files.
        index: an index of just these files is made here, with their stat data.
        names: which files.
        seed: modes they have in git, for file systems that cannot say.
        own_disk: whether the files lie on the state folder's disk, whatever the user's can tell.
    """
    index.unlink(missing_ok=True)
    look = _Look(os.fsencode(work_tree))
    entries: dict[bytes, Entry | None] = {}
    skipped: list[Skipped] = []
    present: list[bytes] = []
    for name in sorted(set(names)):
        match look.at(name):
            case "file":
                present.append(name)
            case "gone":
                entries[name] = None
            case reason:
                skipped.append(Skipped(name.rstrip(b"/"), reason))
    if present:
        if seed:
            known = [(seed.get(name), name) for name in present]
            lines = [f"{entry.mode} {entry.id}\t".encode() + name for entry, name in known if entry]
            if lines:
                keep.run("update-index", "-z", "--index-info", index=index, stdin=b"\0".join(lines) + b"\0")
        able = ("-c", "core.fileMode=true", "-c", "core.symlinks=true") if own_disk else ()
        stdin = b"\0".join(present) + b"\0"
        run = ("update-index", "-z", "--add", "--replace", "--stdin")
        keep.run(*able, *run, work_tree=work_tree, index=index, stdin=stdin)
        entries.update(read_index(keep, index))
    return Found(entries, tuple(skipped))


def read_index(keep: Keep, index: Path, *, only: str = "") -> dict[bytes, Entry]:
    """List an index: what each name holds, limited to one mode where that is given."""
    found: dict[bytes, Entry] = {}
    for line in split_names(keep.run("ls-files", "-z", "--stage", index=index).out):
        if not line.startswith(only.encode()):
            continue
        what, _, name = line.partition(b"\t")
        mode, content, _ = what.decode().split(" ")
        found[name] = Entry(mode, content)
    return found


def take_snapshot(keep: Keep, work_tree: Path, start: Path, scratch: Path, *, untracked: bool) -> str:
    """Make a tree of all files of a work tree.

    Args:
        keep: where new objects go.
        work_tree: the files; they are only read.
        start: the index they belong to; it is copied. A missing one means an empty index.
        scratch: where the copy goes; kept for the caller.
        untracked: whether files the index does not know and nothing ignores are taken in.

    Returns:
        The tree's id. Repositories inside the tree, and files nobody may read, are as the index has them.
    """
    copy_index(start, scratch)
    look = _Look(os.fsencode(work_tree))
    found: dict[str, list[bytes]] = {"file": [], "gone": [], "nested_repository": [], "unreadable": []}
    for name in sorted(find_changed(keep, work_tree, scratch, untracked=untracked)):
        found[look.at(name)].append(name)
    # Deletions first, and by force: git would not look below a folder that became a symbolic link.
    for names, how in ((found["gone"], ("--force-remove",)), (found["file"], ("--add", "--replace"))):
        if names:
            stdin = b"\0".join(names) + b"\0"
            keep.run("update-index", "-z", *how, "--stdin", work_tree=work_tree, index=scratch, stdin=stdin)
    return keep.run("write-tree", "--missing-ok", index=scratch).text


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

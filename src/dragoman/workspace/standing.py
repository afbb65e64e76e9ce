"""What a snapshot would start from, told by a short name: equal names mean nothing was changed in between."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from .keep import make_keep
from .repository import Repository
from .snapshot import copy_index, find_changed


def standing(repository: Repository) -> str:
    """Name the state of the work tree: HEAD, index, and every file that differs from it or is new.

    Files are told apart by kind, size and time, not read: it costs about what `git status` does, however
    large the files are. A file that was written again with the same content gives another name, never the
    other way round.

    Args:
        repository: only read; a git folder of our own in the temp dir does the comparing.

    Returns:
        Hexadecimal digits.

    Raises:
        GitFailed, OSError: it cannot be told.
    """
    with tempfile.TemporaryDirectory(prefix="dragoman-") as folder:
        keep = make_keep(repository, Path(folder) / "keep.git")
        index = keep.dir / "index.standing"
        copy_index(repository.index, index)
        # Whatever is staged, in one id. Before a merge is resolved there is no tree of it.
        staged = keep.run("ls-files", "-z", "--unmerged", index=index).out
        if not staged:
            staged = keep.run("write-tree", "--missing-ok", index=index).out
        told = hashlib.sha256(f"{repository.head()}\n".encode() + staged)
        top = os.fsencode(repository.root)
        for name in sorted(find_changed(keep, repository.root, index, untracked=True)):
            told.update(name + b"\0" + _seen(os.path.join(top, name)) + b"\n")  # noqa: PTH118 - bytes
    return told.hexdigest()


def _seen(path: bytes) -> bytes:
    try:
        seen = os.lstat(path)
    except OSError:
        return b"gone"
    return f"{seen.st_mode:o} {seen.st_size} {seen.st_mtime_ns} {seen.st_ino}".encode()

"""A fingerprint of what a worker must not touch: the user's refs, index, configuration and hooks.

Files only, read and hashed; git is not asked, since asking it may already write (an index refresh).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .repository import Repository

Part = Literal["head", "index", "refs", "config", "hooks"]

_PARTS: dict[Part, tuple[str, ...]] = {
    "head": ("HEAD",),
    "index": ("index",),
    "refs": ("refs", "packed-refs"),
    "config": ("config", "config.worktree", "info"),
    "hooks": ("hooks",),
}


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of the parts of a repository's git folder.

    Attributes:
        parts: sha256 by part; equal hashes mean equal names, kinds, modes and contents.
    """

    parts: dict[Part, str]

    def differences(self, other: Fingerprint) -> tuple[Part, ...]:
        """The parts in which the two differ."""
        return tuple(part for part in _PARTS if self.parts[part] != other.parts[part])


def fingerprint(repository: Repository) -> Fingerprint:
    """Hash what a worker must not touch, in the work tree's own git folder and the shared one.

    Args:
        repository: the user's repository; only read.
    """
    folders = list(dict.fromkeys((repository.git_dir, repository.common_dir)))
    return Fingerprint({part: _hash(folders, names) for part, names in _PARTS.items()})


def _hash(folders: list[Path], names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for name in names:
            for path in _walk(folder / name):
                for piece in _describe(path, folder):
                    digest.update(b"%d:" % len(piece))
                    digest.update(piece)
    return digest.hexdigest()


def _walk(path: Path) -> Iterator[Path]:
    """The path itself and everything below it, sorted, symlinks not followed."""
    yield path
    if path.is_dir() and not path.is_symlink():
        for child in sorted(path.iterdir()):
            yield from _walk(child)


def _describe(path: Path, folder: Path) -> tuple[bytes, bytes, bytes]:
    """Name, mode and content of one entry."""
    name = os.fsencode(path.relative_to(folder))
    try:
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(found.st_mode):
            content = os.fsencode(path.readlink())
        else:
            content = b""
    except FileNotFoundError:
        return name, b"absent", b""
    return name, b"%o" % found.st_mode, content

"""Run folders that are old enough to go."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dragoman.jobs.folder import RunFolder
from dragoman.process.locks import is_locked

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run folder that went, or would go, or stays in spite of its age.

    Attributes:
        id: the run's id.
        bytes: what it takes on disk.
        kept_because: why it stays; None when it goes.
    """

    id: str
    bytes: int
    kept_because: str | None


def sweep_runs(
    runs: Path,
    days: int,
    *,
    has_work: Callable[[str], bool],
    execute: bool,
    wall: Callable[[], float] = time.time,
) -> list[OldRun]:
    """Remove folders of runs nothing was written to for so many days.

    A run that lives is never removed, nor one whose workspace still holds its work.

    Args:
        runs: the folder of run folders.
        days: least age; 0 keeps all.
        has_work: whether a workspace of this run exists.
        execute: do it; otherwise it is only said.
        wall: Unix seconds.
    """
    if not days or not runs.is_dir():
        return []
    found: list[OldRun] = []
    for folder in sorted(runs.iterdir()):
        if folder.is_symlink() or not folder.is_dir():
            continue
        size, newest = measure(folder)
        if wall() - newest < days * _DAY_S:
            continue
        kept = None
        if is_locked(RunFolder(folder).lock_file):
            kept = "it runs"
        elif has_work(folder.name):
            kept = "its workspace is still there"
        elif execute:
            shutil.rmtree(folder, ignore_errors=True)
            kept = "it could not be removed" if folder.exists() else None
        found.append(OldRun(folder.name, size, kept))
    return found


def measure(folder: Path) -> tuple[int, float]:
    """What a folder takes on disk in bytes, and when something in it was last written, in Unix seconds."""
    size, newest = 0, 0.0
    for path in (folder, *folder.rglob("*")):
        try:
            found = path.lstat()
        except OSError:
            continue
        size += found.st_blocks * 512
        newest = max(newest, found.st_mtime)
    return size, newest

"""The journal of an apply under way: enough to take back, or complete, what a killed process left."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .locks import drop_index_lock
from .store import Applied, private_folder, read_applied, write_private

Phase = Literal["locking", "writing", "done"]
_VERSION = 1


@dataclass(frozen=True)
class Identity:
    """What tells one file from another, and from itself after an edit.

    The change time is left out on purpose: a rename alters it.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    mode: int

    @staticmethod
    def of(details: os.stat_result) -> Identity:
        """The identity of a file looked at."""
        return Identity(details.st_dev, details.st_ino, details.st_size, details.st_mtime_ns, details.st_mode)

    def same_file(self, details: os.stat_result) -> bool:
        """Whether this is the same file, edited or not."""
        return (self.device, self.inode) == (details.st_dev, details.st_ino)


@dataclass(frozen=True)
class Step:
    """One file to be written or removed.

    Attributes:
        number: names the old file in the staging folder.
        name: the file, relative to the top.
        had: the file there before; None when there was none.
        new: the prepared file; None when the old one is only removed.
    """

    number: int
    name: bytes
    had: Identity | None
    new: Identity | None


@dataclass(frozen=True)
class Journal:
    """An apply under way.

    Attributes:
        workspace: id of the workspace.
        root: top of the user's work tree.
        staging: folder on the same file system, holding `new/` (prepared files) and `old/` (files taken
            away).
        lock: the user's index lock, taken so that no git command of the user's runs meanwhile.
        lock_content: what we wrote into it, to know it again.
        phase: `locking` nothing of the user's was touched, `writing` it may have been, `done` all of it was.
        steps: in the order they are carried out.
        new_folders: folders that did not exist before.
        old_folders: folders that may become empty and be removed, with their permissions.
        folder_mode: permissions of new folders.
        entry: what the workspace's record gets when it is done.
    """

    workspace: str
    root: Path
    staging: Path
    lock: Path
    lock_content: str
    phase: Phase
    steps: tuple[Step, ...] = ()
    new_folders: tuple[bytes, ...] = ()
    old_folders: tuple[tuple[bytes, int], ...] = ()
    folder_mode: int = 0o755
    entry: Applied | None = None


def journal_file(store: Path, key: str) -> Path:
    """Where the journal of a repository lies; there is at most one, since applies take turns."""
    return store / "journal" / f"{key}.json"


def write_journal(path: Path, journal: Journal) -> None:
    """Write the journal and wait until the disk has it."""
    private_folder(path.parent)
    values = {
        "version": _VERSION,
        "workspace": journal.workspace,
        "root": os.fsdecode(journal.root),
        "staging": os.fsdecode(journal.staging),
        "lock": os.fsdecode(journal.lock),
        "lock_content": journal.lock_content,
        "phase": journal.phase,
        "steps": [
            [step.number, _text(step.name), _identity(step.had), _identity(step.new)]
            for step in journal.steps
        ],
        "new_folders": [_text(name) for name in journal.new_folders],
        "old_folders": [[_text(name), mode] for name, mode in journal.old_folders],
        "folder_mode": journal.folder_mode,
        "entry": asdict(journal.entry) if journal.entry else None,
    }
    write_private(path, json.dumps(values).encode(), durable=True)


def drop_staging(staging: Path) -> bool:
    """Remove a staging folder, and say whether it is gone."""
    if staging.is_dir() and not staging.is_symlink():
        shutil.rmtree(staging, ignore_errors=True)
    return not os.path.lexists(staging)


def clear_journal(path: Path, journal: Journal) -> None:
    """Remove every trace of an apply. The journal goes last, and stays if a trace could not be removed."""
    gone = drop_staging(journal.staging)
    drop_index_lock(journal.lock, journal.lock_content)
    if gone:
        path.unlink(missing_ok=True)


def read_journal(path: Path) -> Journal:
    """Read a journal.

    Raises:
        ValueError: not one of ours.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
        entry = raw["entry"]
        return Journal(
            workspace=raw["workspace"],
            root=Path(raw["root"]),
            staging=Path(raw["staging"]),
            lock=Path(raw["lock"]),
            lock_content=raw["lock_content"],
            phase=raw["phase"],
            steps=tuple(
                Step(
                    number,
                    _bytes(name),
                    Identity(*had) if had else None,
                    Identity(*new) if new else None,
                )
                for number, name, had, new in raw["steps"]
            ),
            new_folders=tuple(_bytes(name) for name in raw["new_folders"]),
            old_folders=tuple((_bytes(name), int(mode)) for name, mode in raw["old_folders"]),
            folder_mode=raw["folder_mode"],
            entry=read_applied(entry) if entry else None,
        )
    except (TypeError, KeyError, ValueError) as problem:
        raise ValueError(f"{path} is not a journal: {problem}") from None


def _identity(known: Identity | None) -> list[int] | None:
    return known and [known.device, known.inode, known.size, known.mtime_ns, known.mode]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")

"""Which session folders are kept: the newest ones, and never less than those that run."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dragoman.bridge.mailbox import Mailbox
from dragoman.bridge.session import SessionFolder, SessionUnknown, is_session_id, open_sessions
from dragoman.config.paths import Home
from dragoman.process.locks import FileLock, LockHeld

# A bridge that was killed comes back within seconds; one that has said nothing for this long does not.
_SILENT_S = 3600.0


@dataclass(frozen=True, slots=True)
class OldSession:
    """A session that is kept no longer.

    Attributes:
        folder: its folders.
        size_bytes: of everything in them.
    """

    folder: SessionFolder
    size_bytes: int


def plan_session_retention(
    home: Home, keep: int, *, wall: Callable[[], float] = time.time
) -> list[OldSession]:
    """Sessions beyond the newest `keep` that neither run nor may come back; touches nothing.

    Args:
        home: whose sessions.
        keep: how many are kept, whatever their age; running ones beyond that are kept too.
        wall: seconds since the epoch.
    """
    named = [one for one in open_sessions(home) if is_session_id(one.path.name) and not one.path.is_symlink()]
    return [
        OldSession(one, _size(one.path) + _size(one.private))
        for one in named[keep:]
        if not _may_live(one, wall())
    ]


def run_session_retention(old: list[OldSession]) -> list[OldSession]:
    """Delete them; one that has come to life since is left alone.

    Returns:
        Those that are gone.
    """
    return [one for one in old if _delete(one.folder)]


def _may_live(folder: SessionFolder, now: float) -> bool:
    mailbox = Mailbox(folder.bridge)
    if mailbox.bridge_lives():
        return True
    with contextlib.suppress(SessionUnknown):
        if folder.read().ended_at is not None:
            return False
    times = [_changed(path) for path in (mailbox.state_file, folder.session_file, folder.path)]
    return now - max(times) < _SILENT_S


def _delete(folder: SessionFolder) -> bool:
    lock = FileLock(Mailbox(folder.bridge).lock_file, note="retention")
    try:
        if folder.bridge.is_dir():
            lock.acquire(timeout_s=0.0)
    except (LockHeld, OSError):
        return False
    try:
        for path in (folder.private, folder.path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
    except OSError:
        return False
    finally:
        lock.release()
    return True


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(root) / name).lstat().st_size
    return total

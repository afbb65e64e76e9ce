"""Locks that keep two applies, and an apply and the user's own git commands, apart."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Generator
from pathlib import Path

from .errors import RepositoryBusy
from .store import private_folder

_POLL_S = 0.02


def repository_key(root: Path) -> str:
    """Name a work tree in the store; linked work trees of one repository have names of their own."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:24]


@contextlib.contextmanager
def repository_lock(store: Path, root: Path, *, wait_s: float) -> Generator[int]:
    """Hold the lock of a work tree in this store.

    The kernel frees it when the last process that has it ends, also by `kill -9`. Commands started meanwhile
    inherit the descriptor, so recovery waits for them as well.

    Args:
        store: the state folder.
        root: top of the work tree.
        wait_s: how long to wait for another holder, in seconds.

    Raises:
        RepositoryBusy: still held after that.
    """
    path = private_folder(store / "locks") / f"{repository_key(root)}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise RepositoryBusy(
                        f"another apply is under way in {root}", hint="wait until it is done, then try again"
                    ) from None
                time.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def take_index_lock(lock: Path, content: str) -> None:
    """Take git's own lock on the user's index, so that no git command changes files or HEAD meanwhile.

    It appears with its content in one step (a link), so that one left behind can be told from git's.

    Raises:
        RepositoryBusy: a git command has it, or left it behind.
    """
    draft = lock.with_name(f"{content}.lock-draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content.encode())
        os.close(descriptor)
        os.link(draft, lock)
    except FileExistsError:
        raise RepositoryBusy(
            f"{lock} exists: a git command is at work in the repository",
            hint="finish it; if none is running, remove that file",
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def drop_index_lock(lock: Path, content: str) -> None:
    """Give the lock back, if it is ours, with what an interruption left of it."""
    lock.with_name(f"{content}.lock-draft").unlink(missing_ok=True)
    try:
        if lock.read_bytes() == content.encode():
            lock.unlink()
    except FileNotFoundError:
        return

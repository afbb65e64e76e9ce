"""Locks between processes: freed by the kernel when their last holder dies, whatever it died of."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from dragoman.errors import DragomanError, ExitCode
from dragoman.process.identity import ProcessIdentity, is_alive, own_identity

_RETRY_EVERY_S = 0.02
# `is_locked` holds a shared lock for an instant; an immediate attempt waits that long before it gives up.
_PROBE_GRACE_S = 0.1


@dataclass(frozen=True, slots=True)
class Holder:
    """Who took a lock.

    Attributes:
        identity: the process that took it; a child that inherited it may hold it still.
        note: what it said about itself, such as `daemon`.
    """

    identity: ProcessIdentity
    note: str = ""


class LockHeld(DragomanError):
    """Somebody else has the lock.

    Attributes:
        holder: who, when it could be read.
    """

    code = "lock_held"
    http_status = 409
    exit_code = ExitCode.CONFLICT

    def __init__(self, path: Path, holder: Holder | None) -> None:
        who = f"pid {holder.identity.pid}" if holder else "another process"
        super().__init__(f"{path} is locked by {who}")
        self.holder = holder


class FileLock:
    """An exclusive `flock` on a file that is never deleted.

    The lock belongs to the open file: a child given `fileno()` by `pass_fds` keeps it after we die, so
    what must not run twice passes it on. Two `FileLock` objects exclude each other in one process too.

    Args:
        path: the lock file; created 0600 in an existing folder.
        note: written into the file beside our identity.
    """

    def __init__(self, path: Path, *, note: str = "") -> None:
        self.path = path
        self._note = note
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def fileno(self) -> int:
        """The descriptor that carries the lock; for `pass_fds` of a child that shall keep it.

        Raises:
            ValueError: the lock is not held.
        """
        if self._fd is None:
            raise ValueError("lock is not held")
        return self._fd

    def acquire(
        self,
        *,
        timeout_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the lock.

        Args:
            timeout_s: how long to wait for another holder; 0 gives up at once.
            clock: seconds, monotonic.
            sleep: waits seconds.

        Raises:
            LockHeld: somebody else has it and kept it for `timeout_s`.
            OSError: the file cannot be opened.
        """
        if self._fd is not None:
            raise ValueError("lock is held already")
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        started = clock()
        try:
            while not _try_lock(fd, fcntl.LOCK_EX):
                holder = read_holder(self.path)
                patience_s = timeout_s if holder else max(timeout_s, _PROBE_GRACE_S)
                if clock() - started >= patience_s:
                    raise LockHeld(self.path, holder)
                sleep(_RETRY_EVERY_S)
            os.ftruncate(fd, 0)
            os.pwrite(fd, msgspec.json.encode(Holder(own_identity(), self._note)), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Let go; children that inherited the descriptor lose the lock with us. Does nothing twice."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)

    def hand_over(self) -> None:
        """Close our descriptor without unlocking: from now on the child that inherited it is the holder."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def __enter__(self) -> Self:
        if self._fd is None:
            self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def read_holder(path: Path) -> Holder | None:
    """Who wrote itself into a lock file last, or None. That it is written does not mean it is locked."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock right now, without taking it for longer than an instant."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def live_holder(path: Path) -> Holder | None:
    """The holder of a lock that is held and whose writer still runs, else None."""
    holder = read_holder(path)
    if holder is None or not is_locked(path) or not is_alive(holder.identity):
        return None
    return holder


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True

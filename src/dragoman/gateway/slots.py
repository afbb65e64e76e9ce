"""How many requests a key may have at a time, counted by locked files.

A coding plan allows one or two requests at a time, over all gateway processes together. A lock on a file is
given back by the kernel when its holder dies, whatever it died of, so no slot is ever lost.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Slot:
    """A place taken. `release` gives it back; twice does nothing."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def release(self) -> None:
        """Give the place back."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


def take_slot(folder: Path, name: str, count: int) -> Slot | None:
    """Take one of `count` places called `name`, or None when all are taken. Never waits.

    Args:
        folder: where the lock files are; made when missing.
        name: letters and digits.
        count: how many places there are.

    Raises:
        OSError: the files cannot be made.
    """
    for place in range(count):
        path = folder / f"{name}.{place}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        return Slot(fd)
    return None

"""How many requests a key may have at a time, counted by locked files.

A coding plan allows one or two requests at a time, over all gateway processes together. A lock on a file is
given back by the kernel when its holder dies, whatever it died of, so no slot is ever lost.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path


class Slot:
    """A place taken. `release` gives it back; twice does nothing."""

    __slots__ = ("_give_back",)

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Give the place back."""
        if self._give_back is not None:
            give_back, self._give_back = self._give_back, None
            give_back()


class Slots:
    """Places by locked files, and by counting in this process alone while the disk takes no new file.

    Args:
        folder: where the lock files are; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counted: Counter[str] = Counter()

    def take(self, name: str, count: int) -> Slot | None:
        """Take one of `count` places called `name`, or None when all are taken. Never waits.

        Args:
            name: letters and digits.
            count: how many places there are.
        """
        left = count - self._counted[name]
        if left <= 0:
            return None
        try:
            return take_slot(self._folder, name, left)
        except OSError:
            self._counted[name] += 1
            return Slot(partial(self._count_back, name))

    def _count_back(self, name: str) -> None:
        self._counted[name] -= 1


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
        return Slot(partial(os.close, fd))
    return None

"""The parent's eye on `dragoman.toml`: a look a second at its mark, and a copy of what is in force.

The parent never reads what the file says; it only notices that it is another one. The copy is for children
that have to start while the file is wrong: a gateway that crashed must come back with what the others serve.
"""

from __future__ import annotations

import os

LOOK_EVERY_S = 1.0
# An editor may write in several steps: a change counts once the file has stayed as it is for so long.
SETTLE_S = 0.25
_MAX_BYTES = 4 << 20

Mark = tuple[int, int, int]


class ConfigWatch:
    """Notices that a file is another one than before.

    Args:
        file: the file; "" is never looked at.
        copy: where `keep` puts a copy of it.
        now: seconds, monotonic.
    """

    def __init__(self, file: str, copy: str, *, now: float) -> None:
        self._file = file
        self._copy = copy
        self._known = self._mark()
        self._seen = self._known
        self.next_look = now + LOOK_EVERY_S if file else float("inf")

    def changed(self, now: float) -> bool:
        """Whether it has changed since it was last `taken`, and has settled. A file that is gone has not.

        Args:
            now: seconds, monotonic.
        """
        if now < self.next_look:
            return False
        mark = self._mark()
        settled = mark is not None and mark != self._known and mark == self._seen
        self._seen = mark
        self.next_look = now + (LOOK_EVERY_S if mark in (self._known, None) or settled else SETTLE_S)
        return settled

    def taken(self) -> None:
        """The file as it is now has been read, well or not: it is no news any more."""
        self._known = self._seen = self._mark()

    def keep(self) -> None:
        """Copy the file as it is now: it is in force. A full disk keeps the copy before."""
        if not self._copy:
            return
        draft = f"{self._copy}~"
        try:
            content = self._content()
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                whole = os.write(fd, content) == len(content)
            finally:
                os.close(fd)
            if whole:
                os.replace(draft, self._copy)  # noqa: PTH105 - the parent does without pathlib
        except OSError:
            return

    def _content(self) -> bytes:
        try:
            fd = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.read(fd, _MAX_BYTES)
        finally:
            os.close(fd)

    def _mark(self) -> Mark | None:
        try:
            found = os.stat(self._file) if self._file else None  # noqa: PTH116
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_ino, found.st_size)

"""The daemon's log: JSON lines, appended by several processes, two files of bounded size at most.

Fields are chosen by us and short: ids, numbers, names, codes. No prompt, no answer, no header and no
exception text goes here; an exception is its type and the place it came from.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, Literal

Level = Literal["debug", "info", "warning", "error", "critical"]
_LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")

MAX_LOG_BYTES = 5_000_000
_MAX_FIELD_CHARS = 500
_CHECK_EVERY_LINES = 64


class JsonLog:
    """Appends to one file; when it is full it becomes `<name>.1`.

    Args:
        path: the log file, made 0600.
        role: which process speaks, such as `parent` or `gateway`.
        level: lines below it are dropped.
        max_bytes: size at which the file is put aside.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        path: str,
        role: str,
        *,
        level: Level = "info",
        max_bytes: int = MAX_LOG_BYTES,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._role = role
        self._kept = frozenset(_LEVELS[_LEVELS.index(level) :])
        self._max_bytes = max_bytes
        self._wall = wall
        self._fd: int | None = None
        self._lines = 0

    def write(self, level: Level, event: str, /, **fields: Any) -> None:
        """Add a line. A log that cannot be written is not worth failing for."""
        if level not in self._kept:
            return
        row = {
            "at": round(self._wall(), 3),
            "level": level,
            "role": self._role,
            "pid": os.getpid(),
            "event": event,
        }
        row.update((name, _short(value)) for name, value in fields.items())
        line = json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"
        try:
            if self._fd is None or self._lines % _CHECK_EVERY_LINES == 0:
                self._open()
            self._lines += 1
            if self._fd is not None:
                os.write(self._fd, line)
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        """(Re)open by path: another process may have put the file aside."""
        self.close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path, flags, 0o600)
        if os.fstat(fd).st_size >= self._max_bytes:
            os.close(fd)
            os.replace(self._path, self._path + ".1")  # noqa: PTH105 - the parent does without pathlib
            fd = os.open(self._path, flags, 0o600)
        self._fd = fd


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _MAX_FIELD_CHARS:
        return value[:_MAX_FIELD_CHARS] + "…"
    return value

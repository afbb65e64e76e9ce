"""Read the daemon's log back, for people and for programs."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

_LOOK_EVERY_S = 0.2
_LEADING = ("at", "level", "role", "pid", "event")


def last_lines(path: Path, count: int, *, until: int | None = None) -> list[str]:
    """The last lines of the log, the file put aside included.

    Args:
        path: the log file; it need not exist.
        count: how many lines at most.
        until: where to end in the file, in bytes; its end when None.
    """
    older = path.with_name(path.name + ".1")
    return list(deque(chain(_lines(older), _lines(path, until)), maxlen=count))


def follow(
    path: Path, *, start: int | None = None, sleep: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """Every line that is added from now on, for ever; goes on in the new file when the old one is put aside.

    Args:
        path: the log file; it need not exist yet.
        start: where to begin in the file, in bytes; its end when None.
        sleep: waits seconds.
    """
    position = size_of(path) if start is None else start
    inode = path.stat().st_ino if path.exists() else 0
    rest = b""
    while True:
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != inode or found.st_size < position:
                    inode, position, rest = found.st_ino, 0, b""
                file.seek(position)
                added = file.read()
        except FileNotFoundError:
            added = b""
        position += len(added)
        *lines, rest = (rest + added).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)
        if not added:
            sleep(_LOOK_EVERY_S)


def size_of(path: Path) -> int:
    """The bytes in the log file now: what is shown ends here, what is followed begins."""
    return path.stat().st_size if path.exists() else 0


def for_people(line: str) -> str:
    """A line of the log as a person reads it: local time, who, what, and the rest as `name=value`."""
    try:
        row = json.loads(line)
        moment = time.strftime("%H:%M:%S", time.localtime(row["at"]))
        who = f"{row['role']}[{row['pid']}]"
        rest = " ".join(f"{name}={value}" for name, value in row.items() if name not in _LEADING)
        loud = "" if row["level"] in ("debug", "info") else f"{row['level'].upper()} "
        return f"{moment} {who} {loud}{row['event']} {rest}".rstrip()
    except (ValueError, KeyError, TypeError, AttributeError):
        return line


def _lines(path: Path, until: int | None = None) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            for line in file:
                if until is not None and file.tell() > until:
                    return
                yield line.decode("utf-8", "replace").rstrip("\n")
    except FileNotFoundError:
        return

"""What is under way, on disk: so that a gateway's sudden death leaves no call uncounted.

A call's row is written at its end; a call that never ends because its gateway was killed would leave none.
Calls that have been open for a while are therefore noted twice a second in one small sheet a process,
overwritten in place, nothing in it while nothing is under way. The ledger reads the sheets of the dead
(see `dragoman.ledger.intake`): their lock is free.

A sheet is a line with the length of what follows, then a `UsageRow` as JSON a line. It is written by one
system call, so a kill leaves the old sheet or the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from .conversation import Conversation
from .spool import UsageRow

# A kill takes the last second of what is known with it, no more.
NOTE_EVERY_S = 0.5
_HEAD = b"%012d\n"
_HEAD_BYTES = 13
_DECODER = msgspec.json.Decoder(UsageRow)


class OpenCalls:
    """Notes the calls of one gateway process while they last.

    Args:
        folder: the spool folder.
        clock: seconds, monotonic.
        wall: Unix seconds.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._wall = wall
        self._open: dict[int, Conversation] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fd: int | None = None
        self._file: Path | None = None
        self._noted = b""
        self._encode = msgspec.json.Encoder().encode

    @contextlib.contextmanager
    def held(self, talk: Conversation) -> Iterator[None]:
        """A call is under way until the block ends."""
        self._open[id(talk)] = talk
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTE_EVERY_S, self._on_time)
        try:
            yield
        finally:
            del self._open[id(talk)]

    def close(self) -> None:
        """Nothing is under way any more: the sheet goes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fd is not None and self._file is not None:
            self._file.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def _on_time(self) -> None:
        self._timer = None
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(NOTE_EVERY_S, self._on_time)
        before = self._clock() - NOTE_EVERY_S
        rows = [
            talk.so_far()
            for talk in self._open.values()
            if talk.so_far is not None and talk.incoming.started <= before
        ]
        data = b"".join(self._encode(row) + b"\n" for row in rows)
        if data != self._noted:
            self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            if self._fd is None:
                self._fd = self._begin()
            os.pwrite(self._fd, _HEAD % len(data) + data, 0)
            os.ftruncate(self._fd, _HEAD_BYTES + len(data))
        except OSError:
            return  # a full disk: the rows themselves are waiting, too
        self._noted = data

    def _begin(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{int(self._wall() * 1000)}-{os.getpid()}-{secrets.token_hex(4)}.open"
        self._file = self._folder / name
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd


def read_sheet(data: bytes) -> list[UsageRow]:
    """The rows of a sheet; what cannot be read is left out."""
    head, body = data[:_HEAD_BYTES], data[_HEAD_BYTES:]
    if len(head) < _HEAD_BYTES or not head[:-1].isdigit():
        return []
    rows: list[UsageRow] = []
    for line in body[: int(head)].splitlines():
        with contextlib.suppress(msgspec.MsgspecError):
            rows.append(_DECODER.decode(line))
    return rows

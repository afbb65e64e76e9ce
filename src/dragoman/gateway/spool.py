"""The usage spool: one JSON line for each request, appended by gateways, taken in by the ledger.

A gateway must never wait for a database, so it only appends. Every gateway process writes files of its own,
`<home.spool>/<start>-<pid>-<random>.jsonl`, where start is Unix milliseconds; a file is closed and a new one
begun when it is large. Readers go by these rules:

- a line is a `UsageRow` as JSON; unknown fields are from a newer gateway and are ignored;
- a last line without its line end is still being written, or was torn by a crash: leave it, and drop it once
  the file can be locked;
- `id` is unique; taking a row in twice must change nothing;
- rows are on disk at most `FLUSH_AFTER_S` after the end of their request;
- its writer holds a lock (flock) on a file for as long as it may write to it, and the file has its name only
  once it is locked: a file that can be locked, and whose rows are all in, may be deleted;
- a line with `lost` instead of a request (`LostRows`) says how many rows were given up before it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from dragoman.wire.turns import Wire

from .tariffs import PriceSource

FLUSH_AFTER_S = 0.25
MAX_FILE_BYTES = 4 << 20
_MAX_WAITING_ROWS = 20_000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

UsageSource = Literal["reported", "estimated", "none"]
"""`reported` by the upstream, `estimated` by us from sizes, or `none`: nothing is known."""

Outcome = Literal["ok", "failed", "client_left", "refused"]
"""`ok`: the upstream finished. `failed`: the client was told an error, before or inside its stream.
`client_left`: it hung up first. `refused`: we said no before any upstream was asked."""


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request, as the ledger wants to know it.

    Attributes:
        id: the request's id, unique.
        at: Unix seconds when the request arrived.
        client: program and version, such as `claude-cli/2.1.197`.
        session, turn: the client's own ids, "" when it has none.
        token: the id of the token shown, "" for an open data plane.
        run: the delegated run the token was made for.
        client_wire, upstream_wire: the wires spoken on either side.
        model: the name the client asked for.
        provider, upstream_model: where it went; the last one tried when several were.
        key: the label of the provider's key, never the key.
        stream: whether the client asked for a stream.
        input_tokens: everything the prompt cost, cache reads and writes included.
        cache_read_tokens, cache_write_tokens: parts of `input_tokens`.
        output_tokens: everything generated, reasoning included.
        reasoning_tokens: part of `output_tokens`.
        usage_source: how the tokens are known.
        cost_usd: what they cost by the tariff of the minute it arrived; None when that is not known here.
        price_source: where the price is from, or why there is none.
        status: the HTTP status the client got; 0 when it left before there was one.
        outcome: how it ended.
        failure: the failure code when it did not end well (see `dragoman.wire.errors.FailureCode`).
        ttfb_ms: from the request's arrival to the first byte of the answer's body; None when there was none.
        total_ms: from the request's arrival to its end.
        gateway_ms: the part of `total_ms` that was our own work rather than waiting for either side.
        retries: upstream requests beyond the first.
        shims: what was changed on purpose on the way.
    """

    id: str
    at: float
    client: str = ""
    session: str = ""
    turn: str = ""
    token: str = ""
    run: str | None = None
    client_wire: Wire
    upstream_wire: Wire | None = None
    model: str = ""
    provider: str = ""
    upstream_model: str = ""
    key: str = ""
    stream: bool = False
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: UsageSource = "none"
    cost_usd: float | None = None
    price_source: PriceSource = ""
    status: int = 0
    outcome: Outcome
    failure: str | None = None
    ttfb_ms: float | None = None
    total_ms: float = 0.0
    gateway_ms: float = 0.0
    retries: int = 0
    shims: tuple[str, ...] = ()


class LostRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows a gateway had to give up because its disk took none for too long.

    Attributes:
        id: unique.
        lost: how many.
        since, until: Unix seconds between which they arrived.
    """

    id: str
    lost: int
    since: float
    until: float


class Spool:
    """Appends usage rows for one gateway process.

    Rows wait in memory until a timer writes them all at once; a disk that refuses keeps them waiting, and
    only when there are very many the oldest are given up and counted in `lost`; the next row that reaches the
    disk is preceded by their number.

    Args:
        folder: the spool folder, 0700; made when missing.
        wall: Unix seconds.
        new_id: letters that make the file's name unique.
    """

    def __init__(
        self,
        folder: Path,
        *,
        wall: Callable[[], float],
        new_id: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self.lost = 0
        self.folder = folder
        self._wall = wall
        self._new_id = new_id
        self._encode = msgspec.json.Encoder().encode
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._given_up: LostRows | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fd: int | None = None
        self._written = 0

    def append(self, row: UsageRow) -> None:
        """Note a row; it is on disk within `FLUSH_AFTER_S`."""
        self._waiting.append((row.at, self._encode(row)))
        if len(self._waiting) > _MAX_WAITING_ROWS:
            self._give_up(self._waiting.popleft()[0])
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self._on_time)

    def flush(self) -> bool:
        """Write what waits; False when the disk refused and it waits on."""
        if not self._waiting:
            return True
        told = [] if self._given_up is None else [self._encode(self._given_up)]
        data = b"\n".join([*told, *(line for _, line in self._waiting)]) + b"\n"
        try:
            fd = self._file()
            written = os.write(fd, data)
        except OSError as error:
            if error.errno not in _FULL:
                self._close_file()
            return False
        if written < len(data):
            self._keep_whole_lines(data[:written], bool(told))
            return False
        self._waiting.clear()
        self._given_up = None
        self._written += written
        if self._written >= MAX_FILE_BYTES:
            self._close_file()
        return True

    def close(self) -> None:
        """Write what waits and close the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        self._close_file()

    def _give_up(self, at: float) -> None:
        self.lost += 1
        before = self._given_up or LostRows(id=self._new_id() + self._new_id(), lost=0, since=at, until=at)
        self._given_up = msgspec.structs.replace(before, lost=before.lost + 1, until=at)

    def _keep_whole_lines(self, written: bytes, told: bool) -> None:
        """The disk took a part. The torn line goes, so that what follows it is read."""
        whole = written.rfind(b"\n") + 1
        lines = written.count(b"\n")
        if told and lines:
            self._given_up = None
            lines -= 1
        for _ in range(lines):
            self._waiting.popleft()
        self._written += whole
        try:
            os.ftruncate(self._file(), self._written)
        except OSError:
            self._close_file()

    def _on_time(self) -> None:
        self._timer = None
        if not self.flush():
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self._on_time)

    def _file(self) -> int:
        if self._fd is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = f"{int(self._wall() * 1000)}-{os.getpid()}-{self._new_id()}"
            unnamed, file = self.folder / f"{name}.new", self.folder / f"{name}.jsonl"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            fd = os.open(unnamed, flags, 0o600)
            try:
                # Held until it is closed or we die: that is how the ledger knows that no more will come.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unnamed.rename(file)
            except OSError:
                os.close(fd)
                raise
            self._fd = fd
            self._written = 0
        return self._fd

    def _close_file(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

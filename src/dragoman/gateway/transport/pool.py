"""Idle connections, newest first: the one used last is the least likely to have been closed by its server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from .address import Origin
from .connection import Connection
from .proxies import Proxy


@dataclass(frozen=True, slots=True)
class Path:
    """What connections are shared by: the origin and the proxy in between."""

    origin: Origin
    proxy: Proxy | None = None


class Pool:
    """Keeps idle connections of every path, each for a limited time.

    Args:
        loop: whose timers end them.
        per_path: how many are kept for one path.
        keep_idle_s: for how long.
        on_empty: told of a path when a connection is gone and no other is idle.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        per_path: int,
        keep_idle_s: float,
        on_empty: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self._loop = loop
        self._per_path = per_path
        self._keep_idle_s = keep_idle_s
        self._on_empty = on_empty
        self._idle: dict[Path, list[Connection]] = {}
        self._timers: dict[Connection, asyncio.TimerHandle] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._timers)

    def holds(self, path: Path) -> bool:
        """Whether a living idle connection is here."""
        return any(connection.alive for connection in self._idle.get(path, ()))

    def take(self, path: Path) -> Connection | None:
        """A living idle connection, or None."""
        idle = self._idle.get(path)
        while idle:
            connection = idle.pop()
            self._stop_timer(connection)
            if connection.alive:
                return connection
        return None

    def adopt(self, path: Path, connection: Connection) -> None:
        """Have a connection come back here after each exchange that leaves it reusable."""
        connection.watch(lambda it: self._put(path, it), lambda it: self._forget(path, it))

    def close(self) -> None:
        """Close what is idle, and from now on whatever comes back."""
        self._closed = True
        for connection in list(self._timers):
            self._stop_timer(connection)
            connection.close()
        self._idle.clear()

    def _put(self, path: Path, connection: Connection) -> None:
        if self._closed:
            connection.close()
            return
        idle = self._idle.setdefault(path, [])
        idle.append(connection)
        self._timers[connection] = self._loop.call_later(self._keep_idle_s, self._expire, path, connection)
        if len(idle) > self._per_path:
            self._expire(path, idle[0])

    def _expire(self, path: Path, connection: Connection) -> None:
        self._forget(path, connection)
        connection.close()

    def _forget(self, path: Path, connection: Connection) -> None:
        self._stop_timer(connection)
        idle = self._idle.get(path)
        if idle is not None:
            if connection in idle:
                idle.remove(connection)
            if not idle:
                del self._idle[path]
        if not self._closed and not self.holds(path):
            self._on_empty(path)

    def _stop_timer(self, connection: Connection) -> None:
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

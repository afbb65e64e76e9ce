"""A run keeps its gateway: a daemon that was killed is started again by the runner whose worker needs it.

A daemon that was stopped on purpose takes its `daemon.json` along and is left alone; one that was killed
leaves it behind. Who else starts it at the same moment does no harm: one daemon comes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from urllib.parse import urlsplit

from dragoman.config.paths import Home
from dragoman.errors import DragomanError
from dragoman.jobs.telling import Emit
from dragoman.process.identity import ProcessIdentity, is_alive
from dragoman.process.spawn import Spawner, SpawnPlan, daemon_environment, spawn_detached

# An upgrade or a reload leaves the socket bound; a second without it is a death.
DEAD_AFTER_S = 1.0
_LOOK_EVERY_S = 0.25
_CONNECT_TIMEOUT_S = 1.0
# It answers half a second after its start, on a busy machine after a few; five tries are enough.
_PATIENCE_S = 5.0
_TRIES = 5

# Started by name: this room is below the daemon's and knows nothing else of it.
_DAEMON = "dragoman.daemon.starting"


class Relight:
    """Watches one gateway address and starts its daemon again.

    Parameters:
        home: whose daemon.
        url: the address the worker was given; the daemon comes back there, whatever port it would choose.
        env: the whole environment it is started with, provider keys included.
        reachable: whether somebody listens at a host and port.
        spawn: starts the process.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        home: Home,
        url: str,
        env: Mapping[str, str],
        *,
        reachable: Callable[[str, int], Awaitable[bool]] | None = None,
        spawn: Spawner = spawn_detached,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._home = home
        self._env = env
        self._reachable = reachable or _reachable
        self._spawn = spawn
        self._clock = clock
        self._dead_since: float | None = None
        self._next_try = 0.0
        self._started: list[ProcessIdentity] = []

    def pids(self) -> Iterable[int]:
        """Daemons started here: children of ours that are not the worker's."""
        return tuple(daemon.pid for daemon in self._started)

    async def watch(self, emit: Emit) -> None:
        """Look after the gateway until cancelled."""
        while True:
            await self.look(emit)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self, emit: Emit) -> None:
        """One look: tell when the gateway goes and comes, and start its daemon if it was killed."""
        now = self._clock()
        if await self._reachable(self._host, self._port):
            if self._dead_since is not None and now - self._dead_since >= DEAD_AFTER_S:
                emit("gateway", state="back")
            self._dead_since, self._next_try = None, 0.0
            return
        if self._dead_since is None:
            self._dead_since = now
        if now - self._dead_since < DEAD_AFTER_S or now < self._next_try:
            return
        if not self._next_try:
            emit("gateway", state="away")
        self._next_try = now + _PATIENCE_S
        if len(self._started) < _TRIES and self._was_killed():
            try:
                self._started.append(self._start())
            except DragomanError as error:
                emit("gateway", state="not_started", text=error.message)
            else:
                emit("gateway", state="started_again")

    def _was_killed(self) -> bool:
        """Whether a daemon is written down that does not live."""
        try:
            fields = json.loads(self._home.daemon_json.read_bytes())
            daemon = ProcessIdentity(int(fields["pid"]), str(fields["started_at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return not is_alive(daemon)

    def _start(self) -> ProcessIdentity:
        config = self._home.config_file
        options = {
            "host": self._host,
            "port": self._port,
            "config_file": str(config) if config.exists() else None,
        }
        return self._spawn(
            SpawnPlan(
                argv=(sys.executable, "-P", "-m", _DAEMON, json.dumps(options)),
                env=daemon_environment(self._env),
                cwd=self._home.state,
                log_file=self._home.logs / "stderr.log",
            )
        )


async def _reachable(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True

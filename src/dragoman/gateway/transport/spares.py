"""One connection at the ready where somebody is at work, so that the next request pays no handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .pool import Path


class Spares:
    """Decides when a connection is made ahead of its request.

    A spare is made when a client shows that it is about to ask (`begin`), and when the last idle connection
    of a place somebody has just used is gone, because its server closes early. There is one at a time for
    each place, and one for each request at most: a server that closes idle connections at once is not dialed
    for ever, and where nobody asks nobody is dialed.

    Args:
        loop: whose clock is read.
        dial: makes one idle connection; never raises.
        window_s: how long after a request its place counts as in use.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dial: Callable[[Path], Awaitable[object]],
        *,
        window_s: float,
    ) -> None:
        self._loop = loop
        self._dial = dial
        self._window_s = window_s
        self._owed: dict[Path, float] = {}
        self._making: dict[Path, asyncio.Task[None]] = {}

    def used(self, path: Path) -> None:
        """A request goes there: one spare may follow it."""
        if _is_worth_it(path):
            self._owed[path] = self._loop.time() + self._window_s

    def lost(self, path: Path) -> None:
        """The last idle connection of a place is gone."""
        if self._owed.pop(path, 0.0) > self._loop.time():
            self.begin(path)

    def begin(self, path: Path) -> None:
        """Make one, unless one is being made or a handshake there costs next to nothing."""
        if _is_worth_it(path) and path not in self._making:
            self._making[path] = self._loop.create_task(self._make(path))

    async def close(self) -> None:
        """Make no more, and leave none half made."""
        self._owed.clear()
        making = list(self._making.values())
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _make(self, path: Path) -> None:
        try:
            await self._dial(path)
        finally:
            del self._making[path]


def _is_worth_it(path: Path) -> bool:
    """TLS takes two to three journeys and 1 to 3 ms of CPU; what is plain is usually on this machine."""
    return path.origin.scheme == "https" and not path.origin.direct

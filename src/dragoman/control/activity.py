"""Whether anybody needs the control process: it leaves when nobody has for a while."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

Application = Callable[[Any, Any, Any], Awaitable[None]]


class Activity:
    """Requests being answered (an event feed is one all the while) and the time since the last.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open = 0
        self._last = clock()
        self._reasons: list[Callable[[], bool]] = []

    def stay_while(self, reason: Callable[[], bool]) -> None:
        """Register a room's reason to stay, such as work in progress."""
        self._reasons.append(reason)

    def idle_s(self) -> float:
        """Seconds since anybody needed us; 0 while somebody does."""
        if self._open or any(reason() for reason in self._reasons):
            self._last = self._clock()
            return 0.0
        return self._clock() - self._last

    def watch(self, app: Application) -> Application:
        """The same application, its requests counted."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self._open += 1
            try:
                await app(scope, receive, send)
            finally:
                self._open -= 1
                self._last = self._clock()

        return counted

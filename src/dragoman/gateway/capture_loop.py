"""An event loop on which waiting takes no time: what is due next happens now."""

from __future__ import annotations

import asyncio
import selectors


class Stuck(RuntimeError):
    """Everything waits, and for nothing that could come."""


class _NoWait(selectors.DefaultSelector):
    """A selector that never waits; it adds up what it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise Stuck
        if not found and timeout:
            self.skipped_s += timeout
        return found


class HurriedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock runs ahead instead of standing still, for plays that need no network."""

    def __init__(self) -> None:
        self._no_wait = _NoWait()
        super().__init__(self._no_wait)

    def time(self) -> float:
        """Seconds, those that were skipped included."""
        return super().time() + self._no_wait.skipped_s

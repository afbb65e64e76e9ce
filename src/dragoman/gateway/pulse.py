"""Measure the silence towards a client, with one timer a stream instead of one a delta."""

from __future__ import annotations

import asyncio

from .transport import Answer

SILENCE_S = 5.0
"""How long a client hears nothing before a stream is begun or a keep-alive sent. Clients with an idle timeout
of 8 s have been seen; proxies cut at 60 s; Codex re-arms its own timer on real events only."""


class Pulse:
    """Ends a pending read of `answer` each time nothing was written for `every_s`.

    The writer says `beat` after each write, and looks at `due` when a read came back without data.
    """

    __slots__ = ("_answer", "_every_s", "_last_at", "_loop", "_timer")

    def __init__(
        self, answer: Answer, *, loop: asyncio.AbstractEventLoop, every_s: float = SILENCE_S
    ) -> None:
        self._answer = answer
        self._every_s = every_s
        self._loop = loop
        self._last_at = self._loop.time()
        self._timer = self._loop.call_later(every_s, self._tick)

    @property
    def due(self) -> bool:
        """Whether the client has heard nothing for long enough."""
        return self._loop.time() >= self._last_at + self._every_s

    def beat(self) -> None:
        """Something was written."""
        self._last_at = self._loop.time()

    def stop(self) -> None:
        """No more."""
        self._timer.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        due_at = self._last_at + self._every_s
        if now >= due_at:
            self._answer.nudge()
            due_at = now + self._every_s
        self._timer = self._loop.call_at(due_at, self._tick)

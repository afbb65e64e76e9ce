"""Watching a worker: what it is busy with, whether it has fallen silent, whether it asks in vain.

Time is monotonic and passed in, so a clock that is set makes nobody look dead.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dragoman.workers.base import Denied, Retrying, Spawned, ToolAnswered, ToolCalled, WorkerEvent

Busy = Literal["model", "tool", "retrying_wait"]
"""What a worker is busy with; these are also phases of a job."""

EndReason = Literal["stalled", "permission"]


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """What is too much.

    Attributes:
        stall_warning_s: silence with no tool at work, then it is told; 0 for never. Claude Code says nothing
            while a block of an answer is being made, which takes minutes for a long one.
        stall_end_s: then it is ended; 0 for never. A gateway waits ten minutes for a first byte and five
            for the next one, so this is longer than both together.
        same_denial: times the very same call was refused, then it is ended: it will not learn.
        in_a_row: refusals with no call that went through between them, then it is ended.
    """

    stall_warning_s: float = 120.0
    stall_end_s: float = 1200.0
    same_denial: int = 8
    in_a_row: int = 20


class Watch:
    """Watches one worker.

    Parameters:
        policy: what is too much.
        on_busy: told when it turns to something else.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        policy: WatchPolicy,
        *,
        on_busy: Callable[[Busy], None] = lambda busy: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._on_busy = on_busy
        self._clock = clock
        self._heard_at = clock()
        self._tools: dict[str, str] = {}
        self._denied: Counter[tuple[str, str]] = Counter()
        self._in_a_row = 0
        self._warned = False
        self._busy: Busy | None = None
        self.end_reason: EndReason | None = None

    @property
    def quiet_s(self) -> float:
        """Seconds since it gave a sign of life."""
        return max(0.0, self._clock() - self._heard_at)

    @property
    def tool(self) -> str | None:
        """The tool at work, the one called last; None when none is."""
        return next(reversed(self._tools.values()), None)

    @property
    def denials(self) -> int:
        """Refused calls so far."""
        return self._denied.total()

    def heard(self, event: WorkerEvent) -> None:
        """Take an event of the worker."""
        self._heard_at = self._clock()
        self._warned = False
        match event:
            case ToolCalled():
                self._tools[event.id] = event.tool
            case ToolAnswered():
                self._tools.pop(event.id, None)
                if event.ok:
                    self._in_a_row = 0
            case Denied():
                self._tools.pop(event.id, None)
                self._take_denial(event)
            case Spawned():
                self._tools.clear()
            case _:
                pass
        self._turn_to("retrying_wait" if isinstance(event, Retrying) else "tool" if self._tools else "model")

    def look(self) -> Literal["warn", "end"] | None:
        """Whether something must be told, or the worker ended; `end_reason` then says why."""
        if self.end_reason is not None:
            return "end"
        if self._tools:
            return None  # a command may be silent for as long as its own time limit lets it
        policy = self._policy
        if policy.stall_end_s and self.quiet_s >= policy.stall_end_s:
            self.end_reason = "stalled"
            return "end"
        if policy.stall_warning_s and self.quiet_s >= policy.stall_warning_s and not self._warned:
            self._warned = True
            return "warn"
        return None

    def _take_denial(self, event: Denied) -> None:
        call = (event.tool, event.target)
        self._denied[call] += 1
        self._in_a_row += 1
        policy = self._policy
        if self._denied[call] >= policy.same_denial or self._in_a_row >= policy.in_a_row:
            self.end_reason = self.end_reason or "permission"

    def _turn_to(self, busy: Busy) -> None:
        if busy != self._busy:
            self._busy = busy
            self._on_busy(busy)

"""Signs of life of running jobs: the phase they are in, and for how long they have been silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dragoman.jobs.folder import RunFolder


@dataclass(slots=True)
class Pulse:
    """What is known of one run's liveliness.

    Attributes:
        offset: how far its events have been read, in bytes.
        phase: the last one told.
        told: the phase that was passed on last.
        last_event: number of the last event.
        alive_at: when something was heard last, monotonic seconds of ours.
    """

    offset: int = 0
    phase: str | None = None
    told: str | None = None
    last_event: int = 0
    alive_at: float = 0.0


class Pulses:
    """Feels the pulses of runs. Silence is measured by our own monotonic clock: a clock that is set, a
    machine that slept or a control process that was away make nobody look dead.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pulses: dict[str, Pulse] = {}
        self._lock = threading.Lock()

    def feel(self, folder: RunFolder) -> Pulse:
        """Read what a run has told since the last time."""
        with self._lock:
            pulse = self._pulses.setdefault(folder.path.name, Pulse(alive_at=self._clock()))
            for behind, event in folder.events(pulse.offset):
                pulse.offset, pulse.alive_at = behind, self._clock()
                pulse.last_event = event.get("n", pulse.last_event)
                if event.get("kind") == "phase":
                    pulse.phase = event.get("phase")
            return pulse

    def silent_s(self, pulse: Pulse) -> float:
        """Seconds since something was heard."""
        return max(0.0, self._clock() - pulse.alive_at)

    def forget(self, run_id: str) -> None:
        """Drop what is known of a run that is over."""
        with self._lock:
            self._pulses.pop(run_id, None)

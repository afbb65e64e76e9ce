"""Ctrl-C at any moment: once is enough, and never in the middle of a step that must not be cut."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_STDERR = 2


class Interruptions:
    """Turns the first SIGINT, SIGTERM, SIGHUP or SIGQUIT into a `KeyboardInterrupt` and passes over the rest.

    What runs after it is the clean-up, which a second key press must not cut short.
    """

    def __init__(self) -> None:
        self._held = 0
        self._pending = False
        self._interrupted = False

    @contextlib.contextmanager
    def handled(self) -> Iterator[Interruptions]:
        """Handle signals until the block ends; then they are what they were."""
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep an interruption back until the block is done: between a start and its being known."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._pending and not self._held:
            self._pending = False
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            return
        self._interrupted = True
        # Past Python's own buffers, which may be in the middle of a write; and the terminal may be gone.
        with contextlib.suppress(OSError):
            os.write(_STDERR, b"\ncleaning up; one moment\n")
        if self._held:
            self._pending = True
            return
        raise KeyboardInterrupt

"""What the bridge tells without being asked: its state, and what the screen shows while a round runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragoman.bridge.mailbox import Mailbox
from dragoman.bridge.screen import View

_STATE_EVERY_S = 1.0
_STREAM_EVERY_S = 0.2
_MAX_STREAM_BYTES = 1 << 20
# What somebody waits for; everything else may flicker.
_AT_ONCE = ("status", "request", "cc_pid")


class StateTeller:
    """Writes `state.json` when there is something new: what matters at once, what flickers once a second.

    Args:
        mailbox: whose state it is.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._told: dict[str, Any] = {}
        self._told_at = 0.0

    def tell(self, state: dict[str, Any], now: float, *, force: bool = False) -> None:
        """How things stand now.

        Args:
            state: all of it.
            now: seconds, monotonic.
            force: write whatever is new, however small.
        """
        if state == self._told:
            return
        small = all(state.get(key) == self._told.get(key) for key in _AT_ONCE)
        if small and not force and now - self._told_at < _STATE_EVERY_S:
            return
        self._told, self._told_at = state, now
        self._mailbox.write_state(state)


class ScreenStream:
    """Appends lines that are new on the screen to a command's stream, a few times a second, up to a limit.

    Args:
        path: the file that grows.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shown: tuple[str, ...] = ()
        self._at = 0.0
        self._bytes = 0

    def show(self, view: View, now: float) -> None:
        """The screen now; `now` in seconds, monotonic."""
        if now - self._at < _STREAM_EVERY_S or view.lines == self._shown:
            return
        known = set(self._shown)
        fresh = [line for line in view.lines if line.strip() and line not in known]
        self._shown, self._at = view.lines, now
        data = ("\n".join(fresh) + "\n").encode("utf-8", "replace") if fresh else b""
        if data and self._bytes + len(data) <= _MAX_STREAM_BYTES:
            self._bytes += len(data)
            with self._path.open("ab") as file:
                file.write(data)

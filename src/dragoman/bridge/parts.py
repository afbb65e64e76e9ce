"""What a bridge works with: everything that touches the world is passed in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from dragoman.bridge.asciicast import Recorder
from dragoman.bridge.hooks import Hook
from dragoman.bridge.mailbox import Mailbox
from dragoman.bridge.terminal import Terminal
from dragoman.bridge.timing import ScreenTiming
from dragoman.bridge.transcript import Transcript

Start = Literal["first", "resume", "fresh"]


class HookSource(Protocol):
    """Where hooks come from."""

    seen_any: bool

    def take(self) -> list[Hook]:
        """New ones."""
        ...


@dataclass
class Parts:
    """Everything a bridge works with; tests pass their own.

    Attributes:
        start: starts Claude Code: for the first time, with the same conversation, or with a new one.
        mailbox: where requests lie.
        hooks: what Claude Code says.
        transcript: what it writes.
        cols, rows: size of the terminal.
        screen: times of the screen fallback.
        log: one line about what happened; no prompt, no answer.
        started: told the process id of each Claude Code.
        recorder: keeps the terminal, or None.
        clock: seconds, monotonic.
    """

    start: Callable[[Start], Terminal]
    mailbox: Mailbox
    hooks: HookSource
    transcript: Transcript
    cols: int
    rows: int
    screen: ScreenTiming
    log: Callable[[str], None]
    started: Callable[[int | None], None] = lambda pid: None
    recorder: Recorder | None = None
    clock: Callable[[], float] = time.monotonic

"""Recordings of the real terminal, played to the detector on a clock of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dragoman.bridge.detector import Round, Seen
from dragoman.bridge.hooks import Hook, read_hook
from dragoman.bridge.outcome import Outcome
from dragoman.bridge.reading import find_dialog
from dragoman.bridge.screen import Screen
from dragoman.bridge.transcript import Record, read_line

RECORDINGS = Path(__file__).parent.parent / "fixtures" / "bridge" / "terminal"
# A recorded moment is looked at this often, as the bridge would, only coarser.
STEP_S = 0.05


@dataclass
class Player:
    """Plays one recording to the detector and collects how each round ends."""

    name: str
    hooks_work: bool = True
    transcript: bool = True
    timeout_s: float = 120.0
    screen: Screen = field(init=False)
    rounds: list[tuple[str, Outcome | None]] = field(default_factory=list[tuple[str, Outcome | None]])

    def play(self) -> list[tuple[str, Outcome | None]]:
        raw = (RECORDINGS / f"{self.name}.bin").read_bytes()
        rows: list[list[Any]] = [
            json.loads(line) for line in (RECORDINGS / f"{self.name}.jsonl").read_text().splitlines()
        ]
        self.screen = Screen(rows[0][2], rows[0][3])
        self._now = self._printed_at = 0.0
        self._hooks: list[Hook] = []
        self._records: list[Record] = []
        self._round: Round | None = None
        self._exit: int | None = None
        if not any(row[1] == "hook" for row in rows):
            self.hooks_work = False
        for at, kind, *rest in rows[1:]:
            self._until(max(at, self._now))
            match kind:
                case "o":
                    self.screen.feed(raw[rest[0] : rest[0] + rest[1]])
                    self._printed_at = at
                case "hook" if self.hooks_work:
                    hook = read_hook(json.dumps(rest[0]).encode(), at)
                    assert hook is not None
                    self._hooks.append(hook)
                case "line" if self.transcript:
                    self._records += read_line(json.dumps(rest[0]).encode())
                case "m":
                    self._mark(at, rest[0])
                case "i" if self._round is not None and self._round.kind == "key" and not self._key_known:
                    self._key_known = True
                    self._round.stops = bytes.fromhex(rest[0]) in (b"\x1b", b"\x03")
                case _:
                    pass
        self._until(self._now + 20.0)
        if self._round is not None:
            self.rounds.append((self._label, None))
        return self.rounds

    def _mark(self, at: float, mark: str) -> None:
        if mark.startswith("exit"):
            self._exit = int(mark.split()[1])
            return
        is_key = mark == "key" or mark.startswith("key ")
        if mark != "submit" and not is_key:
            return
        if self._round is not None:
            self.rounds.append((self._label, None))
        key = mark[4:].strip("'")
        self._label = f"key {key}".strip() if is_key else "prompt"
        self._hooks, self._records = [], []
        view = self.screen.view()
        self._round = Round(
            at,
            self.timeout_s,
            view,
            "key" if is_key else "prompt",
            answered=find_dialog(view) if is_key else None,
        )
        self._key_known = False

    def _until(self, at: float) -> None:
        while True:
            self._look()
            if self._now + STEP_S >= at:
                break
            self._now += STEP_S
        self._now = at

    def _look(self) -> None:
        if self._round is None:
            return
        seen = Seen(
            self._now,
            self.screen.view(),
            tuple(self._hooks),
            tuple(self._records),
            self._printed_at,
            self._exit,
            self.hooks_work,
        )
        self._hooks, self._records = [], []
        outcome = self._round.observe(seen)
        if outcome is not None:
            self.rounds.append((self._label, outcome))
            self._round = None


@pytest.fixture
def play() -> Callable[..., list[tuple[str, Outcome | None]]]:
    def run(name: str, **how: Any) -> list[tuple[str, Outcome | None]]:
        return Player(name, **how).play()

    return run

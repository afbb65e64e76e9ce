"""The bridge itself: one loop around one terminal, its hooks, its transcript, its mailbox and its guests."""

from __future__ import annotations

import select
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.bridge import timing
from dragoman.bridge.attach import AttachServer
from dragoman.bridge.detector import Round, Seen, exit_words
from dragoman.bridge.keyboard import SharedKeyboard
from dragoman.bridge.mailbox import Request
from dragoman.bridge.outcome import Outcome, Status
from dragoman.bridge.parts import Parts, Start
from dragoman.bridge.reading import find_dialog, is_busy, is_ready
from dragoman.bridge.results import as_result, question_on
from dragoman.bridge.rounds import Hands, Steps, pressing, sending
from dragoman.bridge.screen import Screen
from dragoman.bridge.telling import ScreenStream, StateTeller
from dragoman.bridge.transcript import Record

# After a crash a session is taken up again, but one that crashes at once is not tried for ever.
_MAX_RESUMES = 3
_RESUMES_WITHIN_S = 120.0
# Ends of a `cc-send` that left the terminal as it was.
_NOT_TYPED = (Status.BUSY, Status.NOT_SUBMITTED, Status.NEEDS_PERMISSION)


@dataclass
class _Work:
    request: Request
    steps: Steps
    began: float
    resumed: bool = False
    fresh: bool = False
    stream: ScreenStream | None = None


class BridgeService:
    """One Claude Code, and everybody who wants something of it.

    Args:
        parts: what it works with.
        identity: what `state.json` says about the bridge process.
    """

    def __init__(self, parts: Parts, identity: dict[str, Any]) -> None:
        self._parts = parts
        self._identity = identity
        self._clock = parts.clock
        self.attach: AttachServer | None = None
        self._work: _Work | None = None
        self._late: Round | None = None
        self._finished: dict[str, Any] | None = None
        self._status = "starting"
        self._last: dict[str, Any] = {}
        self._question, self._question_heard = "", True
        self._ready_since: float | None = None
        self._resumes: list[float] = []
        self._keyboard = SharedKeyboard(self._terminal_write, parts.clock)
        self._teller = StateTeller(parts.mailbox)
        self._open("first")

    @property
    def status(self) -> str:
        """`starting`, `ready`, `running`, or how the last round ended."""
        return self._status

    # ---- the loop

    def run(self, stopped: Callable[[], bool], wake: list[int]) -> None:
        """Serve until told to stop.

        Args:
            stopped: looked at once a turn.
            wake: further descriptors to wake up for.
        """
        while not stopped():
            self.wait(wake)
            self.step()

    def wait(self, wake: list[int]) -> None:
        """Wait for bytes, at most a tick."""
        tick_s = timing.TICK_S if self._active else timing.IDLE_TICK_S
        number = self._terminal.fileno()
        reading = [*wake, *([number] if number >= 0 and self._terminal.exit_code is None else [])]
        writing: list[int] = []
        if self.attach is not None:
            more, writing = self.attach.filenos()
            reading += more
        try:
            readable, writable, _ = select.select(reading, writing, [], tick_s)
        except OSError:
            return
        if self.attach is not None:
            self.attach.handle(readable, writable)

    def step(self) -> None:
        """One moment: read, look, act."""
        seen = self._look()
        if self._status == "starting":
            self._starting(seen)
        elif self._work is not None:
            self._go_on(seen)
        else:
            self._between(seen)
        if self._work is None and self._status != "starting":
            request = next(self._parts.mailbox.requests(), None)
            if request is not None:
                self._begin(request)
        self._tell_state()

    def close(self) -> None:
        """End Claude Code and everything it started; whoever waits is told."""
        if self._work is not None:
            self._answer(Outcome(status=Status.EXITED, error="the session was ended"))
        self._terminal.close(timing.STOP_GRACE_S)
        self._status = Status.EXITED
        self._identity = self._identity | {"ended": True}
        self._tell_state(force=True)
        if self.attach is not None:
            self.attach.close()
        if self._parts.recorder is not None:
            self._parts.recorder.close()

    # ---- people

    def person_typed(self, data: bytes) -> bool:
        """A person at an attached terminal typed; True when it waits for a prompt that is being typed."""
        return self._keyboard.person_typed(data)

    def resize(self, cols: int, rows: int) -> tuple[int, int]:
        """Follow the size of a typing person's terminal, between rounds only; the size it has then."""
        if self._work is None and (cols, rows) != self._screen.size:
            self._screen.resize(cols, rows)
            self._terminal.resize(cols, rows)
            if self._parts.recorder is not None:
                self._parts.recorder.resized(self._clock() - self._opened_at, cols, rows)
            if self.attach is not None:
                self.attach.tell_size(cols, rows)
        return self._screen.size

    def repaint(self) -> None:
        """Make the program draw itself anew: a size that changes and changes back."""
        cols, rows = self._screen.size
        self._terminal.resize(cols - 1, rows)
        self._terminal.resize(cols, rows)

    def picture(self) -> bytes:
        """What draws the screen as it is now."""
        return self._screen.picture()

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal."""
        return self._screen.size

    # ---- inside

    @property
    def _active(self) -> bool:
        return self._work is not None or self._status == "starting"

    def _open(self, how: Start) -> None:
        self._screen = Screen(self._parts.cols, self._parts.rows, self._terminal_write)
        self._terminal = self._parts.start(how)
        if not hasattr(self, "_opened_at"):
            self._opened_at = self._clock()
        self._last_output_at = self._clock()
        self._status, self._ready_since, self._start_at = "starting", None, self._clock()
        self._late, self._how = None, how
        self._parts.started(self._terminal.pid)
        self._parts.log(f"claude started pid={self._terminal.pid} {how}")

    def _look(self) -> Seen:
        data = self._terminal.read()
        now = self._clock()
        if data:
            self._last_output_at = now
            self._screen.feed(data)
            if self.attach is not None:
                self.attach.show(data)
            if self._parts.recorder is not None:
                self._parts.recorder.output(now - self._opened_at, data)
        hooks = self._parts.hooks.take()
        for hook in hooks:
            self._parts.log(f"hook {hook.hook_event_name} prompt={hook.prompt_id}")
            if hook.hook_event_name == "SessionStart" and hook.transcript_path:
                # `/clear` begins another session in another file.
                self._parts.transcript.follow(Path(hook.transcript_path))
        records: list[Record] = self._parts.transcript.take() if self._active or self._late or hooks else []
        # The very last bytes may still lie in the terminal when the process is gone already.
        exit_code = None if data else self._terminal.exit_code
        return Seen(
            now,
            self._screen.view(),
            tuple(hooks),
            tuple(records),
            self._last_output_at,
            exit_code,
            self._parts.hooks.seen_any,
        )

    def _starting(self, seen: Seen) -> None:
        dialog = find_dialog(seen.view)
        settled = dialog is not None or is_ready(seen.view)
        if seen.exit_code is not None and self._how == "resume" and self._work is not None:
            # Killed before its first words were written, Claude Code does not know the conversation any more.
            self._work.fresh = True
            self._terminal.close(0.0)
            self._open("fresh")
        elif seen.exit_code is not None:
            self._ended(seen.exit_code)
        elif settled:
            self._ready_since = self._ready_since if self._ready_since is not None else seen.now
            wait_s = timing.DIALOG_BY_SCREEN_S if dialog else timing.READY_STABLE_S
            if seen.now - self._ready_since < wait_s:
                return
            self._status = Status.NEEDS_PERMISSION if dialog else "ready"
            self._last = question_on(seen) if dialog else {}
            self._parts.log(f"{self._status} after {seen.now - self._start_at:.1f} s")
        elif seen.now - self._start_at > timing.START_LIMIT_S:
            self._status = Status.FAILED
            self._last = {
                "error": "Claude Code did not show its input box; dragoman attach shows its terminal"
            }
        else:
            self._ready_since = None
        if self._status != "starting" and self._work is not None:
            self._after_start()

    def _ended(self, code: int) -> None:
        self._status = Status.EXITED
        tail = [line for line in self._screen.view().lines if line.strip()][-6:]
        self._last = {"exit_code": code, "error": exit_words(code), "last_lines": tail}
        self._parts.log(f"claude ended code={code}")

    def _begin(self, request: Request) -> None:
        now = self._clock()
        self._parts.log(
            f"request {request.id} {request.kind} {len(request.prompt)} characters key={request.key}"
        )
        hands = Hands(self._terminal_write, self._keyboard.hold, self._parts.screen)
        if request.kind == "send":
            steps = sending(request, hands)
        else:
            open_, heard = self._late is not None, self._question_heard
            steps = pressing(request, hands, turn_open=open_, question_heard=heard)
        self._work = _Work(request, steps, now)
        if request.stream:
            self._work.stream = ScreenStream(self._parts.mailbox.streams / f"{request.id}.log")
        if self._terminal.exit_code is not None:
            if request.kind == "send" and self._may_resume(now):
                self._work.resumed = True
                self._terminal.close(0.0)
                self._open("resume")
            else:
                self._answer(self._exited())
            return
        if self._keyboard.is_a_persons:
            self._answer(
                Outcome(
                    status=Status.BUSY,
                    error="a person is typing in the attached terminal; nothing was typed",
                )
            )
            return
        self._first_step()

    def _after_start(self) -> None:
        if self._terminal.exit_code is not None:
            self._answer(self._exited())
        else:
            self._first_step()

    def _first_step(self) -> None:
        assert self._work is not None
        if self._work.request.kind == "input":
            self._late = None  # what follows the key is this round's own
        self._status, self._last = "running", {}
        next(self._work.steps)
        # What is written before the request belongs to no round.
        while self._parts.transcript.take():
            pass

    def _go_on(self, seen: Seen) -> None:
        work = self._work
        assert work is not None
        if work.stream is not None:
            work.stream.show(seen.view, seen.now)
        self._follow_late(seen)
        try:
            work.steps.send(seen)
        except StopIteration as end:
            outcome: Outcome = end.value
            if outcome.status not in _NOT_TYPED:
                self._late = self._finished = None
            if outcome.status is Status.TIMEOUT:
                self._late = Round(seen.now, float("inf"), seen.view, screen=self._parts.screen)
            self._answer(outcome)
            if outcome.status is Status.EXITED and seen.exit_code is not None:
                self._ended(seen.exit_code)

    def _between(self, seen: Seen) -> None:
        if any(hook.hook_event_name == "PermissionRequest" for hook in seen.hooks):
            self._question_heard = True
        if seen.exit_code is not None:
            if self._status != Status.EXITED:
                self._ended(seen.exit_code)
            return
        if self._follow_late(seen):
            return
        # A person may have answered the question, or asked one; a start may have come to its box after all.
        if self._status in ("ready", Status.NEEDS_PERMISSION, Status.FAILED):
            dialog = find_dialog(seen.view)
            if dialog is None and is_ready(seen.view) and self._status != Status.FAILED:
                self._status, self._last = "ready", {}

    def _follow_late(self, seen: Seen) -> bool:
        """Follow a turn that outlasted its command's time, whatever else is asked meanwhile."""
        if self._late is None:
            return False
        outcome = self._late.observe(seen)
        if outcome is not None:
            self._finished, self._late = as_result(outcome), None
            self._parts.log(f"late {outcome.status} by {outcome.source}")
            if self._work is None:
                self._status = outcome.status
        return True

    def _may_resume(self, now: float) -> bool:
        # A clean end was somebody's wish; anything else was an accident.
        if self._terminal.exit_code == 0:
            return False
        self._resumes = [at for at in self._resumes if now - at < _RESUMES_WITHIN_S]
        if len(self._resumes) >= _MAX_RESUMES:
            return False
        self._resumes.append(now)
        return True

    def _exited(self) -> Outcome:
        code = self._terminal.exit_code
        words = exit_words(code if code is not None else -1)
        if code == 0:
            words += "; end this Codex and start `dragoman lead` again"
        return Outcome(status=Status.EXITED, exit_code=code, error=words)

    def _answer(self, outcome: Outcome) -> None:
        work = self._work
        assert work is not None
        result = as_result(outcome)
        if outcome.status is Status.NEEDS_PERMISSION and outcome.error is None:
            told_again = outcome.question == self._question and self._question_heard
            self._question_heard = told_again or outcome.source == "hook+screen"
            self._question = outcome.question
        if outcome.status is Status.EXITED and (outcome.exit_code or 0) != 0:
            result["error"] = f"{outcome.error}; the next cc-send takes the same conversation up again"
        if work.fresh:
            result["notes"] = [*result.get("notes", ()), "the conversation was lost; this is a new one"]
        elif work.resumed:
            result["resumed"] = True
        self._parts.mailbox.answer(work.request.id, result)
        self._parts.log(
            f"result {work.request.id} {outcome.status} by {outcome.source} "
            f"after {self._clock() - work.began:.2f} s"
        )
        work.steps.close()
        self._work = None
        self._status = outcome.status
        self._last = {
            key: result[key] for key in ("error", "exit_code", "options", "question") if key in result
        }
        self._tell_state(force=True)

    def _terminal_write(self, data: bytes) -> None:
        self._terminal.write(data)

    def _tell_state(self, *, force: bool = False) -> None:
        state = {
            **self._identity,
            "status": str(self._status),
            "cc_pid": self._terminal.pid,
            "request": self._work.request.id if self._work else None,
            "busy": is_busy(self._screen.view()),
            "hooks": self._parts.hooks.seen_any,
            "watchers": self.attach.watchers if self.attach else 0,
            **self._last,
        }
        if self._finished is not None:
            state["finished"] = self._finished
        self._teller.tell(state, self._clock(), force=force)

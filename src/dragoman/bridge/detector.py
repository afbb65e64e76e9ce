"""Says how a round ended: hooks first, the transcript second, the screen where they cannot.

A pure machine: it is shown what was seen at a moment and answers with an outcome or None. Which hook means
what, and what no hook covers (an interruption, a local command, a dialog's options), was learned from
recordings of Claude Code 2.1.329 and 2.1.197.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from dragoman.bridge import timing
from dragoman.bridge.hooks import Hook
from dragoman.bridge.outcome import Outcome, Source, Status
from dragoman.bridge.reading import (
    Dialog,
    api_error_line,
    box_text,
    find_dialog,
    is_busy,
    is_ready,
    new_lines,
)
from dragoman.bridge.screen import View
from dragoman.bridge.timing import ScreenTiming
from dragoman.bridge.transcript import Record

# So many characters of a tool's argument tell it from another one's; a wide box may cut what follows.
_TELLING = 40


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is at one moment.

    Attributes:
        now: seconds on a monotonic clock.
        view: the screen.
        hooks: events since the last moment.
        records: transcript records since the last moment.
        last_output_at: when the terminal printed last.
        exit_code: of Claude Code once it has ended.
        hooks_work: whether a hook was ever seen in this session.
    """

    now: float
    view: View
    hooks: Sequence[Hook] = ()
    records: Sequence[Record] = ()
    last_output_at: float = 0.0
    exit_code: int | None = None
    hooks_work: bool = True


@dataclass
class Round:
    """One prompt or key, until its end.

    Attributes:
        started_at: when Enter or the key was pressed.
        timeout_s: after how long to answer although the turn goes on.
        before: the screen before it.
        kind: whether a prompt, a deliberate slash command or a key began it.
        answered: the dialog a key answered.
        answered_heard: whether its own hook has come. A starved machine tells the screen first, and the hook
            that comes after the key is the old question's, not a new one's.
        stops: whether the key was Escape or ctrl-c, which end a turn without a hook.
        screen: the times of the screen fallback.
    """

    started_at: float
    timeout_s: float
    before: View
    kind: Literal["prompt", "command", "key"] = "prompt"
    answered: Dialog | None = None
    answered_heard: bool = True
    stops: bool = False
    screen: ScreenTiming = field(default_factory=ScreenTiming)

    _messages: list[str] = field(default_factory=list[str])
    _texts: list[Record] = field(default_factory=list[Record])
    _requests: list[Hook] = field(default_factory=list[Hook])
    _prompt_id: str | None = None
    _end: tuple[Source, Hook | None] | None = None
    _failure: str | None = None
    _interrupted_at: float | None = None
    _turn_ended_at: float | None = None
    _command_output: str | None = None
    _dialog: tuple[Dialog, float] | None = None
    _answered_gone: bool = False
    _busy_until: float | None = None
    _was_busy: bool = False
    _error: str | None = None
    _agents: bool = False
    _progress_at: float = 0.0
    _looked_at: float = float("-inf")

    def observe(self, seen: Seen) -> Outcome | None:
        """Take in a moment; the outcome when the round is over."""
        for hook in seen.hooks:
            self._take_hook(hook, seen.now)
        for record in seen.records:
            self._take_record(record, seen.now)
        if is_busy(seen.view):
            self._busy_until, self._was_busy = seen.now, True
        return (
            self._exited(seen)
            or self._told(seen)
            or self._interrupted(seen)
            or self._asks(seen)
            or self._by_transcript(seen)
            or self._by_screen(seen)
            or self._stalled(seen)
            or self._timed_out(seen)
        )

    # ---- taking in

    def _take_hook(self, hook: Hook, now: float) -> None:
        self._progress_at = now
        match hook.hook_event_name:
            case "UserPromptSubmit":
                self._prompt_id = self._prompt_id or hook.prompt_id
                # A turn that Claude Code starts by itself after the end it told us was too early.
                if hook.self_started:
                    self._turn_ended_at = None
            case "PermissionRequest":
                self._take_request(hook)
            case "PostToolUse":
                self._forget_request(hook)
            case "Stop":
                if hook.last_assistant_message:
                    self._messages.append(hook.last_assistant_message)
                self._agents = hook.live_agents
                if not hook.live_agents:
                    self._end = ("hook", hook)
            case "StopFailure":
                self._failure = hook.last_assistant_message or hook.error or "API error"
                self._end = ("hook", hook)
            case _:
                pass

    def _take_request(self, hook: Hook) -> None:
        if self.answered is not None and not self.answered_heard and not self._answered_gone:
            self.answered_heard = True
            if is_about(self.answered, hook):
                return
        self._requests.append(hook)

    def _forget_request(self, hook: Hook) -> None:
        """The tool has run. Others may run beside one that asks."""
        same = [one for one in self._requests if one.tool_name == hook.tool_name]
        exact = [one for one in same if one.tool_input == hook.tool_input]
        for one in (exact or same)[:1]:
            self._requests.remove(one)

    def _take_record(self, record: Record, now: float) -> None:
        self._progress_at = now
        match record.kind:
            case "text":
                self._texts.append(record)
                self._turn_ended_at = None
            case "interrupted":
                self._interrupted_at = now
            case "api_error":
                self._error = record.text
            case "turn_end":
                self._turn_ended_at = now if record.final else None
                self._agents = not record.final
            case "command_output":
                self._command_output = record.text
                if self.kind == "command":
                    self._turn_ended_at = now
            case "prompt" | "self_prompt" | "tool_use":
                self._turn_ended_at = None

    # ---- the ends, surest first

    def _exited(self, seen: Seen) -> Outcome | None:
        if seen.exit_code is None:
            return None
        return self._outcome(
            Status.EXITED,
            "bridge",
            self._so_far(),
            exit_code=seen.exit_code,
            error=exit_words(seen.exit_code),
        )

    def _told(self, seen: Seen) -> Outcome | None:
        if self._end is None:
            return None
        source, hook = self._end
        tasks = (
            tuple(msgspec.to_builtins(task) for task in (hook.background_tasks or ()) if hook) if hook else ()
        )
        if self._failure is not None:
            return self._outcome(Status.FAILED, source, self._so_far(), error=self._failure)
        output = "\n\n".join(dict.fromkeys(self._messages)) or self._so_far()
        return self._outcome(Status.COMPLETED, source, output, background_tasks=tasks)

    def _interrupted(self, seen: Seen) -> Outcome | None:
        # The line is written when the key is taken; the screen tells when the turn is really over.
        if not is_ready(seen.view):
            return None
        if self._interrupted_at is not None:
            return self._outcome(Status.INTERRUPTED, "transcript", self._so_far())
        # Before the model's first word nothing is written: the prompt goes back into the box.
        since = max(self._busy_until or 0.0, self.started_at)
        if self.stops and seen.now - since >= timing.INTERRUPT_IDLE_S:
            return self._outcome(Status.INTERRUPTED, "screen", self._so_far())
        return None

    def _asks(self, seen: Seen) -> Outcome | None:
        dialog = find_dialog(seen.view)
        if dialog is None or not self._is_new(dialog, seen):
            self._dialog = None
            return None
        if self._dialog is None or self._dialog[0] != dialog:
            self._dialog = (dialog, seen.now)
        stood_s = seen.now - self._dialog[1]
        if stood_s < (timing.DIALOG_WITH_HOOK_S if self._requests else timing.DIALOG_BY_SCREEN_S):
            return None
        request = self._asked_by(dialog)
        return self._outcome(
            Status.NEEDS_PERMISSION,
            "hook+screen" if request else "screen",
            self._so_far(),
            options=dialog.options,
            question=dialog.text,
            tool=request.tool_name if request else None,
            tool_input=request.tool_input if request else None,
        )

    def _is_new(self, dialog: Dialog, seen: Seen) -> bool:
        if self.answered is None or self._answered_gone or (self._requests and self.answered_heard):
            return True
        if (dialog.text, dialog.options) != (self.answered.text, self.answered.options):
            return True
        patience_s = timing.DIALOG_STAYS_S if seen.hooks_work else timing.DIALOG_GOES_S
        return seen.now - self.started_at > patience_s

    def _asked_by(self, dialog: Dialog) -> Hook | None:
        """Whose question it is; of several tools that ask at once, only one that the screen shows."""
        if len(self._requests) == 1:
            return self._requests[0]
        return next((one for one in self._requests if is_about(dialog, one)), None)

    def _by_transcript(self, seen: Seen) -> Outcome | None:
        if self.answered is not None and find_dialog(seen.view) is None:
            self._answered_gone = True
        if self._turn_ended_at is None or self._agents:
            if self._error is not None and not seen.hooks_work and self._calm(seen):
                return self._outcome(Status.FAILED, "transcript", self._so_far(), error=self._error)
            return self._by_final_text(seen)
        wait_s = timing.LOST_HOOK_S if seen.hooks_work and self.kind != "command" else 0.0
        if seen.now - self._turn_ended_at < wait_s or is_busy(seen.view):
            return None
        if self._error is not None:
            return self._outcome(Status.FAILED, "transcript", self._so_far(), error=self._error)
        output = self._command_output if self.kind == "command" and self._command_output else self._so_far()
        return self._outcome(Status.COMPLETED, "transcript", output)

    def _by_final_text(self, seen: Seen) -> Outcome | None:
        if self._agents or not self._texts or not self._texts[-1].final or not self._calm(seen):
            return None
        if seen.hooks_work and seen.now - self._progress_at < timing.STALLED_S:
            return None
        return self._outcome(Status.COMPLETED, "transcript", self._so_far())

    def _by_screen(self, seen: Seen) -> Outcome | None:
        if seen.now - self._looked_at < self.screen.check_interval_s:
            return None
        self._looked_at = seen.now
        by_hooks = seen.hooks_work and self.kind == "prompt"
        if by_hooks or not self._calm(seen) or self._agents:
            return None
        if seen.now - self.started_at < self.screen.min_run_s:
            return None
        if seen.now - seen.last_output_at < self.screen.quiet_s:
            return None
        text = new_lines(self.before, seen.view)
        if self.kind == "key" and seen.hooks_work and self._was_busy:
            return None
        if self.kind == "prompt" and not text and not self._was_busy:
            return None
        output = self._command_output or self._so_far() or text
        if not self._texts and (failure := api_error_line(text)):
            return self._outcome(Status.FAILED, "screen", output, error=failure)
        return self._outcome(Status.COMPLETED, "screen", output)

    def _stalled(self, seen: Seen) -> Outcome | None:
        quiet_since = max(self.started_at, seen.last_output_at, self._progress_at)
        if self._agents or not is_ready(seen.view) or seen.now - quiet_since < timing.STALLED_S:
            return None
        return self._outcome(
            Status.FAILED,
            "screen",
            self._so_far(),
            error="Claude Code is idle but never said that the turn ended; a hook may have refused it",
        )

    def _timed_out(self, seen: Seen) -> Outcome | None:
        if seen.now - self.started_at < self.timeout_s:
            return None
        return self._outcome(
            Status.TIMEOUT,
            "bridge",
            self._so_far(),
            busy=is_busy(seen.view),
            error=f"no end within {self.timeout_s:.0f} s; the turn goes on",
        )

    # ---- what they share

    def _calm(self, seen: Seen) -> bool:
        since = max(self._busy_until or 0.0, self.started_at)
        return is_ready(seen.view) and seen.now - since >= self.screen.spinner_stable_s

    def _so_far(self) -> str:
        """The texts of the model's last message, as far as they are known."""
        if not self._texts:
            return ""
        last = self._texts[-1].message_id
        return "\n\n".join(record.text for record in self._texts if record.message_id == last)

    def _outcome(self, status: Status, source: Source, output: str, **more: Any) -> Outcome:
        return Outcome(status=status, source=source, output=output, prompt_id=self._prompt_id, **more)


def is_about(dialog: Dialog, request: Hook) -> bool:
    """Whether a question shows what a tool was given: the beginning of any of its words, or a file's name."""
    shown = "".join(dialog.text.split())
    for value in (request.tool_input or {}).values():
        words = "".join(value.split()) if isinstance(value, str) else ""
        if words and (words[:_TELLING] in shown or words.rpartition("/")[2][:_TELLING] in shown):
            return True
    return False


def exit_words(code: int) -> str:
    """Why Claude Code is not there any more."""
    if code < 0:
        return f"Claude Code was ended by signal {-code}"
    return f"Claude Code ended with exit code {code}"


def was_submitted(seen: Seen, *, hooks: Sequence[Hook], records: Sequence[Record], since: View) -> bool:
    """Whether a prompt that was typed has been taken.

    Args:
        seen: this moment.
        hooks: events since Enter.
        records: transcript records since Enter.
        since: the screen before Enter.
    """
    if any(hook.hook_event_name == "UserPromptSubmit" and not hook.self_started for hook in hooks):
        return True
    if any(record.kind == "prompt" for record in records):
        return True
    return not seen.hooks_work and is_busy(seen.view) and not is_busy(since) and not box_text(seen.view)

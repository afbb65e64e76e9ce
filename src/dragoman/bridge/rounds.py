"""The steps of a request, as generators: each `yield` waits for the next moment, the end is an outcome.

Nothing here sleeps or reads a clock: moments come in, keystrokes go out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Protocol

from dragoman.bridge import timing
from dragoman.bridge.detector import Round, Seen, exit_words, was_submitted
from dragoman.bridge.hooks import Hook
from dragoman.bridge.mailbox import Request
from dragoman.bridge.outcome import Outcome, Status
from dragoman.bridge.prompt import CLEAR_LINE, DOWN, KEYS, UP, PromptRefused, Typing, plan_typing, same_text
from dragoman.bridge.reading import Dialog, box_text, find_dialog, is_busy, is_ready
from dragoman.bridge.timing import ScreenTiming
from dragoman.bridge.transcript import Record

Steps = Generator[None, Seen, Outcome]
_Waits = Generator[None, Seen, Seen]
_STOPPING = ("escape", "ctrl-c")


class Keyboard(Protocol):
    """Where keystrokes go."""

    def __call__(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Hands:
    """What a request may use.

    Attributes:
        type_keys: types into the terminal.
        hold: keeps a person's typing back while a prompt is being typed (True) and lets it go (False).
        screen: the times of the screen fallback.
    """

    type_keys: Keyboard
    hold: Callable[[bool], None]
    screen: ScreenTiming


def sending(request: Request, hands: Hands) -> Steps:
    """Type a prompt, see that it is taken, follow its turn to the end."""
    try:
        typing = plan_typing(request.prompt, allow_command=request.allow_command)
    except PromptRefused as error:
        seen = yield
        words = error.message + (f"; {error.hint}" if error.hint else "")
        return Outcome(status=Status.NOT_SUBMITTED, error=words)
    seen = yield
    blocked = yield from _settle(seen)
    if isinstance(blocked, Outcome):
        return blocked
    seen, before = blocked, blocked.view
    hands.hold(True)
    try:
        submitted = yield from _submit(seen, typing, hands)
    finally:
        hands.hold(False)
    if isinstance(submitted, Outcome):
        return submitted
    at, seen = submitted
    kind = "command" if typing.is_command else "prompt"
    turn = Round(at, request.timeout_s, before, kind, screen=hands.screen)
    outcome = yield from _follow(turn, seen)
    arrived = next((h.prompt for h in seen.hooks if _is_ours(h)), None)
    notes = typing.notes
    if arrived is not None and not same_text(typing.text, arrived):
        notes += ("Claude Code changed the prompt on arrival",)
    return replace_notes(outcome, notes)


def pressing(
    request: Request, hands: Hands, *, turn_open: bool = False, question_heard: bool = True
) -> Steps:
    """Press a key, follow what comes of it.

    Args:
        request: with the key.
        hands: what may be used.
        turn_open: whether a turn was answered with `timeout` and has not ended since.
        question_heard: whether the hook of the question that stands has come.
    """
    seen = yield
    key, began = request.key, seen.now
    # The hook that ends a turn is quicker than the screen. What stops a turn must not wait for anything.
    while (
        seen.exit_code is None
        and key not in _STOPPING
        and find_dialog(seen.view) is None
        and not is_ready(seen.view)
        and seen.now - began < timing.SETTLE_S
    ):
        seen = yield
    if seen.exit_code is not None:
        return _exited(seen)
    before, dialog = seen.view, find_dialog(seen.view)
    if dialog is not None and key.isdigit():
        if int(key) > len(dialog.options):
            return Outcome(
                status=Status.NEEDS_PERMISSION,
                options=dialog.options,
                question=dialog.text,
                source="screen",
                error=f"there is no option {key}; nothing was pressed",
            )
        stops = dialog.options[int(key) - 1].label.startswith("No")
        if dialog.numbered:
            hands.type_keys(KEYS[key])
        else:
            chosen = yield from _point(seen, dialog, int(key) - 1, hands)
            if isinstance(chosen, Outcome):
                return chosen
            seen = chosen
            hands.type_keys(KEYS["enter"])
    elif dialog is None and is_ready(seen.view) and not turn_open:
        # A digit or Enter would stand in the box or send what stands there; Escape twice opens a menu, and
        # ctrl-c twice ends Claude Code.
        return Outcome(
            status=Status.NOT_SUBMITTED, error=f"nothing runs and nothing is asked; {key} was not pressed"
        )
    elif dialog is None and key not in _STOPPING:
        return Outcome(
            status=Status.BUSY, busy=True, error=f"a turn runs and nothing is asked; {key} was not pressed"
        )
    else:
        stops = key in _STOPPING
        hands.type_keys(KEYS[key])
    turn = Round(
        seen.now,
        request.timeout_s,
        before,
        "key",
        answered=dialog,
        answered_heard=question_heard,
        stops=stops,
        screen=hands.screen,
    )
    return (yield from _follow(turn, seen))


def replace_notes(outcome: Outcome, notes: tuple[str, ...]) -> Outcome:
    """The outcome with notes on its prompt."""
    if not notes:
        return outcome
    import msgspec

    return msgspec.structs.replace(outcome, notes=(*notes, *outcome.notes))


def _follow(turn: Round, seen: Seen) -> Steps:
    while True:
        outcome = turn.observe(seen)
        if outcome is not None:
            return outcome
        seen = yield


def _settle(seen: Seen) -> Generator[None, Seen, Outcome | Seen]:
    """Wait out what looks busy for a moment; say why nothing can be typed when it stays so.

    A turn that Claude Code starts by itself, because something in the background ended, is short as a rule.
    """
    began, own = seen.now, False
    while True:
        if seen.exit_code is not None:
            return _exited(seen)
        dialog = find_dialog(seen.view)
        if dialog is None and is_ready(seen.view):
            return seen
        own = own or any(hook.self_started for hook in seen.hooks)
        if seen.now - began >= timing.SETTLE_S:
            if dialog is not None:
                return Outcome(
                    status=Status.NEEDS_PERMISSION,
                    options=dialog.options,
                    question=dialog.text,
                    source="screen",
                    error="this question waits for an answer; the prompt was not typed",
                )
            why = "a turn that Claude Code started by itself runs" if own else "a turn runs"
            return Outcome(status=Status.BUSY, busy=True, error=f"{why}; the prompt was not typed")
        seen = yield


def _submit(seen: Seen, typing: Typing, hands: Hands) -> Generator[None, Seen, Outcome | tuple[float, Seen]]:
    """Type, press Enter, see that it was taken.

    Returns:
        When Enter was pressed and everything seen since, or why it was not submitted.
    """
    if box_text(seen.view):
        hands.type_keys(CLEAR_LINE)
        seen = yield from _wait(seen, 0.1)
    for piece in typing.pieces:
        hands.type_keys(piece)
        seen = yield from _wait(seen, timing.PASTE_GAP_S)
        if seen.exit_code is not None:
            return _exited(seen)
        if find_dialog(seen.view) is not None:
            return Outcome(
                status=Status.NOT_SUBMITTED,
                error="a question appeared while the prompt was typed; it was left unsubmitted",
            )
    echo_by = seen.now + timing.ECHO_WAIT_S
    while not box_text(seen.view) and seen.now < echo_by:
        seen = yield
    seen = yield from _wait(seen, 0.05)
    before, entered_at, enters = seen.view, seen.now, 1
    hands.type_keys(KEYS["enter"])
    again_at = entered_at + timing.ENTER_AGAIN_S
    hooks: list[Hook] = []
    records: list[Record] = []
    while True:
        seen = yield
        hooks += seen.hooks
        records += seen.records
        if seen.exit_code is not None:
            return entered_at, seen  # `/exit` did what it says; anything else is told by who follows
        taken = was_submitted(seen, hooks=hooks, records=records, since=before)
        if taken or (typing.is_command and not box_text(seen.view)):
            return entered_at, replace(seen, hooks=tuple(hooks), records=tuple(records))
        if seen.now - entered_at >= hands.screen.submit_grace_s:
            break
        if seen.now >= again_at and enters < timing.ENTERS and box_text(seen.view):
            hands.type_keys(KEYS["enter"])
            enters, again_at = enters + 1, seen.now + timing.ENTER_AGAIN_S
    if not box_text(seen.view):
        # The box is empty: it was taken, only nothing told us.
        return entered_at, replace(seen, hooks=tuple(hooks), records=tuple(records))
    return (yield from _take_back(seen, hands, entered_at, hooks, records))


def _take_back(
    seen: Seen, hands: Hands, entered_at: float, hooks: list[Hook], records: list[Record]
) -> Generator[None, Seen, Outcome | tuple[float, Seen]]:
    """Empty the box of a prompt that was not taken in time, and see which came first.

    A starved Claude Code reads Enter late, and what was typed after it later still. Ctrl-U harms no turn; an
    Escape would end one, so it is pressed only where the terminal is seen to live.
    """
    before, began, emptied_at, escaped = seen.view, seen.now, None, False
    hands.type_keys(CLEAR_LINE)
    while seen.now - began < timing.TAKE_BACK_S:
        seen = yield
        hooks += seen.hooks
        records += seen.records
        if seen.exit_code is not None:
            return entered_at, seen
        if was_submitted(seen, hooks=hooks, records=records, since=before) or is_busy(seen.view):
            return entered_at, replace(seen, hooks=tuple(hooks), records=tuple(records))
        if box_text(seen.view):
            emptied_at = None
            if not escaped and seen.last_output_at > began and seen.now - began >= timing.ENTER_AGAIN_S:
                escaped = True
                hands.type_keys(KEYS["escape"])
                hands.type_keys(CLEAR_LINE)
        elif emptied_at is None:
            emptied_at = seen.now
        elif seen.now - emptied_at >= timing.SETTLE_S:
            return Outcome(
                status=Status.NOT_SUBMITTED,
                source="screen",
                error="Claude Code did not take the prompt; it was taken out of the input box again",
            )
    return Outcome(
        status=Status.TIMEOUT,
        source="screen",
        busy=True,
        error="Claude Code reads no keys; the prompt stands in its input box and may still be taken",
    )


def _point(seen: Seen, dialog: Dialog, index: int, hands: Hands) -> Generator[None, Seen, Outcome | Seen]:
    """Move the cursor of a list without numbers to a row, and see that it is there."""
    began = seen.now
    steps = index - dialog.selected
    for _ in range(abs(steps)):
        hands.type_keys(DOWN if steps > 0 else UP)
        seen = yield from _wait(seen, 0.05)
    while seen.now - began < timing.DIALOG_GOES_S:
        there = find_dialog(seen.view)
        if there is not None and there.selected == index:
            return seen
        seen = yield
    return Outcome(
        status=Status.NEEDS_PERMISSION,
        options=dialog.options,
        question=dialog.text,
        source="screen",
        error="the row could not be reached; nothing was chosen",
    )


def _wait(seen: Seen, seconds: float) -> _Waits:
    """Let time pass; what was seen meanwhile is kept together."""
    until = seen.now + seconds
    hooks, records = tuple(seen.hooks), tuple(seen.records)
    while seen.now < until:
        seen = yield
        hooks, records = hooks + tuple(seen.hooks), records + tuple(seen.records)
    return replace(seen, hooks=hooks, records=records)


def _is_ours(hook: Hook) -> bool:
    return hook.hook_event_name == "UserPromptSubmit" and not hook.self_started


def _exited(seen: Seen) -> Outcome:
    assert seen.exit_code is not None
    return Outcome(status=Status.EXITED, exit_code=seen.exit_code, error=exit_words(seen.exit_code))

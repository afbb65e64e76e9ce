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
from dragoman.bridge.prompt import (
    CLEAR_LINE,
    DOWN,
    KEYS,
    LINE_END,
    UP,
    PromptRefused,
    Typing,
    plan_typing,
    same_text,
)
from dragoman.bridge.reading import (
    Dialog,
    box_holds,
    box_text,
    find_dialog,
    in_shell_mode,
    is_busy,
    is_ready,
)
from dragoman.bridge.timing import ScreenTiming
from dragoman.bridge.transcript import Record

Steps = Generator[None, Seen, Outcome]
_Waits = Generator[None, Seen, Seen]
_STOPPING = ("escape", "ctrl-c")
# Columns of the narrowest terminal, less the box's margin; so many rows of a box may not fit on the screen.
_NARROWEST, _HIGH = 36, 8
_HINT_STAYS = 4
_QUESTION_CAME = Outcome(
    status=Status.NOT_SUBMITTED,
    error="a question appeared while the prompt was typed; it was left unsubmitted",
)


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
    emptied = yield from _empty(seen, hands)
    if isinstance(emptied, Outcome):
        return emptied
    seen, hint = emptied, box_text(emptied.view) or ""
    for piece in typing.pieces:
        hands.type_keys(piece)
        seen = yield from _wait(seen, timing.PASTE_GAP_S)
        if seen.exit_code is not None:
            return _exited(seen)
        if find_dialog(seen.view) is not None:
            return _QUESTION_CAME
    # A box too high for the screen is not seen at all; one that is seen empty has not read the prompt yet.
    began = seen.now
    high = typing.text.count("\n") + len(typing.text) // _NARROWEST >= _HIGH
    waits_s = timing.ECHO_WAIT_S if high else hands.screen.submit_grace_s
    while (
        not box_holds(seen.view, typing.text, hint) and seen.now - began < waits_s and seen.exit_code is None
    ):
        if find_dialog(seen.view) is not None:
            break
        seen = yield
    seen = yield from _wait(seen, 0.05)
    if find_dialog(seen.view) is not None:
        return _QUESTION_CAME
    if not box_holds(seen.view, typing.text, hint) and not (high and box_text(seen.view) is None):
        why = "Claude Code did not show the prompt in its input box; it was not sent"
        return (yield from _take_back(seen, typing, hands, None, why, hint))
    if in_shell_mode(seen.view):
        why = "the input box was in its shell mode; the prompt would have been run, and was not sent"
        return (yield from _take_back(seen, typing, hands, None, why, hint))
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
        if taken or (typing.is_command and not box_holds(seen.view, typing.text, hint)):
            return entered_at, replace(seen, hooks=tuple(hooks), records=tuple(records))
        if seen.now - entered_at >= hands.screen.submit_grace_s:
            break
        if seen.now >= again_at and enters < timing.ENTERS and box_holds(seen.view, typing.text, hint):
            hands.type_keys(KEYS["enter"])
            enters, again_at = enters + 1, seen.now + timing.ENTER_AGAIN_S
    seen = replace(seen, hooks=tuple(hooks), records=tuple(records))
    if not box_holds(seen.view, typing.text, hint):
        # The box is empty: it was taken, only nothing told us.
        return entered_at, seen
    why = "Claude Code did not take the prompt; it was taken out of the input box again"
    return (yield from _take_back(seen, typing, hands, entered_at, why, hint))


def _empty(seen: Seen, hands: Hands) -> Generator[None, Seen, Outcome | Seen]:
    """Take out of the box what somebody left there: his words would be sent along, his `!` would run ours.

    Words that no key changes are a hint of Claude Code's own that we do not know.
    """
    began, left, pressed = seen.now, box_text(seen.view), 0
    if _is_empty(seen):
        return seen
    hands.type_keys(LINE_END)
    seen = yield from _wait(seen, timing.KEY_GAP_S)
    while not _is_empty(seen):
        if pressed >= _HINT_STAYS and box_text(seen.view) == left and not in_shell_mode(seen.view):
            return seen
        pressed += 1
        if seen.now - began >= timing.EMPTY_WITHIN_S:
            return Outcome(
                status=Status.NOT_SUBMITTED,
                source="screen",
                error="text stands in the input box and could not be taken out; nothing was typed",
            )
        for key in CLEAR_LINE:
            hands.type_keys(key)
            seen = yield from _wait(seen, timing.KEY_GAP_S)
        if seen.exit_code is not None:
            return _exited(seen)
    return seen


def _is_empty(seen: Seen) -> bool:
    return not box_text(seen.view) and not in_shell_mode(seen.view)


def _take_back(
    seen: Seen, typing: Typing, hands: Hands, entered_at: float | None, why: str, hint: str
) -> Generator[None, Seen, Outcome | tuple[float, Seen]]:
    """Empty the box of a prompt that was not taken in time, and see which came first.

    A starved Claude Code reads Enter late, and what was typed after it later still. What clears a line harms
    no turn; an Escape would end one. Only one line is cleared before the terminal is seen to live: what waits
    there is read at once, and many keys read at once are text (2.1.329).

    Args:
        seen: this moment, with everything since Enter.
        typing: what was typed.
        hands: what may be used.
        entered_at: when Enter was pressed; None when it was not.
        why: what to say when the prompt was not submitted.
        hint: what the empty box shows.
    """
    before, began, emptied_at = seen.view, seen.now, None
    hooks, records = list(seen.hooks), list(seen.records)
    sent, next_at = 0, began
    while seen.now - began < timing.TAKE_BACK_S:
        stands = box_holds(seen.view, typing.text, hint) or in_shell_mode(seen.view)
        lives = seen.last_output_at > began
        if seen.now >= next_at and (sent < len(CLEAR_LINE) or (stands and lives)):
            hands.type_keys(CLEAR_LINE[sent % len(CLEAR_LINE)])
            sent, next_at = sent + 1, seen.now + timing.KEY_GAP_S
        seen = yield
        hooks += seen.hooks
        records += seen.records
        if seen.exit_code is not None:
            return _exited(seen)
        taken = was_submitted(seen, hooks=hooks, records=records, since=before) or is_busy(seen.view)
        if taken and entered_at is not None:
            return entered_at, replace(seen, hooks=tuple(hooks), records=tuple(records))
        if stands:
            emptied_at = None
        elif emptied_at is None:
            emptied_at = seen.now
        elif seen.now - emptied_at >= timing.SETTLE_S:
            return Outcome(status=Status.NOT_SUBMITTED, source="screen", error=why)
    if entered_at is None:
        return Outcome(status=Status.NOT_SUBMITTED, source="screen", error=why)
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

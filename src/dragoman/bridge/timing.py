"""Every time the bridge waits, in one place, each with its reason.

Measured with Claude Code 2.1.329 and 2.1.197 on two cores with two or three terminals at once.
"""

from __future__ import annotations

from dataclasses import dataclass

# A turn of the loop. Hooks arrive 45 to 150 ms after the model's end, so looking more often gains nothing
# that a person or a lead could see, and looking less often would show in the median.
TICK_S = 0.015
# With no round running only the mailbox matters; a lead does not notice 50 ms before its prompt is typed.
IDLE_TICK_S = 0.05

# A hook says that permission is asked 0 to 200 ms before the dialog is drawn whole.
DIALOG_WITH_HOOK_S = 0.12
# Without a hook the screen alone must be sure that it is not in the middle of a repaint.
DIALOG_BY_SCREEN_S = 0.7
# After a key the same dialog may stay on the screen this long without being a new question.
DIALOG_GOES_S = 2.0
# On a starved machine it may stay longer. Where hooks work, a new question always comes with one, so the old
# one is told again only after this long, when its key must have been swallowed.
DIALOG_STAYS_S = 12.0

# Small pastes are taken as typing; 4 newlines or about 800 characters in one make 2.1.329 wrap the text in
# `<pasted_content>` and mark it as somebody else's words.
PASTE_LINES = 2
PASTE_CHARACTERS = 600
# Below this gap two pastes were read as one.
PASTE_GAP_S = 0.025
# The box shows typed text within 100 ms; under load it took up to a second.
ECHO_WAIT_S = 1.0
# Keys that are read together act on the same text: of six pressed at once two had an effect.
KEY_GAP_S = 0.05
# Somebody's twenty lines are gone in this time; what then still stands there is better not added to.
EMPTY_WITHIN_S = 3.0
# One Enter in about forty right after a paste was swallowed by 2.1.197 under load.
ENTER_AGAIN_S = 0.9
ENTERS = 4

# On a starved machine Claude Code read nothing for more than the grace of a submission. Enter is in its
# terminal then and cannot be called back: this long it is watched which of the two it does.
TAKE_BACK_S = 15.0

# The transcript line that ends a turn is written 30 to 100 ms after the Stop hook; where hooks work but one
# was lost, this long after that line the turn is over all the same.
LOST_HOOK_S = 1.0
# An idle screen, no output and no end: a hook of the user's own may have refused the prompt.
STALLED_S = 15.0
# How long a screen may look busy before `busy` is said: a turn that Claude Code starts by itself when a
# background task ends is over within a second or two when the model is quick.
SETTLE_S = 1.5
# After Escape a turn that cannot be told otherwise counts as interrupted when the screen stays idle.
INTERRUPT_IDLE_S = 1.0

# Input-ready took 1.5 to 3.5 s alone and 4.8 s with two starting; a first start from a cold disk 6 s more.
START_LIMIT_S = 45.0
# The box is drawn a moment before keys are read.
READY_STABLE_S = 0.3
# Claude Code 2.1.329 needs up to 2 s to write its last lines after SIGTERM.
STOP_GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class ScreenTiming:
    """When the screen alone may say that a turn is over; the user may change these.

    Attributes:
        min_run_s: no turn is over sooner after its submission.
        quiet_s: nothing was printed for this long.
        spinner_stable_s: no sign of work for this long.
        submit_grace_s: how long a prompt may take from Enter to being accepted.
        check_interval_s: how often the screen alone is asked whether the turn is over.
    """

    min_run_s: float = 1.5
    quiet_s: float = 2.5
    spinner_stable_s: float = 1.0
    submit_grace_s: float = 5.0
    check_interval_s: float = 0.1

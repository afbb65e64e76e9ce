"""Outcomes as the plain values that go through the mailbox."""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman.bridge.detector import Seen
from dragoman.bridge.outcome import Outcome
from dragoman.bridge.reading import find_dialog


def as_result(outcome: Outcome) -> dict[str, Any]:
    """What a command prints and `state.json` holds."""
    result: dict[str, Any] = msgspec.to_builtins(outcome)
    if outcome.options:
        result["suggested_keys"] = list(outcome.suggested_keys)
    return result


def question_on(seen: Seen) -> dict[str, Any]:
    """The question on the screen, for who looks before anything was sent."""
    dialog = find_dialog(seen.view)
    if dialog is None:
        return {}
    return {
        "question": dialog.text,
        "options": [{"key": option.key, "label": option.label} for option in dialog.options],
    }

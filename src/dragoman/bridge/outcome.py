"""How a round ended: the statuses, the options of a question, and what the footer carries."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec


class Status(StrEnum):
    """The ends of a round. Every command of the bridge ends with exactly one of them."""

    COMPLETED = "completed"
    NEEDS_PERMISSION = "needs_permission"
    NOT_SUBMITTED = "not_submitted"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    EXITED = "exited"
    BUSY = "busy"
    FAILED = "failed"


Source = Literal["hook", "transcript", "screen", "hook+screen", "bridge"]


class Option(msgspec.Struct, frozen=True):
    """One row of a question, as found on the screen.

    Attributes:
        key: what `cc-input --key` takes to choose it.
        label: the row's text, wrapped lines joined.
    """

    key: str
    label: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of one round.

    Attributes:
        status: which end.
        output: the clean text for the lead: the model's last message, or what there is of it.
        source: what told us.
        options: the rows of the question, for `needs_permission`.
        question: the question's text as on the screen.
        tool: the tool that asks.
        tool_input: its arguments as the hook reported them.
        error: why, in one sentence.
        exit_code: of Claude Code, negative for a signal.
        prompt_id: Claude Code's id of the turn.
        background_tasks: what still runs after the turn, such as a development server.
        busy: whether the turn goes on (after `timeout`).
        notes: what was done to the prompt before it was typed, or by Claude Code on arrival.
    """

    status: Status
    output: str = ""
    source: Source = "bridge"
    options: tuple[Option, ...] = ()
    question: str = ""
    tool: str | None = None
    tool_input: dict[str, Any] | None = None
    error: str | None = None
    exit_code: int | None = None
    prompt_id: str | None = None
    background_tasks: tuple[dict[str, Any], ...] = ()
    busy: bool = False
    notes: tuple[str, ...] = ()

    @property
    def suggested_keys(self) -> tuple[str, ...]:
        """The keys that answer the question."""
        return tuple(option.key for option in self.options)

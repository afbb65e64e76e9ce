"""What the model answers, before any wire gives it its bytes."""

from __future__ import annotations

from typing import Literal

import msgspec

from dragoman.rehearsal.asked import OfferedTool
from dragoman.rehearsal.scenario import Pace


class Thought(msgspec.Struct, frozen=True):
    """Reasoning."""

    text: str


class Speech(msgspec.Struct, frozen=True):
    """Visible text."""

    text: str


class Call(msgspec.Struct, frozen=True):
    """A tool call.

    Attributes:
        key: makes the call's id, the same for the same request.
        payload: the JSON arguments of a function, or the text of a custom tool.
    """

    key: str
    tool: OfferedTool
    payload: str


class Silence(msgspec.Struct, frozen=True):
    """A pause."""

    seconds: float


class Failure(msgspec.Struct, frozen=True):
    """An error of the provider; the last part of an answer."""

    status: int
    message: str
    code: str | None = None
    retry_after_s: int | None = None


class Cut(msgspec.Struct, frozen=True):
    """The connection drops; the last part of an answer."""


Part = Thought | Speech | Call | Silence | Failure | Cut


class Usage(msgspec.Struct, frozen=True):
    """Estimated tokens.

    Attributes:
        input: the whole prompt, cached parts included.
        cache_read: of that, what the cache held.
        cache_write: of that, what the cache took in.
        output: everything generated, reasoning included.
        reasoning: of that, the reasoning.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0


class Answer(msgspec.Struct, frozen=True):
    """One answer.

    Attributes:
        rule: the rule that gave it, for the journal.
        head_delay_s: silence before the response head.
        parts: in the order spoken.
        finish: why it ends.
    """

    scenario: str
    rule: str
    parts: tuple[Part, ...]
    finish: Literal["stop", "tools", "length"]
    pace: Pace
    usage: Usage
    head_delay_s: float = 0.0

    @property
    def refusal(self) -> Failure | None:
        """The error, when nothing at all is said before it: then it is an HTTP answer."""
        first = self.parts[0] if self.parts else None
        return first if isinstance(first, Failure) else None

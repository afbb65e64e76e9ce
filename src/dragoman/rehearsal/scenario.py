"""Scenarios as data: ordered rules, each saying when it applies and what the model then does."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

SCENARIO_VERSION = 1

Wire = Literal["messages", "chat", "responses"]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast an answer is spoken.

    Attributes:
        tokens_per_s: speed of the output; 0 speaks without waiting.
        chunk_tokens: tokens in one delta.
        first_byte_s: silence before the response head.
    """

    tokens_per_s: float = 0.0
    chunk_tokens: int = 4
    first_byte_s: float = 0.0


class When(msgspec.Struct, frozen=True, kw_only=True):
    """The conditions of a rule; all that are given must hold.

    Attributes:
        wire: the wires the request may come by.
        model: glob over the model name asked for.
        turn: assistant turns since the last user text, any of these numbers.
        turn_min: the same, as a lower bound.
        user_contains: text that the last user text holds.
        user_matches: regular expression searched in it; its groups become `${user.1}` or `${user.name}`.
        result_tool: one of the newest tool results answers a call of this tool.
        result_contains: text that this tool result holds.
        result_matches: regular expression searched in it; its groups become `${result.1}`.
        earlier_matches: regular expression searched in the tool results before those, newest first, back to
            the last user text; its groups become `${earlier.1}`.
        offers: tools that the request must all offer.
        tools: whether the request offers tools at all. Without tools it is taken for a side call (a title, a
            summary): rules that say `none` answer those, rules that say `any` only such as want neither a
            JSON schema nor a summary.
    """

    wire: tuple[Wire, ...] | None = None
    model: str | None = None
    turn: tuple[int, ...] | None = None
    turn_min: int | None = None
    user_contains: str | None = None
    user_matches: str | None = None
    result_tool: str | None = None
    result_contains: str | None = None
    result_matches: str | None = None
    earlier_matches: str | None = None
    offers: tuple[str, ...] | None = None
    tools: Literal["offered", "none", "any"] = "offered"

    @property
    def about_results(self) -> bool:
        """Whether the rule looks at tool results."""
        return any(
            given is not None for given in (self.result_tool, self.result_contains, self.result_matches)
        )


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """One tool call by its logical name.

    Attributes:
        tool: the tool's name without the prefix a client or a namespace gives it.
        args: the arguments of a function tool.
        input: the text of a freeform tool.
    """

    tool: str
    args: dict[str, Any] | None = None
    input: str | None = None


class Fail(msgspec.Struct, frozen=True, kw_only=True):
    """An error: an HTTP answer as long as nothing was said, an in-stream error afterwards.

    Attributes:
        status: the HTTP status, 400 to 599.
        code: the provider's word for it; without one, the usual word of the wire for that status.
        message: the provider's sentence.
        retry_after_s: seconds for a `retry-after` header.
    """

    status: int
    code: str | None = None
    message: str | None = None
    retry_after_s: int | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the model does; exactly one attribute is given.

    Attributes:
        think: reasoning.
        say: visible text.
        call: a tool call, as alternatives for clients whose tools differ: the first whose tool is offered is
            made. Several calls in one rule are made in parallel.
        fail: an error, and the end of the answer.
        delay_s: silence; before anything else it holds back the response head.
        cut: the connection drops here.
    """

    think: str | None = None
    say: str | None = None
    call: tuple[ToolUse, ...] | None = None
    fail: Fail | None = None
    delay_s: float | None = None
    cut: bool | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The first rule whose conditions hold answers the request."""

    name: str
    when: When
    do: tuple[Step, ...]
    pace: Pace | None = None


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario file.

    Attributes:
        name: how it is called in the journal and in errors.
        about: one sentence on what it shows.
        models: globs over the model names it answers for.
        pace: the pace of every rule that has none of its own.
        side: what a side call without a rule is answered with.
        rules: in order.
    """

    name: str
    about: str
    models: tuple[str, ...]
    pace: Pace
    side: str
    rules: tuple[Rule, ...]

"""What is said to an upstream about thinking: one plan from the client's wish and the provider's profile."""

from __future__ import annotations

import msgspec

from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.turns import Effort, Thinking

MIN_BUDGET_TOKENS = 1_024

_BUDGET_EFFORTS: tuple[tuple[int, Effort], ...] = ((4_096, "low"), (16_384, "medium"))
_EFFORT_BUDGETS: dict[Effort, int] = {
    "minimal": 1_024,
    "low": 4_096,
    "medium": 16_384,
    "high": 32_000,
    "xhigh": 48_000,
    "max": 64_000,
}


class ThinkingPlan(msgspec.Struct, frozen=True):
    """What to send.

    Attributes:
        state: `silent` sends no switch, `on` and `off` send it.
        effort: the effort word for the profile's effort field, None to send none.
        active: whether the model will think, as far as one can know.
        budget_tokens: thinking ceiling, None to send none.
    """

    state: str
    effort: str | None
    active: bool
    budget_tokens: int | None = None


def plan_thinking(
    wish: Thinking, *, model: str, dialect: Dialect, limits: Limits, max_output_tokens: int | None = None
) -> ThinkingPlan:
    """Decide about the thinking switch, the effort word and the budget.

    A client that wants none is taken at its word: providers that think by default are told so explicitly,
    otherwise short calls spend their whole output ceiling on thoughts (measured: empty session titles).

    Args:
        wish: the client's.
        model: the upstream's model name.
        dialect: the provider's profile.
        limits: what the model can take.
        max_output_tokens: the output ceiling that will be sent; a budget stays below it.
    """
    if not limits.thinks:
        return ThinkingPlan("silent", None, active=False)
    effort = wish.effort if wish.effort is not None else _effort_of_budget(wish.budget_tokens)
    off = wish.mode == "off" or effort in ("none", "minimal")
    if effort == "minimal" and dialect.effort_word(model, "minimal") not in (None, "off"):
        off = wish.mode == "off"
    if off:
        return _off(effort, model, dialect)
    if wish.mode == "default" and effort is None:
        return ThinkingPlan("silent", None, active=dialect.thinks_by_default)
    word = dialect.effort_word(model, effort) if effort is not None else None
    if word == "off":
        return _off(effort, model, dialect)
    if wish.mode == "default" and dialect.thinking_key in ("none", "reasoning"):
        return ThinkingPlan("silent", word, active=True)
    if not dialect.budget_tokens:
        return ThinkingPlan("on", word, active=True)
    budget_tokens = _budget(wish, effort, max_output_tokens)
    if budget_tokens is None:
        return _off(effort, model, dialect)
    return ThinkingPlan("on", word, active=True, budget_tokens=budget_tokens)


def _off(effort: Effort | None, model: str, dialect: Dialect) -> ThinkingPlan:
    word = dialect.effort_word(model, "none")
    if word in (None, "off"):
        # Adaptive models measure their answers by the effort, thinking or not.
        keeps_effort = dialect.effort_when_off or dialect.thinking_key == "adaptive"
        word = dialect.effort_word(model, effort) if effort is not None and keeps_effort else None
        word = None if word == "off" else word
        if dialect.thinking_key == "none":
            return ThinkingPlan("silent", word, active=dialect.thinks_by_default)
    elif dialect.thinking_key == "none":
        return ThinkingPlan("silent", word, active=False)
    elif not dialect.effort_when_off:
        word = None
    if not dialect.thinks_by_default and dialect.thinking_key == "adaptive":
        return ThinkingPlan("silent", word, active=False)
    return ThinkingPlan("off", word, active=False)


def _effort_of_budget(budget_tokens: int | None) -> Effort | None:
    if budget_tokens is None:
        return None
    for ceiling, effort in _BUDGET_EFFORTS:
        if budget_tokens <= ceiling:
            return effort
    return "high"


def _budget(wish: Thinking, effort: Effort | None, max_output_tokens: int | None) -> int | None:
    """A budget below the output ceiling; None when there is no room for the smallest one."""
    budget_tokens = wish.budget_tokens or _EFFORT_BUDGETS.get(effort or "medium", 16_384)
    if max_output_tokens is not None:
        budget_tokens = min(budget_tokens, max_output_tokens - 1)
    return budget_tokens if budget_tokens >= MIN_BUDGET_TOKENS else None

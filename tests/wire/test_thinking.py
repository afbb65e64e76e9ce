"""What an upstream is told about thinking."""

from __future__ import annotations

import pytest

from dragoman.wire.dialect import Dialect, EffortRule, Limits
from dragoman.wire.thinking import ThinkingPlan, plan_thinking
from dragoman.wire.turns import Effort, Thinking

WORDS: dict[Effort, str] = {"none": "off", "minimal": "off", "low": "high", "high": "high", "xhigh": "max"}
TOGGLE = Dialect(thinks_by_default=True, thinking_key="thinking", efforts=(EffortRule(words=WORDS),))
WORDED = Dialect(effort_key="reasoning_effort", efforts=(EffortRule(words={"none": "none", "low": "low"}),))


def plan(wish: Thinking, dialect: Dialect = TOGGLE, **more: object) -> ThinkingPlan:
    return plan_thinking(wish, model="m", dialect=dialect, limits=Limits(), **more)  # type: ignore[arg-type]


def test_silence_stays_silence() -> None:
    assert plan(Thinking()) == ThinkingPlan("silent", None, active=True)


def test_off_is_said_aloud_to_a_provider_that_thinks_by_default() -> None:
    assert plan(Thinking(mode="off")) == ThinkingPlan("off", None, active=False)


def test_an_effort_never_accompanies_off_where_it_is_refused() -> None:
    assert plan(Thinking(mode="off", effort="max")).effort is None


@pytest.mark.parametrize("effort", ["none", "minimal"])
def test_the_lowest_efforts_switch_thinking_off(effort: Effort) -> None:
    assert plan(Thinking(effort=effort)).state == "off"


def test_an_effort_switches_thinking_on_and_uses_the_providers_word() -> None:
    assert plan(Thinking(effort="xhigh")) == ThinkingPlan("on", "max", active=True)


def test_an_effort_the_provider_does_not_know_is_not_sent() -> None:
    assert plan(Thinking(effort="medium")) == ThinkingPlan("on", None, active=True)


def test_a_provider_with_only_an_effort_word_is_told_off_by_it() -> None:
    assert plan(Thinking(mode="off"), WORDED).effort == "none"


def test_the_first_rule_that_matches_the_model_counts() -> None:
    rules = (EffortRule(models=("glm-5.3*",), words={"low": "low"}), EffortRule(words={"low": "high"}))
    dialect = Dialect(thinking_key="thinking", efforts=rules)
    asked = Thinking(effort="low")
    assert plan_thinking(asked, model="glm-5.3-x", dialect=dialect, limits=Limits()).effort == "low"
    assert plan_thinking(asked, model="glm-5.2", dialect=dialect, limits=Limits()).effort == "high"


def test_a_budget_stays_below_the_output_ceiling() -> None:
    dialect = Dialect(thinking_key="thinking", budget_tokens=True)
    assert (
        plan(Thinking(mode="on", budget_tokens=31_999), dialect, max_output_tokens=2_000).budget_tokens
        == 1_999
    )


def test_without_room_for_the_smallest_budget_there_is_no_thinking() -> None:
    dialect = Dialect(thinking_key="thinking", budget_tokens=True)
    assert not plan(Thinking(effort="high"), dialect, max_output_tokens=900).active


def test_a_budget_becomes_an_effort_where_only_efforts_exist() -> None:
    assert plan(Thinking(mode="on", budget_tokens=31_999)).effort == "high"


def test_a_model_that_does_not_think_hears_nothing_of_it() -> None:
    found = plan_thinking(Thinking(effort="high"), model="m", dialect=TOGGLE, limits=Limits(thinks=False))
    assert found == ThinkingPlan("silent", None, active=False)

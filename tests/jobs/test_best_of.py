"""Attempts are ranked by what was proved, whatever they say of themselves."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dragoman.jobs.best_of import rank


def result(status: str = "success", verdict: str = "proved", files: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "status": status,
        "evidence": {
            "verdict": verdict,
            "after": [{"status": {"proved": "passed"}.get(verdict, verdict)}],
            "differences": [],
        },
        "delta": {"files": [{"path": f"f{n}", "added": 1, "removed": 0} for n in range(files)]},
        "warnings": [],
        **more,
    }


def order(*results: dict[str, Any]) -> list[int]:
    return [standing.attempt for standing in rank(results)]


def test_of_three_the_one_that_passes_is_first() -> None:
    assert order(result("partial", "failed"), result("failed", "unproved"), result())[0] == 2


def test_a_proved_success_comes_before_one_that_nothing_proves() -> None:
    assert order(result(verdict="unproved"), result()) == [1, 0]


def test_doing_nothing_is_not_the_best_way_to_pass() -> None:
    assert order(result(files=0), result(files=3)) == [1, 0]


def test_among_equals_the_smaller_and_cheaper_change_wins() -> None:
    small, large = result(files=1), result(files=4)
    assert order(large, small) == [1, 0]
    cheap = result(gateway_usage={"total": {"cost_usd": 0.01}})
    dear = result(gateway_usage={"total": {"cost_usd": 0.5}})
    assert order(dear, cheap) == [1, 0]


def test_only_a_success_with_a_change_can_be_applied() -> None:
    standings = rank([result("partial", "failed"), result(files=0), result()])
    assert {standing.attempt for standing in standings if standing.usable} == {2}


def test_a_result_that_says_next_to_nothing_is_last_and_breaks_nothing() -> None:
    assert order({}, {"status": None, "delta": None, "evidence": []}, result()) == [2, 0, 1]


@given(st.lists(st.sampled_from(["success", "partial", "failed", "needs_user"]), min_size=1, max_size=6))
def test_the_order_of_asking_matters_only_among_equals(statuses: list[str]) -> None:
    results = [result(status, wall_s=number) for number, status in enumerate(statuses)]
    best = results[order(*results)[0]]
    shuffled = random.Random(1).sample(results, len(results))
    assert shuffled[order(*shuffled)[0]] == best

"""How often a lead may ask: delays by age, and haste noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.jobs.polling import PollAdvice, advise, recommended_delay_s
from dragoman.jobs.states import Staleness, staleness

_TIMES = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("age_s", "delay_s"),
    [
        (0, 10),
        (29.9, 10),
        (30, 20),
        (119, 20),
        (120, 45),
        (599, 45),
        (600, 60),
        (1799, 60),
        (1800, 90),
        (9e9, 90),
    ],
)
def test_c14_the_delay_grows_with_the_jobs_age(age_s: float, delay_s: float) -> None:
    assert recommended_delay_s(age_s, Staleness.FRESH) == delay_s


@pytest.mark.parametrize(
    ("silent_s", "seen", "delay_s"),
    [(90, "fresh", 10), (91, "stale_candidate", 30), (300, "stale_candidate", 30), (301, "stale", None)],
)
def test_c14_a_silent_job_is_asked_after_at_another_pace_and_a_stale_one_not_at_all(
    silent_s: float, seen: str, delay_s: float | None
) -> None:
    assert staleness(silent_s) == seen
    assert recommended_delay_s(5, staleness(silent_s)) == delay_s


def _ask(
    now: float, last: PollAdvice | None = None, *, age_s: float = 5.0, ended: bool = False
) -> PollAdvice:
    return advise(
        now=now,
        age_s=age_s,
        staleness=Staleness.FRESH,
        ended=ended,
        last_wait_at=None if last is None else last.last_wait_at,
        last_delay_s=None if last is None or last.recommended_delay_ms is None else 10.0,
    )


@given(_TIMES, st.floats(0, 9.9))
def test_asking_too_soon_does_not_move_the_moment_when_asking_is_allowed(now: float, after_s: float) -> None:
    first = _ask(now)
    second = _ask(now + after_s, first)
    third = _ask(now + after_s, second)
    assert second.poll_too_soon
    assert third.poll_too_soon
    assert second.next_allowed_poll_at == third.next_allowed_poll_at == first.next_allowed_poll_at


@given(_TIMES, st.floats(10.1, 1e6))
def test_asking_when_it_was_allowed_is_not_too_soon(now: float, after_s: float) -> None:
    assert not _ask(now + after_s, _ask(now)).poll_too_soon


def test_a_job_that_is_over_can_be_asked_after_at_any_time() -> None:
    seen = _ask(100.0, _ask(99.9), ended=True)
    assert (seen.poll_too_soon, seen.recommended_delay_ms) == (False, None)


def test_c20_a_clock_set_back_makes_nobody_wait_for_ever() -> None:
    assert not _ask(100.0, _ask(5000.0)).poll_too_soon

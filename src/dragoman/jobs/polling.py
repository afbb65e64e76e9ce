"""How often a lead may ask after a job: recommended delays, and when it asks too soon.

The delays are those leads know from codex-claude-delegate 0.1: they grow with the job's age.
"""

from __future__ import annotations

import msgspec

from dragoman.jobs.states import Staleness

_DELAYS_S = ((30.0, 10.0), (120.0, 20.0), (600.0, 45.0), (1800.0, 60.0))
_LATE_DELAY_S = 90.0
_DOUBTFUL_DELAY_S = 30.0


class PollAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """When to ask again.

    Attributes:
        poll_too_soon: whether this was asked before the delay given last had passed.
        recommended_delay_ms: how long to wait, None when waiting is no longer the thing to do.
        remaining_delay_ms: what is left of the delay given last, when asked too soon.
        next_allowed_poll_at: seconds since the epoch, None with `recommended_delay_ms`.
        last_wait_at: what the asker's last question is to be kept as.
    """

    poll_too_soon: bool
    recommended_delay_ms: int | None
    remaining_delay_ms: int | None = None
    next_allowed_poll_at: float | None = None
    last_wait_at: float | None = None


def recommended_delay_s(age_s: float, staleness: Staleness) -> float | None:
    """How long to wait before asking again.

    Args:
        age_s: seconds since the job was asked for.
        staleness: whether it still gives signs of life.

    Returns:
        None for a stale job: cancel it or look at it instead.
    """
    match staleness:
        case Staleness.STALE:
            return None
        case Staleness.STALE_CANDIDATE:
            return _DOUBTFUL_DELAY_S
        case Staleness.FRESH:
            return next((delay for limit, delay in _DELAYS_S if age_s < limit), _LATE_DELAY_S)


def advise(
    *,
    now: float,
    age_s: float,
    staleness: Staleness,
    ended: bool,
    last_wait_at: float | None,
    last_delay_s: float | None,
) -> PollAdvice:
    """What to tell somebody who asks after a job without blocking.

    Args:
        now: seconds since the epoch.
        age_s: seconds since the job was asked for.
        staleness: whether it still gives signs of life.
        ended: whether it is over.
        last_wait_at: when it was asked after last and that was not too soon, seconds since the epoch.
        last_delay_s: the delay recommended then.
    """
    delay_s = None if ended else recommended_delay_s(age_s, staleness)
    if delay_s is None:
        return PollAdvice(poll_too_soon=False, recommended_delay_ms=None, last_wait_at=now)
    if last_wait_at is not None and last_delay_s is not None and 0 <= now - last_wait_at < last_delay_s:
        allowed = last_wait_at + last_delay_s
        return PollAdvice(
            poll_too_soon=True,
            recommended_delay_ms=round(delay_s * 1000),
            remaining_delay_ms=round((allowed - now) * 1000),
            next_allowed_poll_at=allowed,
            last_wait_at=last_wait_at,
        )
    return PollAdvice(
        poll_too_soon=False,
        recommended_delay_ms=round(delay_s * 1000),
        next_allowed_poll_at=now + delay_s,
        last_wait_at=now,
    )

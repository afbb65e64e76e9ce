"""The states of a job, and how the end of a run becomes one of them.

A job is `queued`, then `running`, then one of four ends, and never leaves an end again. The phase says what
a running job is busy with; it is for people, and nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

JobKind = Literal["query", "review", "implement"]
ResultStatus = Literal["success", "partial", "failed", "needs_user", "unknown"]


class JobStatus(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CRASHED = "crashed"


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.CRASHED})
ACTIVE = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})


class Staleness(StrEnum):
    """Whether a job that is not over still gives signs of life."""

    FRESH = "fresh"
    STALE_CANDIDATE = "stale_candidate"
    STALE = "stale"


# The thresholds leads already know from codex-claude-delegate 0.1.
STALE_CANDIDATE_S = 90.0
STALE_S = 300.0


def staleness(silent_s: float) -> Staleness:
    """How worrying a silence is.

    Args:
        silent_s: seconds since the last sign of life, by a clock that never jumps.
    """
    if silent_s > STALE_S:
        return Staleness.STALE
    return Staleness.STALE_CANDIDATE if silent_s > STALE_CANDIDATE_S else Staleness.FRESH


def status_of_result(result: Mapping[str, Any]) -> JobStatus:
    """The end a job gets from its run's result.

    A partial result and one that needs the user are ends the worker reached: the job succeeded in bringing
    them. What was cancelled is cancelled, whatever had been done until then.
    """
    code = result.get("error_code")
    if code == "worker_cancelled":
        return JobStatus.CANCELLED
    if code == "runner_crashed":
        return JobStatus.CRASHED
    match result.get("status"):
        case "success" | "partial" | "needs_user":
            return JobStatus.SUCCEEDED
        case _:
            return JobStatus.FAILED


def result_status_of(result: Mapping[str, Any]) -> ResultStatus:
    """The status a result itself states."""
    match result.get("status"):
        case "success" | "partial" | "failed" | "needs_user" as said:
            return said
        case _:
            return "unknown"

"""A job as every surface shows it."""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman.jobs.states import JobKind, JobStatus, ResultStatus, Staleness
from dragoman.jobs.table import Job


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as JSON; every field is there, and none holds a prompt.

    Attributes:
        job_id, run_id: its names; the run's is also the workspace's.
        type: what the worker is.
        status: `queued running succeeded failed cancelled crashed`.
        result_status: what its result states, once there is one.
        phase: what it is busy with; null when it is over.
        stale_state: whether it still gives signs of life.
        heartbeat_age_ms: since the last sign of life; null unless it runs.
        repository, cwd: absolute paths.
        model, worker: as asked; null follows the configuration.
        priority: 0 is first.
        created_at, started_at, ended_at: seconds since the epoch.
        age_ms: since it was asked for.
        cancelling: whether it is being ended.
        queued_behind: the job it waits for.
        joined: how many equal requests were answered with it.
        error_code, error: why it did not succeed.
        summary: one line about the result.
        goal_item_id, supersedes_run_id: the lead's own names.
        asked_by: the client that asked.
    """

    job_id: str
    run_id: str
    type: JobKind
    status: JobStatus
    result_status: ResultStatus | None
    phase: str | None
    stale_state: Staleness
    heartbeat_age_ms: int | None
    repository: str
    cwd: str
    model: str | None
    worker: str | None
    priority: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    age_ms: int
    cancelling: bool
    queued_behind: str | None
    joined: int
    error_code: str | None
    error: str | None
    summary: str | None
    goal_item_id: str | None
    supersedes_run_id: str | None
    asked_by: str | None

    @property
    def ended(self) -> bool:
        """Whether it is over for good."""
        return self.status not in (JobStatus.QUEUED, JobStatus.RUNNING)


def view_of(
    job: Job,
    *,
    now: float,
    phase: str | None = None,
    silent_s: float | None = None,
    stale: Staleness = Staleness.FRESH,
    queued_behind: str | None = None,
) -> JobView:
    """A row as it is shown.

    Args:
        job: the row.
        now: seconds since the epoch.
        phase: what the run told last.
        silent_s: seconds since it told anything; None unless it runs.
        stale: how worrying that is.
        queued_behind: the job a queued one waits for.
    """
    running = job.status is JobStatus.RUNNING
    cancelling = running and job.cancel_asked_at is not None
    return JobView(
        job_id=job.id,
        run_id=job.run_id,
        type=job.kind,
        status=job.status,
        result_status=job.result_status,
        phase=("cancelling" if cancelling else phase or "starting") if running else None,
        stale_state=stale,
        heartbeat_age_ms=None if silent_s is None else round(silent_s * 1000),
        repository=job.repository,
        cwd=job.request.cwd,
        model=job.request.model,
        worker=job.request.worker,
        priority=job.priority,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        age_ms=max(0, round((now - job.created_at) * 1000)),
        cancelling=cancelling,
        queued_behind=queued_behind,
        joined=job.joined,
        error_code=job.error_code,
        error=job.error,
        summary=job.summary,
        goal_item_id=job.request.goal_item_id,
        supersedes_run_id=job.request.supersedes_run_id,
        asked_by=job.request.asker.client,
    )


def summary_of(result: dict[str, Any]) -> str:
    """One line about a result, at most 200 characters."""
    parts = [str(result.get("status", "unknown"))]
    match result.get("delta"):
        case {"files": [*files]} if files:
            parts.append(f"{len(files)} changed file{'s' if len(files) != 1 else ''}")
        case _:
            pass
    match result.get("evidence"):
        case {"verdict": str(verdict)}:
            parts.append(verdict)
        case _:
            pass
    if error := result.get("error"):
        parts.append(str(error))
    return ", ".join(parts)[:200]

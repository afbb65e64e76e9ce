"""Admission, in one transaction: is it the same as a job under way, may it start, or must it wait?"""

from __future__ import annotations

from typing import Literal

import msgspec
from sqlalchemy import Connection, and_, func, select, text, update

from dragoman.jobs.states import ACTIVE, JobStatus
from dragoman.jobs.table import Job, add_job, job_of, jobs, move, read_job
from dragoman.store.database import Database

Decision = Literal["created", "deduped", "busy_existing"]

# Any constant will do; it only must be ours alone among the advisory locks of a shared server.
_POSTGRES_LOCK = 0x6472_6A6F


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request.

    Attributes:
        job: the new job, the equal one that is under way, or the one in the way.
        decision: which of them; a job that is `deduped` or `busy_existing` was there before.
        queued_behind: the job whose end this one waits for.
    """

    job: Job
    decision: Decision
    queued_behind: str | None = None


def admit(database: Database, candidate: Job, *, max_writes: int) -> Admitted:
    """Let a job in, whole or not at all; any number of processes may ask at once.

    Args:
        database: where the jobs are.
        candidate: the job as it would be; its status and number are decided here.
        max_writes: how many limited jobs of one repository may run at a time.

    Raises:
        StoreUnavailable: the database does not answer; nothing was admitted.
    """
    with database.write() as connection:
        _serialize(database, connection)
        if same := _same_job(connection, candidate):
            connection.execute(update(jobs).where(jobs.c.id == same.id).values(joined=same.joined + 1))
            return Admitted(job=msgspec.structs.replace(same, joined=same.joined + 1), decision="deduped")
        in_the_way = _in_the_way(connection, candidate) if candidate.limited else []
        full = len(in_the_way) >= max_writes
        if full and candidate.request.when_busy == "tell":
            return Admitted(job=in_the_way[0], decision="busy_existing")
        last = connection.execute(select(func.max(jobs.c.number))).scalar_one()
        job = msgspec.structs.replace(
            candidate, status=JobStatus.QUEUED if full else JobStatus.RUNNING, number=(last or 0) + 1
        )
        add_job(connection, job)
        return Admitted(job=job, decision="created", queued_behind=in_the_way[0].id if full else None)


def promote(database: Database, executor: str, *, max_writes: int) -> list[Job]:
    """Let queued jobs start where there is room now.

    Args:
        database: where the jobs are.
        executor: whose queue.
        max_writes: how many limited jobs of one repository may run at a time.

    Returns:
        The jobs that are running now, in the order they came in.
    """
    with database.write() as connection:
        _serialize(database, connection)
        counted = connection.execute(
            select(jobs.c.repository, func.count().label("writes"))
            .where(
                jobs.c.executor == executor,
                jobs.c.status == str(JobStatus.RUNNING),
                jobs.c.limited.is_(True),
            )
            .group_by(jobs.c.repository)
        ).mappings()
        running: dict[str, int] = {row["repository"]: row["writes"] for row in counted}
        promoted: list[Job] = []
        waiting = (
            connection.execute(
                select(jobs)
                .where(jobs.c.executor == executor, jobs.c.status == str(JobStatus.QUEUED))
                .order_by(jobs.c.priority, jobs.c.number)
            )
            .mappings()
            .all()
        )
        for row in waiting:
            job = job_of(row)
            if job.limited and running.get(job.repository, 0) >= max_writes:
                continue
            if move(connection, job.id, JobStatus.RUNNING, expected={JobStatus.QUEUED}):
                running[job.repository] = running.get(job.repository, 0) + job.limited
                promoted.append(msgspec.structs.replace(job, status=JobStatus.RUNNING))
        return promoted


def withdraw(database: Database, job_id: str, *, now: float) -> Job | None:
    """Cancel a queued job, so that it never starts; a running one is only marked as to be ended.

    Args:
        database: where the jobs are.
        job_id: whose.
        now: seconds since the epoch.

    Returns:
        The job as it is now, or None when there is none of this id.
    """
    with database.write() as connection:
        _serialize(database, connection)
        job = read_job(connection, job_id)
        if job is None or job.ended:
            return job
        cancelled = {"error_code": "worker_cancelled", "error": "cancelled before it started"}
        if not move(
            connection,
            job_id,
            JobStatus.CANCELLED,
            expected={JobStatus.QUEUED},
            cancel_asked_at=now,
            ended_at=now,
            **cancelled,
        ):
            # An equal request that comes while this one is dying is new work, not this job.
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id, jobs.c.cancel_asked_at.is_(None))
                .values(cancel_asked_at=now, fingerprint=f"{job.fingerprint}:{job.id}")
            )
        return read_job(connection, job_id)


def _serialize(database: Database, connection: Connection) -> None:
    """Admissions come one after the other: on SQLite a writer is alone anyway."""
    if database.kind == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})


def _same_job(connection: Connection, candidate: Job) -> Job | None:
    row = (
        connection.execute(
            select(jobs).where(
                jobs.c.executor == candidate.executor,
                jobs.c.fingerprint == candidate.fingerprint,
                jobs.c.status.in_(sorted(ACTIVE)),
            )
        )
        .mappings()
        .first()
    )
    return None if row is None else job_of(row)


def _in_the_way(connection: Connection, candidate: Job) -> list[Job]:
    """Limited jobs of the repository that run, and those queued that would start before this one."""
    first = and_(jobs.c.status == str(JobStatus.QUEUED), jobs.c.priority <= candidate.priority)
    rows = (
        connection.execute(
            select(jobs)
            .where(
                jobs.c.executor == candidate.executor,
                jobs.c.repository == candidate.repository,
                jobs.c.limited.is_(True),
                (jobs.c.status == str(JobStatus.RUNNING)) | first,
            )
            .order_by(jobs.c.status.desc(), jobs.c.number)
        )
        .mappings()
        .all()
    )
    return [job_of(row) for row in rows]

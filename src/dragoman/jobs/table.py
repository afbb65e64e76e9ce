"""The jobs table: one row a job, the state shown. What happened in a run is in its folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    insert,
    select,
    text,
    update,
)

from dragoman.jobs.request import JobRequest
from dragoman.jobs.states import ACTIVE, TERMINAL, JobKind, JobStatus, ResultStatus
from dragoman.store.migrations import Migration

_metadata = MetaData()

jobs = Table(
    "jobs",
    _metadata,
    Column("id", String, primary_key=True),
    # Admission order within a priority; ids are random and clocks jump.
    Column("number", Integer, nullable=False),
    Column("executor", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("status", String, nullable=False),
    Column("result_status", String),
    Column("repository", String, nullable=False),
    Column("limited", Boolean, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("run_id", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("runner_pid", Integer),
    Column("runner_started_at", String),
    Column("cancel_asked_at", Float),
    Column("last_wait_at", Float),
    Column("last_wait_delay_s", Float),
    Column("error_code", String),
    Column("error", Text),
    Column("summary", Text),
    Column("joined", Integer, nullable=False),
    Column("request", Text, nullable=False),
    Index("jobs_by_state", "executor", "status", "repository"),
    Index("jobs_by_number", "number"),
    # What makes "once at a time" a fact of the database and not of our care.
    Index(
        "jobs_active_once",
        "executor",
        "fingerprint",
        unique=True,
        sqlite_where=text("status IN ('queued', 'running')"),
        postgresql_where=text("status IN ('queued', 'running')"),
    ),
)


def _make_jobs(connection: Connection) -> None:
    jobs.create(connection)


ROOM = "jobs"
MIGRATIONS: Sequence[Migration] = (_make_jobs,)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job as the table has it.

    Attributes:
        id: `job-` and twelve hexadecimal digits.
        number: rises with every job.
        executor: the machine and home it belongs to.
        kind: what the worker is.
        status: where it is.
        result_status: what its result states, once there is one.
        repository: top of the work tree, every symlink resolved.
        limited: whether the repository's write limit is for it.
        fingerprint: see `request_key`.
        priority: 0 is first.
        run_id: its run, also the workspace's id.
        created_at, started_at, ended_at: seconds since the epoch.
        runner_pid, runner_started_at: the runner's identity, once it was started.
        cancel_asked_at: when somebody wanted it ended.
        last_wait_at, last_wait_delay_s: when it was asked after last, and the delay recommended then.
        error_code, error: why it did not succeed.
        summary: one line about the result.
        joined: how many equal requests were answered with it.
        request: what was asked.
    """

    id: str
    number: int
    executor: str
    kind: JobKind
    status: JobStatus
    result_status: ResultStatus | None
    repository: str
    limited: bool
    fingerprint: str
    priority: int
    run_id: str
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    runner_pid: int | None = None
    runner_started_at: str | None = None
    cancel_asked_at: float | None = None
    last_wait_at: float | None = None
    last_wait_delay_s: float | None = None
    error_code: str | None = None
    error: str | None = None
    summary: str | None = None
    joined: int = 0
    request: JobRequest

    @property
    def ended(self) -> bool:
        """Whether it is over for good."""
        return self.status in TERMINAL


def add_job(connection: Connection, job: Job) -> None:
    """Write a new row."""
    values = msgspec.structs.asdict(job)
    values["request"] = msgspec.json.encode(job.request).decode()
    connection.execute(insert(jobs).values(values))


def read_job(connection: Connection, job_id: str) -> Job | None:
    """The row of an id."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().first()
    return None if row is None else job_of(row)


def job_of(row: RowMapping) -> Job:
    """A row of the table as a job."""
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    values["request"] = msgspec.json.decode(values["request"], type=JobRequest)
    values["status"] = JobStatus(values["status"])
    return Job(**values)


def move(
    connection: Connection,
    job_id: str,
    to: JobStatus,
    *,
    expected: Collection[JobStatus] = ACTIVE,
    **fields: Any,
) -> bool:
    """Bring a job from an expected state to another, by compare and set.

    Args:
        connection: of a write transaction.
        job_id: whose.
        to: the new state.
        expected: states it may be in; an end is never among them, so an end is never left.
        fields: further columns to set.

    Returns:
        False when the job was in none of the expected states; nothing is changed then.
    """
    assert not TERMINAL.intersection(expected)
    changed = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.status.in_(sorted(expected)))
        .values(status=str(to), **fields)
    )
    return changed.rowcount == 1


def note(connection: Connection, job_id: str, **fields: Any) -> None:
    """Set columns of a job that do not change its state."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**fields))

"""What sees jobs through: rows kept true to their folders, runners started once, ends written down once.

`JobService` is this with everything that can be asked of jobs on top.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import select

from dragoman.config.paths import Home
from dragoman.config.tokens import revoke_run
from dragoman.errors import DragomanError
from dragoman.jobs.admission import promote
from dragoman.jobs.folder import RunFolder
from dragoman.jobs.pulse import Pulses
from dragoman.jobs.reconcile import bury, failed_result, find_runner, look, plan_step, runner_of
from dragoman.jobs.states import ACTIVE, JobStatus, Staleness, result_status_of, staleness, status_of_result
from dragoman.jobs.table import MIGRATIONS, ROOM, Job, job_of, jobs, move, note, read_job
from dragoman.jobs.view import JobView, summary_of, view_of
from dragoman.process.identity import ProcessIdentity
from dragoman.process.locks import is_locked
from dragoman.store.database import Database
from dragoman.store.errors import StoreUnavailable
from dragoman.store.migrations import migrate


class JobNotFound(DragomanError):
    """No job has this id."""

    code = "job_not_found"
    http_status = 404


class Launch(Protocol):
    """Mints a run's token, writes its folder and starts its runner; see `dragoman.jobs.launching`."""

    def __call__(self, job: Job, resume_run: str | None) -> ProcessIdentity: ...


class Engine(Protocol):
    """Sees a running job through, whatever dies meanwhile; see `dragoman.jobs.engine`."""

    def start(self, job_id: str) -> None:
        """Take a job up; harmless when it has been already."""
        ...

    def warm(self) -> None:
        """Begin to load, in the background; harmless when it has been."""
        ...


def _no_usage(run_id: str) -> Any:
    return None


@dataclass
class Oversight:
    """Sees the jobs of one home through; its methods block and may be called from any thread.

    Attributes:
        home: whose jobs.
        database: where their table is; `open` brings it up to date.
        executor: name of this machine and home among those that share the database.
        launch: starts a run's runner.
        max_writes: how many writes of one repository may run at a time.
        usage_of: what the ledger knows of a run, ready for JSON, or None.
        wall: seconds since the epoch.
        clock: seconds, monotonic.
        sleep: waits seconds.
        new_id: makes twelve random hexadecimal digits.
        engine: sees jobs through; set before the first job comes.
        on_change: told of every job whose state or phase has changed, from any thread.
    """

    home: Home
    database: Database
    executor: str
    launch: Launch
    max_writes: Callable[[], int] = lambda: 1
    usage_of: Callable[[str], Any] = _no_usage
    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    new_id: Callable[[], str] = lambda: secrets.token_hex(6)
    engine: Engine | None = None
    on_change: list[Callable[[JobView], None]] = field(default_factory=list[Callable[[JobView], None]])

    def __post_init__(self) -> None:
        self._pulses = Pulses(self.clock)
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._guard = threading.Lock()
        self._opening = threading.Lock()
        self._opened = False
        self._per_job: dict[str, threading.Lock] = {}

    def open(self) -> None:
        """Bring the table up to date; whatever needs it calls this first, and only the first call works.

        Raises:
            StoreUnavailable, StoreTooNew: as `migrate`.
        """
        with self._opening:
            if not self._opened:
                migrate(self.database, ROOM, MIGRATIONS, wall=self.wall)
                self._opened = True

    def expect_work(self) -> None:
        """Somebody is here who will ask for jobs: get ready, so that the first one does not wait for it."""
        if self.engine is not None:
            self.engine.warm()

    def folder(self, run_id: str) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.home.runs / run_id)

    def settle(self) -> None:
        """Look at every job that is said to run and correct what is not true; start what may start."""
        for job in self.under_way():
            if job.status is JobStatus.RUNNING:
                self._settled(job)
        self._promote()

    def under_way(self) -> list[Job]:
        """The jobs of this home that are not over."""
        self.open()
        with self.database.read() as connection:
            wanted = select(jobs).where(jobs.c.executor == self.executor, jobs.c.status.in_(sorted(ACTIVE)))
            return [job_of(row) for row in connection.execute(wanted.order_by(jobs.c.number)).mappings()]

    def job_of_runs(self) -> dict[str, str]:
        """The job of every run, for sums by job."""
        self.open()
        with self.database.read() as connection:
            rows = connection.execute(select(jobs.c.run_id, jobs.c.id)).mappings()
            return {row["run_id"]: row["id"] for row in rows}

    def needs_us(self) -> bool:
        """Whether a job waits for its start, which only a living control process gives it."""
        try:
            waiting = [job for job in self.under_way() if job.runner_pid is None]
        except StoreUnavailable:
            return False
        return bool(waiting)

    def carry(self, job_id: str) -> bool:
        """One step of seeing a job through: start its runner, or see whether it has ended.

        Returns:
            True when the job is over.
        """
        with self.database.read() as connection:
            job = read_job(connection, job_id)
        if job is None or job.ended:
            return True
        if job.status is not JobStatus.RUNNING:
            return False
        job = self._settled(job, may_launch=True)
        if not job.ended:
            pulse = self._pulses.feel(self.folder(job.run_id))
            if pulse.phase != pulse.told:
                pulse.told = pulse.phase
                self._tell(job)
        return job.ended

    def glance(self, run_id: str) -> bool:
        """Whether a run goes on as it did: cheap enough for many times a second."""
        folder = self.folder(run_id)
        if folder.result_file.exists() or not is_locked(folder.lock_file):
            return False
        pulse = self._pulses.feel(folder)
        return pulse.phase == pulse.told

    def _settled(self, job: Job, *, may_launch: bool = False) -> Job:
        """Bring a running job's row in line with its folder."""
        if job.status is not JobStatus.RUNNING:
            return job
        with self._lock_of(job.id):
            job = self._read(job.id)  # another thread may have started or ended it meanwhile
            if job.status is not JobStatus.RUNNING:
                return job
            folder = self.folder(job.run_id)
            sight = look(folder, runner_of(job))
            match plan_step(sight):
                case "follow":
                    if job.cancel_asked_at is not None and not folder.cancel_file.exists():
                        folder.cancel()  # asked for while the folder was being made
                    return job
                case "launch":
                    return self._launched(job) if may_launch else job
                case "finish":
                    assert sight.result is not None
                    return self._finished(job, sight.result)
                case "bury":
                    result = bury(folder, job)
                    return job if result is None else self._finished(job, result)

    def _launched(self, job: Job) -> Job:
        if job.cancel_asked_at is not None:
            result = failed_result(job, DragomanError("cancelled before it started", code="worker_cancelled"))
            return self._finished(job, result)
        try:
            # A look at every process there is; without a folder no runner was ever started.
            runner = find_runner(job) if self.folder(job.run_id).path.exists() else None
            runner = runner or self.launch(job, self._resumed_run(job))
        except DragomanError as error:
            return self._finished(job, failed_result(job, error))
        with self.database.write() as connection:
            note(
                connection,
                job.id,
                runner_pid=runner.pid,
                runner_started_at=runner.started_at,
                started_at=self.wall(),
            )
            found = read_job(connection, job.id)
        assert found is not None
        if found.cancel_asked_at is not None:
            self.folder(found.run_id).cancel()
        self._tell(found)
        return found

    def _finished(self, job: Job, result: Mapping[str, Any]) -> Job:
        revoke_run(self.home, job.run_id)
        with self.database.write() as connection:
            now = read_job(connection, job.id)
            assert now is not None
            status = JobStatus.CANCELLED if now.cancel_asked_at is not None else status_of_result(result)
            won = move(
                connection,
                job.id,
                status,
                result_status=result_status_of(result),
                ended_at=self.wall(),
                error_code=result.get("error_code"),
                error=result.get("error"),
                summary=summary_of(dict(result)),
            )
            found = read_job(connection, job.id)
        assert found is not None
        if won:
            with self._guard:
                self._per_job.pop(job.id, None)
            self._pulses.forget(job.run_id)
            self._tell(found)
            self._promote()
        return found

    def _promote(self) -> None:
        for job in promote(self.database, self.executor, max_writes=self.max_writes()):
            self._start(job)
            self._tell(job)

    def _start(self, job: Job) -> None:
        if self.engine is not None:
            self.engine.start(job.id)

    def _resumed_run(self, job: Job) -> str | None:
        return None if job.request.resume_job is None else self._read(job.request.resume_job).run_id

    def _read(self, job_id: str) -> Job:
        self.open()
        with self.database.read() as connection:
            job = read_job(connection, job_id)
        if job is None:
            raise JobNotFound(f"there is no job {job_id[:64]}", hint="dragoman jobs list")
        return job

    def _view(self, job: Job) -> JobView:
        phase, silent_s, stale = None, None, Staleness.FRESH
        if job.status is JobStatus.RUNNING:
            pulse = self._pulses.feel(self.folder(job.run_id))
            phase, silent_s = pulse.phase, self._pulses.silent_s(pulse)
            stale = staleness(silent_s)
        return view_of(
            job,
            now=self.wall(),
            phase=phase,
            silent_s=silent_s,
            stale=stale,
            queued_behind=self._queued_behind(job) if job.status is JobStatus.QUEUED else None,
        )

    def _queued_behind(self, job: Job) -> str | None:
        with self.database.read() as connection:
            return connection.execute(
                select(jobs.c.id)
                .where(
                    jobs.c.executor == job.executor,
                    jobs.c.repository == job.repository,
                    jobs.c.limited.is_(True),
                    jobs.c.status == str(JobStatus.RUNNING),
                )
                .order_by(jobs.c.number)
                .limit(1)
            ).scalar()

    def _tell(self, job: Job) -> None:
        view = self._view(job)
        for told in tuple(self.on_change):
            told(view)
        with self._guard:
            waiters = tuple(self._waiters)
        for loop, event in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def _lock_of(self, job_id: str) -> threading.Lock:
        with self._guard:
            return self._per_job.setdefault(job_id, threading.Lock())

"""Everything that can be done with jobs, in one place: control API, MCP and command line all call this.

Methods block (a database, a few files) and may be called from any thread; `wait` alone is a coroutine.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import delete, select

from dragoman.config.paths import Home
from dragoman.config.tokens import revoke_run
from dragoman.errors import DragomanError
from dragoman.gateway.spool import FLUSH_AFTER_S
from dragoman.jobs.admission import Decision, admit, promote, withdraw
from dragoman.jobs.folder import RunFolder
from dragoman.jobs.packet import parse_packet
from dragoman.jobs.polling import PollAdvice, advise
from dragoman.jobs.pulse import Pulses
from dragoman.jobs.reconcile import bury, failed_result, find_runner, look, plan_step, runner_of
from dragoman.jobs.request import JobRequest
from dragoman.jobs.request_key import request_key
from dragoman.jobs.retention import measure
from dragoman.jobs.states import (
    ACTIVE,
    TERMINAL,
    JobKind,
    JobStatus,
    Staleness,
    result_status_of,
    staleness,
    status_of_result,
)
from dragoman.jobs.table import MIGRATIONS, ROOM, Job, job_of, jobs, move, note, read_job
from dragoman.jobs.view import JobView, summary_of, view_of
from dragoman.process.identity import ProcessIdentity
from dragoman.process.locks import is_locked
from dragoman.store.database import Database
from dragoman.store.errors import StoreUnavailable
from dragoman.store.migrations import migrate
from dragoman.workspace import all_workspaces, open_repository

# How often a waiter looks by itself, should nobody tell it.
_LOOK_EVERY_S = 1.0
MAX_WAIT_S = 3600.0
MAX_EVENTS = 1000


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


@dataclass(frozen=True)
class Submitted:
    """What became of a request.

    Attributes:
        job: the new job, or the one it was answered with.
        decision: `created`, `deduped` (an equal job is under way) or `busy_existing` (no job was made).
        queued_behind: the job a queued one waits for.
    """

    job: JobView
    decision: Decision
    queued_behind: str | None = None


@dataclass(frozen=True)
class Removed:
    """A job that was, or would be, removed with its run folder.

    Attributes:
        job_id, run_id: its names.
        bytes: size of its run folder.
        kept: why it is not removed; None when it is.
    """

    job_id: str
    run_id: str
    bytes: int
    kept: str | None = None


def _no_usage(run_id: str) -> Any:
    return None


@dataclass
class JobService:
    """The jobs of one home.

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

    def submit(self, request: JobRequest) -> Submitted:
        """Ask for a job: it is started, queued, or found to be under way already.

        Raises:
            PacketInvalid: there is nothing to do, or an allowed file lies outside the repository.
            NotARepository, UnsupportedRepository: `cwd` is no folder of a repository.
            JobNotFound: the job to go on with is not there.
            StoreUnavailable: nothing was admitted.
        """
        parse_packet(request.task)
        self.open()
        repository = open_repository(Path(request.cwd))
        if request.resume_job is not None:
            self._read(request.resume_job)
        name = self.new_id()
        candidate = Job(
            id=f"job-{name}",
            number=0,
            executor=self.executor,
            kind=request.kind,
            status=JobStatus.QUEUED,
            result_status=None,
            repository=str(repository.root),
            limited=request.limited,
            fingerprint=request_key(request, str(repository.root), repository.prefix, repository.head()),
            priority=request.priority,
            run_id=f"run-{name}",
            created_at=self.wall(),
            request=request,
        )
        done = admit(self.database, candidate, max_writes=self.max_writes())
        if done.decision == "created":
            if done.job.status is JobStatus.RUNNING:
                self._start(done.job)
            self._tell(done.job)
        return Submitted(self._view(done.job), done.decision, done.queued_behind)

    def show(self, job_id: str) -> JobView:
        """A job as it is right now: its run is looked at first, so that a dead one is not called running.

        Raises:
            JobNotFound: there is none of this id.
        """
        return self._view(self._settled(self._read(job_id)))

    def find(
        self,
        *,
        status: JobStatus | None = None,
        kind: JobKind | None = None,
        cwd: str | None = None,
        limit: int = 20,
    ) -> list[JobView]:
        """Jobs of this home, the newest first; running ones are looked at first.

        Args:
            status: only these.
            kind: only these.
            cwd: only those of the repository this folder belongs to.
            limit: how many at most.
        """
        self.settle()
        wanted = (
            select(jobs).where(jobs.c.executor == self.executor).order_by(jobs.c.number.desc()).limit(limit)
        )
        if status is not None:
            wanted = wanted.where(jobs.c.status == str(status))
        if kind is not None:
            wanted = wanted.where(jobs.c.kind == kind)
        if cwd is not None:
            wanted = wanted.where(jobs.c.repository == str(open_repository(Path(cwd)).root))
        with self.database.read() as connection:
            return [self._view(job_of(row)) for row in connection.execute(wanted).mappings()]

    def cancel(self, job_id: str) -> JobView:
        """End a job: a queued one never starts; a running one is `cancelled` once all of it is dead.

        Raises:
            JobNotFound: there is none of this id.
        """
        job = withdraw(self.database, self._read(job_id).id, now=self.wall())
        assert job is not None
        if job.status is JobStatus.RUNNING:
            folder = self.folder(job.run_id)
            if folder.path.exists():
                folder.cancel()
        self._tell(job)
        return self._view(job)

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Wait for a job's end, no longer than so many seconds; comes back at once when it is over.

        Raises:
            JobNotFound: there is none of this id.
        """
        changed = asyncio.Event()
        me = (asyncio.get_running_loop(), changed)
        deadline = self.clock() + min(timeout_s, MAX_WAIT_S)
        with self._guard:
            self._waiters.add(me)
        try:
            while True:
                changed.clear()
                view = await asyncio.to_thread(self.show, job_id)
                left_s = deadline - self.clock()
                if view.ended or left_s <= 0:
                    return view
                try:
                    await asyncio.wait_for(changed.wait(), min(left_s, _LOOK_EVERY_S))
                except TimeoutError:
                    continue
        finally:
            with self._guard:
                self._waiters.discard(me)

    def poll(self, job_id: str) -> tuple[JobView, PollAdvice]:
        """A job as it is now, and when to ask again; asking is remembered, so that haste is noticed.

        Raises:
            JobNotFound: there is none of this id.
        """
        view = self.show(job_id)
        job = self._read(job_id)
        now = self.wall()
        advice = advise(
            now=now,
            age_s=max(0.0, now - job.created_at),
            staleness=view.stale_state,
            ended=view.ended,
            last_wait_at=job.last_wait_at,
            last_delay_s=job.last_wait_delay_s,
        )
        if not advice.poll_too_soon:
            delay_ms = advice.recommended_delay_ms
            with self.database.write() as connection:
                note(
                    connection,
                    job_id,
                    last_wait_at=advice.last_wait_at,
                    last_wait_delay_s=None if delay_ms is None else delay_ms / 1000,
                )
        return view, advice

    def events(self, job_id: str, *, after: int = 0, limit: int = MAX_EVENTS) -> list[dict[str, Any]]:
        """What a job's run told, in order; `n` numbers the events from 1.

        Args:
            job_id: whose.
            after: only events with a higher number.
            limit: how many at most.

        Raises:
            JobNotFound: there is none of this id.
        """
        found: list[dict[str, Any]] = []
        for _, event in self.folder(self._read(job_id).run_id).events():
            if event.get("n", 0) > after:
                found.append(event)
                if len(found) >= min(limit, MAX_EVENTS):
                    break
        return found

    def result(self, job_id: str) -> dict[str, Any]:
        """A job's result: the run's own, or why there is none.

        Raises:
            JobNotFound: there is none of this id.
        """
        job = self._settled(self._read(job_id))
        result = self.folder(job.run_id).result()
        if result is None:
            result = {
                "run_id": job.run_id,
                "status": None if not job.ended else job.result_status or "failed",
                "error_code": job.error_code,
                "error": job.error,
            }
        usage = None
        if job.ended:
            # The rows of its last calls are on disk so long after it ended.
            self.sleep(min(FLUSH_AFTER_S, max(0.0, (job.ended_at or 0.0) + FLUSH_AFTER_S - self.wall())))
            usage = self.usage_of(job.run_id)
        found = result | {"job_id": job.id, "job_status": job.status}
        return found if usage is None else found | {"gateway_usage": usage}

    def cleanup(self, *, older_than_s: float, execute: bool = False, limit: int = 200) -> list[Removed]:
        """Remove what jobs left that ended long ago: row and run folder, never a workspace.

        Args:
            older_than_s: how long ago at least.
            execute: False only says what would be removed.
            limit: how many at most.
        """
        self.open()
        before = self.wall() - older_than_s
        wanted = (
            select(jobs)
            .where(
                jobs.c.executor == self.executor,
                jobs.c.status.in_(sorted(TERMINAL)),
                jobs.c.ended_at <= before,
            )
            .order_by(jobs.c.number)
            .limit(limit)
        )
        with self.database.read() as connection:
            found = [job_of(row) for row in connection.execute(wanted).mappings()]
        with_work = {workspace.id for workspace in all_workspaces(self.home.state)}
        return [self._removed(job, job.run_id in with_work, execute) for job in found]

    def _removed(self, job: Job, has_work: bool, execute: bool) -> Removed:
        folder = self.folder(job.run_id).path
        size, _ = measure(folder)
        if has_work:
            return Removed(job.id, job.run_id, size, kept="its workspace is still there")
        if execute:
            with self.database.write() as connection:
                connection.execute(delete(jobs).where(jobs.c.id == job.id))
            shutil.rmtree(folder, ignore_errors=True)
        return Removed(job.id, job.run_id, size)

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
            runner = find_runner(job) or self.launch(job, self._resumed_run(job))
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

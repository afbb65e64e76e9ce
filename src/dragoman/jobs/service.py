"""Everything that can be done with jobs, in one place: control API, MCP and command line all call this.

Methods block (a database, a few files) and may be called from any thread; `wait` alone is a coroutine.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select

from dragoman.gateway.spool import FLUSH_AFTER_S
from dragoman.jobs.admission import Decision, admit, withdraw
from dragoman.jobs.oversight import Engine, JobNotFound, Launch, Oversight
from dragoman.jobs.packet import parse_packet
from dragoman.jobs.polling import PollAdvice, advise
from dragoman.jobs.request import JobRequest
from dragoman.jobs.request_key import request_key
from dragoman.jobs.retention import measure
from dragoman.jobs.states import TERMINAL, JobKind, JobStatus
from dragoman.jobs.table import Job, job_of, jobs, note
from dragoman.jobs.view import JobView
from dragoman.workspace import Repository, WorkspaceError, all_workspaces, open_repository, standing

__all__ = ["Engine", "JobNotFound", "JobService", "Launch", "Removed", "Submitted"]

# How often a waiter looks by itself, should nobody tell it.
_LOOK_EVERY_S = 1.0
MAX_WAIT_S = 3600.0
MAX_EVENTS = 1000


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


class JobService(Oversight):
    """The jobs of one home, and everything that can be asked of them."""

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
            fingerprint=request_key(
                request, str(repository.root), repository.prefix, self._base(request, repository)
            ),
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
        found: dict[str, Any] = result | {"job_id": job.id, "job_status": job.status}
        if usage is None:
            return found
        # The run counted what was in the spool; rows taken in before it looked are in the ledger alone.
        total = usage.get("total", {})
        if total.get("requests") and (counted := found.get("usage")):
            known = {name: total[name] for name in counted if name in total}
            found["usage"] = counted | known | {"source": "gateway_ledger"}
        return found | {"gateway_usage": usage}

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

    def _base(self, request: JobRequest, repository: Repository) -> str | None:
        """What the work starts from: the commit, and with a snapshot the uncommitted work, too."""
        head = repository.head()
        if head is None or request.dirty_policy == "committed":
            return head
        try:
            return standing(repository)
        except (WorkspaceError, OSError):
            return f"{head} {self.new_id()}"  # whatever is wrong, it is no equal of another

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

"""The engine: DBOS workflows that see running jobs through, whatever dies meanwhile.

A workflow knows a job's id and nothing else. It starts the job's detached runner or joins the one there is,
and ends when the job has; run again after a crash it does the same and nothing twice, since the lock in the
run's folder lets one runner work.

Measured with DBOS 3.4: two processes of one executor id run a workflow twice at once, so only the holder of
the home's engine lock launches it. Recovery looks for the executor's own id and application version, so both
are constants. On SQLite its queues poll for ever, so admission is ours and workflows are started at once; on
PostgreSQL its queues carry them.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

# DBOS imports it. Imported late, in one thread, it is met half made by statements of the others (2.1.9).
import sqlalchemy.orm  # noqa: F401  # pyright: ignore[reportUnusedImport]
from sqlalchemy.engine import URL

from dragoman.config.files import ensure_private_folder, write_new_private_file
from dragoman.config.paths import Home
from dragoman.errors import DragomanError
from dragoman.process.locks import FileLock, LockHeld

APPLICATION_VERSION = "jobs-v1"
# Often enough that a runner's end is known at once; a look is two system calls.
_LOOK_EVERY_S = 0.1
# Now and then the whole is looked at, also what a glance cannot see.
_SETTLE_EVERY_S = 2.0
_RETRY_S = 1.0
# A control process that is leaving lets go of the lock within its grace.
_LOCK_PATIENCE_S = 0.5
# Nothing of ours waits for these; the first one also says how long DBOS takes to end.
_NOTIFICATION_POLL_S = 2.0
_SCHEDULER_POLL_S = 3600.0
_LEAVE_S = 4.0

_log = logging.getLogger("dragoman.jobs.engine")


def executor_of(home: Home) -> str:
    """The name of this home among all that share a database; made at the first call, kept for good."""
    file = home.state / "executor"
    ensure_private_folder(home.state)
    write_new_private_file(file, uuid.uuid4().hex[:16].encode())
    return file.read_text(encoding="ascii").strip()


class DbosEngine:
    """Sees jobs through by DBOS, in a thread and an event loop of its own.

    DBOS takes a second or two to import: it is, when the first job comes (or by `warm`).

    Args:
        home: whose jobs; its state folder holds the engine's own SQLite file and its lock.
        executor: see `executor_of`.
        carry: one step of seeing a job through, `JobService.carry`; True when the job is over.
        glance: whether a job's run goes on as it did; cheap.
        postgres: a PostgreSQL database for the engine's tables; None for a SQLite file of its own.
        check: called before anything is imported late; raises when that would mix versions.
    """

    def __init__(
        self,
        home: Home,
        executor: str,
        carry: Callable[[str], bool],
        glance: Callable[[str], bool],
        *,
        postgres: URL | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._home = home
        self._executor = executor
        self._carry = carry
        self._glance = glance
        self._postgres = postgres
        self._check = check
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: asyncio.Queue[str] | None = None
        self._ready = threading.Event()
        self._launched = threading.Event()
        self._leave: asyncio.Event | None = None
        self._guard = threading.Lock()
        self._carried: dict[str, asyncio.Future[None]] = {}
        self.problem: str | None = None

    def start(self, job_id: str) -> None:
        """Take a job up; harmless when it has been already. Comes back at once."""
        self.warm()
        self._ready.wait()
        assert self._loop is not None
        assert self._asked is not None
        self._loop.call_soon_threadsafe(self._asked.put_nowait, job_id)

    def warm(self) -> None:
        """Begin to load the engine, in the background."""
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="job-engine", daemon=True)
                self._thread.start()

    @property
    def launched(self) -> bool:
        """Whether a job that comes now is taken up at once."""
        return self._launched.is_set()

    def close(self, timeout_s: float = _LEAVE_S) -> None:
        """Leave: runners go on, workflows stay pending and are taken up by the next engine of this home."""
        if self._thread is None or self._loop is None or self._leave is None:
            return
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Queue()
        self._leave = asyncio.Event()
        self._ready.set()
        leaving = asyncio.create_task(self._leave.wait())
        lock = FileLock(self._home.state / "engine.lock", note="engine")
        working = asyncio.create_task(self._work(lock))
        await asyncio.wait({leaving, working}, return_when=asyncio.FIRST_COMPLETED)
        # A cancelled workflow's end is not written down by DBOS: it stays pending, which is what it is.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        if self.launched:
            await asyncio.to_thread(_shut_down)
        lock.release()

    async def _work(self, lock: FileLock) -> None:
        assert self._asked is not None
        await self._until_done(lambda: _take(lock), "another control process has the engine")
        workflow = await self._until_done(self._launch, "the engine does not start")
        self._launched.set()
        while True:
            job_id = await self._asked.get()
            await self._until_done(lambda job_id=job_id: self._begin(workflow, job_id), "no workflow")

    async def _until_done(self, step: Callable[[], Any], what: str) -> Any:
        """Repeat a step until it succeeds: jobs wait rather than get lost."""
        while True:
            try:
                done = step()
                if asyncio.iscoroutine(done):
                    done = await done
            except (DragomanError, OSError) as error:
                self.problem = f"{what}: {error}"
            except Exception as error:  # noqa: BLE001 - whatever DBOS or its database raise, jobs must not be lost
                self.problem = f"{what}: {type(error).__name__}"
            else:
                self.problem = None
                return done
            _log.warning(self.problem)
            await asyncio.sleep(_RETRY_S)

    async def _launch(self) -> Any:
        self._check()
        from dbos import DBOS

        workflow = _workflow()
        _current.engine = self
        if self._postgres is None:
            url = f"sqlite:///{_prepare_file(self._home.state / 'engine.db')}"
        else:
            url = self._postgres.render_as_string(hide_password=False)
        DBOS(
            config={
                "name": "dragoman",
                "system_database_url": url,
                "application_version": APPLICATION_VERSION,
                "executor_id": self._executor,
                "log_level": "ERROR",
                "notification_listener_polling_interval_sec": _NOTIFICATION_POLL_S,
                "scheduler_polling_interval_sec": _SCHEDULER_POLL_S,
                "max_executor_threads": 8,
            }
        )
        # Launched from this loop's thread: DBOS adopts the loop, and workflows are tasks of it.
        try:
            if self._postgres is not None:
                DBOS.listen_queues([self._queue])
            DBOS.launch()
            if self._postgres is not None:
                await DBOS.register_queue_async(self._queue, polling_interval_sec=0.1)
        except BaseException:
            await asyncio.to_thread(_shut_down)  # or the next try would find it half made
            raise
        return workflow

    @property
    def _queue(self) -> str:
        """A run needs the user's files: a job is for the machine it was asked on."""
        return f"jobs-{self._executor}"

    async def _begin(self, workflow: Any, job_id: str) -> None:
        from dbos import DBOS, SetWorkflowID

        if job_id in self._carried:
            return
        workflow_id = job_id
        known = await DBOS.get_workflow_status_async(workflow_id)
        if known is not None and known.status not in ("PENDING", "ENQUEUED", "DELAYED"):
            # It ended before its job did, by a mistake; the job is seen through by another.
            workflow_id = f"{job_id}.{uuid.uuid4().hex[:6]}"
        elif known is not None:
            return  # recovered at launch
        with SetWorkflowID(workflow_id):
            if self._postgres is None:
                await DBOS.start_workflow_async(workflow, job_id)
            else:
                await DBOS.enqueue_workflow_async(self._queue, workflow, job_id)

    async def see_through(self, job_id: str) -> None:
        """Carry a job to its end; of several callers one does it and all wait."""
        carried = self._carried.get(job_id)
        if carried is not None:
            await asyncio.shield(carried)
            return
        carried = asyncio.get_running_loop().create_future()
        self._carried[job_id] = carried
        try:
            await self._see_through(job_id)
        finally:
            del self._carried[job_id]
            carried.set_result(None)

    async def _see_through(self, job_id: str) -> None:
        clock = asyncio.get_running_loop().time
        run_id = job_id.replace("job-", "run-", 1)
        while True:
            try:
                if await asyncio.to_thread(self._carry, job_id):
                    return
            except Exception as error:  # noqa: BLE001 - a locked database or a full disk passes; the job stays
                _log.warning("job %s: %s", job_id, type(error).__name__)
                await asyncio.sleep(_RETRY_S)
            settled_at = clock()
            await asyncio.sleep(_LOOK_EVERY_S)
            while clock() - settled_at < _SETTLE_EVERY_S and self._glance(run_id):  # noqa: ASYNC110 - files
                await asyncio.sleep(_LOOK_EVERY_S)


class _Current:
    """The engine DBOS calls back: it keeps one registry a process, by name."""

    engine: DbosEngine | None = None


_current = _Current()


@cache
def _workflow() -> Any:
    """The one workflow, registered once a process."""
    from dbos import DBOS

    @DBOS.workflow(name="see_job_through", max_recovery_attempts=1_000_000)
    async def see_job_through(job_id: str) -> None:  # pyright: ignore[reportUntypedFunctionDecorator]
        engine = _current.engine
        assert engine is not None
        await engine.see_through(job_id)

    return see_job_through


def _shut_down() -> None:
    from dbos import DBOS

    DBOS.destroy()


def _take(lock: FileLock) -> None:
    try:
        lock.acquire(timeout_s=_LOCK_PATIENCE_S)
    except LockHeld as held:
        raise DragomanError(held.message) from held


def _prepare_file(file: Path) -> Path:
    """Make the engine's file, private and in WAL mode: DBOS sets neither (measured: five times the jobs a
    second)."""
    write_new_private_file(file, b"")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return file

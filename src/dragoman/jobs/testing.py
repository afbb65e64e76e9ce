"""For tests of what uses jobs: a runner of scripted behaviour and an engine of plain threads.

The runner keeps the run folder's rules (lock, events, cancel file, result) and does no work; the task's
first line says how it behaves:

| first line | what happens |
| --- | --- |
| `do: success SECONDS` | a success after so long (0 by default) |
| `do: fail` | a failed result |
| `do: hang` | works until it is cancelled; then `worker_cancelled` |
| `do: orphan` | like `hang`, with a child in a session of its own that ignores SIGTERM and holds the lock |
| `do: die` | ends before it takes the lock |
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dragoman.config.paths import Home
from dragoman.jobs.folder import RESULT_SCHEMA, EventLog, RunFolder, RunRequest
from dragoman.jobs.launch import RUNNER_VARIABLE
from dragoman.jobs.request import packet_of
from dragoman.jobs.table import Job
from dragoman.process.identity import ProcessIdentity
from dragoman.process.locks import FileLock, LockHeld
from dragoman.process.spawn import SpawnPlan, spawn_detached
from dragoman.process.tree import RUN_MARKER

_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class ScriptedLaunch:
    """Starts scripted runners; remembers which.

    Args:
        home: whose runs.
        broken: raised instead of a start, when it returns an error.
    """

    def __init__(self, home: Home, broken: Callable[[], Exception | None] = lambda: None) -> None:
        self._home = home
        self._broken = broken
        self.started: list[tuple[str, ProcessIdentity]] = []

    def __call__(self, job: Job, resume_run: str | None) -> ProcessIdentity:
        if error := self._broken():
            raise error
        folder = RunFolder(self._home.runs / job.run_id)
        folder.create(
            RunRequest(
                run_id=job.run_id,
                job_id=job.id,
                packet=packet_of(job.request),
                repository=job.repository,
                state=str(self._home.state),
                model="m",
                gateway_url="http://127.0.0.1:1",
                resume_run=resume_run,
            )
        )
        runner = spawn_detached(
            SpawnPlan(
                argv=(sys.executable, "-m", "dragoman.jobs.testing", str(folder.path)),
                env={"PATH": os.environ["PATH"], RUNNER_VARIABLE: job.run_id},
                log_file=folder.log_file,
            )
        )
        self.started.append((job.id, runner))
        return runner


class ThreadEngine:
    """Sees jobs through in threads of this process; forgets them with it.

    Args:
        carry: `JobService.carry`.
        every_s: seconds between two looks.
    """

    def __init__(self, carry: Callable[[str], bool], *, every_s: float = 0.02) -> None:
        self._carry = carry
        self._every_s = every_s
        self._closing = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    def start(self, job_id: str) -> None:
        if job_id not in self._threads:
            thread = threading.Thread(target=self._see_through, args=(job_id,), daemon=True)
            self._threads[job_id] = thread
            thread.start()

    def close(self) -> None:
        """Leave the jobs to themselves."""
        self._closing.set()
        for thread in tuple(self._threads.values()):
            thread.join(10.0)

    def _see_through(self, job_id: str) -> None:
        while not self._closing.is_set() and not self._carry(job_id):
            self._closing.wait(self._every_s)


def main(folder: RunFolder) -> None:
    """Be the scripted runner of a folder."""
    behaviour, *words = folder.request().packet.splitlines()[0].removeprefix("do:").split()
    if behaviour == "die":
        os._exit(1)
    lock = FileLock(folder.lock_file, note="runner")
    try:
        lock.acquire()
    except LockHeld:
        return
    log = EventLog(folder, time.time)
    # A note beside the run: how often a runner got as far as working is what "once" is about.
    with (folder.path / "worked").open("a") as file:
        file.write(f"{os.getpid()}\n")
    log.emit("phase", phase="preparing")
    log.emit("phase", phase="working")
    run_id = folder.path.name
    told: dict[str, object] = {"schema": RESULT_SCHEMA, "run_id": run_id, "error_code": None, "error": None}
    if behaviour == "orphan":
        subprocess.Popen(
            (sys.executable, "-c", _STUBBORN),
            env={"PATH": os.environ["PATH"], RUN_MARKER: run_id},
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )
        log.emit("worker", pid=0)
    if behaviour in ("hang", "orphan"):
        _until(folder.cancel_file.exists, 600.0)
        told |= {"status": "failed", "error_code": "worker_cancelled", "error": "cancelled"}
    elif behaviour == "fail":
        told |= {"status": "failed", "error_code": "provider_error", "error": "the provider said 529"}
    else:
        cancelled = _until(folder.cancel_file.exists, float(words[0]) if words else 0.0)
        code = "worker_cancelled" if cancelled else None
        told |= {"status": "failed" if cancelled else "success", "error_code": code}
    log.emit("phase", phase="done")
    folder.finish(told)


def _until(true: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(RunFolder(Path(sys.argv[1])))

"""For tests of what uses jobs: a launch of scripted runners and an engine of plain threads."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from dragoman.config.paths import Home
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.launch import RUNNER_VARIABLE
from dragoman.jobs.request import packet_of
from dragoman.jobs.table import Job
from dragoman.process.identity import ProcessIdentity
from dragoman.process.spawn import SpawnPlan, spawn_detached


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
                argv=(sys.executable, "-m", "dragoman.jobs.scripted_runner", str(folder.path)),
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

    Attributes:
        warmed: whether it was told that work is to come.
    """

    def __init__(self, carry: Callable[[str], bool], *, every_s: float = 0.02) -> None:
        self._carry = carry
        self._every_s = every_s
        self._closing = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self.warmed = False

    def start(self, job_id: str) -> None:
        if job_id not in self._threads:
            thread = threading.Thread(target=self._see_through, args=(job_id,), daemon=True)
            self._threads[job_id] = thread
            thread.start()

    def warm(self) -> None:
        self.warmed = True

    def close(self) -> None:
        """Leave the jobs to themselves."""
        self._closing.set()
        for thread in tuple(self._threads.values()):
            thread.join(10.0)

    def _see_through(self, job_id: str) -> None:
        while not self._closing.is_set() and not self._carry(job_id):
            self._closing.wait(self._every_s)

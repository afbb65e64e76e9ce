"""A small repository with a failing test, and a worker whose behaviour a test chooses."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.isolation import Isolation
from dragoman.jobs.run import Surroundings, carry_out
from dragoman.workers.base import OnEvent, Said, WorkerOutcome, WorkerTask

PACKET = """Goal: make double() double
Allowed files:
- code_under_test.py
Validation commands:
- `python3 -m unittest -q`
"""
REPORT = """Summary: done.
Changed files:
- code_under_test.py
Commands run:
- `python3 -m unittest -q`: passed
"""
BROKEN = "def double(x):\n    return x\n"
TEST = (
    "import unittest, code_under_test as c\nclass T(unittest.TestCase):\n"
    "    def test_it(self): self.assertEqual(c.double(2), 4)\n"
)


def git(path: Path, *words: str) -> str:
    """Run git as a user would."""
    identity = ["-c", "user.name=u", "-c", "user.email=u@localhost"]
    done = subprocess.run(
        ["git", "-C", str(path), *identity, *words], check=True, capture_output=True, text=True
    )
    return done.stdout


class FakeWorker:
    """A worker that does what a test says and ends as it says."""

    def __init__(self, act: Callable[[Path], None], outcome: WorkerOutcome) -> None:
        self._act = act
        self._outcome = outcome
        self.tasks: list[WorkerTask] = []

    async def run(self, task: WorkerTask, *, on_event: OnEvent, stop: asyncio.Event) -> WorkerOutcome:
        self.tasks.append(task)
        on_event(Said(text="at work"))
        self._act(task.cwd)
        return self._outcome


class Bench:
    """One repository and one state folder in which a run can be carried out."""

    def __init__(self, repository: Path, folder: RunFolder, state: Path) -> None:
        self.repository = repository
        self.folder = folder
        self.state = state
        self.tasks: list[WorkerTask] = []

    def carry_out(self, act: Callable[[Path], None] = lambda tree: None, **options: Any) -> dict[str, Any]:
        """Carry a run out in this process and return its result; see `carry_out_here`."""
        return asyncio.run(self.carry_out_here(act, **options))

    async def carry_out_here(
        self,
        act: Callable[[Path], None] = lambda tree: None,
        *,
        report: str = REPORT,
        outcome: WorkerOutcome | None = None,
        packet: str = PACKET,
        stop: asyncio.Event | None = None,
        isolation: Isolation | None = None,
        env: Mapping[str, str] | None = None,
        **asked: Any,
    ) -> dict[str, Any]:
        """Carry a run out in this process and return its result.

        Parameters:
            act: what the worker does in the workspace.
            report: its last words.
            outcome: how it ends; finished with the report when None.
            packet: the task.
            stop: ends the run when set.
            isolation: confines the validation commands.
            env: of the validation commands.
            asked: further fields of the request.
        """
        request = RunRequest(
            run_id="run-1",
            packet=packet,
            repository=str(self.repository),
            state=str(self.state),
            model="m",
            gateway_url="http://127.0.0.1:1",
            **asked,
        )
        self.folder.create(request)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        worker = FakeWorker(act, outcome or WorkerOutcome(status="finished", text=report))
        self.tasks = worker.tasks
        around = Surroundings(
            worker=worker,
            token="t",
            env=env or {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            isolation=isolation,
        )
        return await carry_out(self.folder, request, around, stop=stop or asyncio.Event())

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The run's events of one kind."""
        return [event for _, event in self.folder.events() if event["kind"] == kind]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    repository = tmp_path / "repo"
    repository.mkdir()
    (repository / "code_under_test.py").write_text(BROKEN)
    (repository / "test_it.py").write_text(TEST)
    git(repository, "init", "-q", "-b", "main")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "one")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return Bench(repository, RunFolder(tmp_path / "runs" / "run-1"), state)

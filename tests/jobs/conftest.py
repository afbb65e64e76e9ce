"""A small repository with a failing test, and a worker whose behaviour a test chooses."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import mint
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.isolation import Isolation
from dragoman.jobs.launch import StartedRun, start_runner
from dragoman.jobs.run import Surroundings, carry_out
from dragoman.process.identity import is_alive, send_signal
from dragoman.process.tree import end_tree, find_tree, run_marker
from dragoman.workers.base import OnEvent, Said, ToolCalled, Worker, WorkerOutcome, WorkerTask
from dragoman.workers.child import ChildPatience
from dragoman.workers.claude import ClaudeWorker
from dragoman.workers.testing import FakeClaude
from dragoman.workspace import delta, open_workspace

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
        on_event(ToolCalled(id="call-1", tool="Bash", target="python3 -m unittest -q"))
        self._act(task.cwd)
        return self._outcome


class Bench:
    """One repository and one state folder in which a run can be carried out."""

    def __init__(self, repository: Path, folder: RunFolder, state: Path) -> None:
        self.repository = repository
        self.folder = folder
        self.state = state
        self.tasks: list[WorkerTask] = []
        self.next: Bench | None = None
        self.worker: Worker | None = None
        self.usage: Callable[[], dict[str, Any] | None] | None = None

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
            run_id=self.folder.path.name,
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
            worker=self.worker or worker,
            token="t",
            env=env or {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            isolation=isolation,
            usage=self.usage,
        )
        return await carry_out(self.folder, request, around, stop=stop or asyncio.Event())

    @property
    def name(self) -> str:
        """The run's id."""
        return self.folder.path.name

    def next_run(self) -> Bench:
        """Another run of the same repository and worker."""
        folder = RunFolder(self.folder.path.with_name(f"{self.folder.path.name}-2"))
        self.next = Bench(self.repository, folder, self.state)
        self.next.worker = self.worker
        return self.next

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The run's events of one kind."""
        return [event for _, event in self.folder.events() if event["kind"] == kind]


# The fake dies at once or never.
IMPATIENT = ChildPatience(interrupt_s=0.6, exit_s=0.3, term_s=0.3, linger_s=0.4, orphans_s=0.3)


@pytest.fixture
def fake_bench(bench: Bench, fake_worker: FakeClaude) -> Bench:
    """A bench where the fake Claude Code works, driven as the real one is."""
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    bench.worker = ClaudeWorker(fake_worker.client, env, patience=IMPATIENT)
    return bench


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
    # A name of its own: processes are found by it, and tests run side by side.
    return Bench(repository, RunFolder(tmp_path / "runs" / f"run-{uuid.uuid4().hex[:12]}"), state)


DEADLINE_S = 40.0


def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Wait for something true, with a deadline."""
    deadline = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "condition never came true"
        time.sleep(0.01)
    return found


class Place:
    """A home, a repository and a fake worker, in which real runners run."""

    def __init__(self, home: Home, repository: Path, fake: FakeClaude) -> None:
        self.home = home
        self.repository = repository
        self.fake = fake
        self.runs: list[StartedRun] = []
        self.tokens: dict[str, str] = {}
        self.until = until

    @property
    def environment(self) -> dict[str, str]:
        """What runners are started from."""
        return {**os.environ, "DRAGOMAN_HOME": str(self.home.state.parent)}

    def start(
        self,
        *steps: str,
        behaviour: str | None = None,
        packet: str | None = None,
        cancelled: bool = False,
        **asked: Any,
    ) -> StartedRun:
        run_id = asked.pop("run_id", f"run-{uuid.uuid4().hex[:12]}")
        env = asked.pop("env", self.environment)
        asked.setdefault("gateway_url", "http://127.0.0.1:9")
        request = RunRequest(
            run_id=run_id,
            packet=packet or self.fake.task(*steps, behaviour=behaviour),
            repository=str(self.repository),
            state=str(self.home.state),
            model="m",
            worker_command=str(self.fake.path),
            sandbox_level="none",
            **asked,
        )
        token = self.tokens[run_id] = mint(self.home, scope="run", run=run_id).secret
        folder = RunFolder(self.home.runs / run_id)
        folder.create(request)
        if cancelled:
            folder.cancel()
        run = start_runner(folder, token=token, env=env)
        self.runs.append(run)
        return run

    def run_again(self, run: StartedRun) -> None:
        """A second runner for the same run, to its end."""
        second = start_runner(run.folder, token="second", env=self.environment)
        until(lambda: not is_alive(second.runner))

    def result(self, run: StartedRun) -> dict[str, Any]:
        """Wait for the run's end."""
        until(lambda: run.folder.result_file.exists() or not is_alive(run.runner))
        until(lambda: not is_alive(run.runner))
        found = run.folder.result()
        assert found is not None, run.folder.log_file.read_text()
        return found

    def note(self, run: StartedRun, name: str) -> str:
        """Wait for a note of the fake."""
        file = run.folder.worker_config / "notes" / name
        until(file.exists)
        return file.read_text()

    def processes(self, run: StartedRun) -> list[Any]:
        return find_tree(None, marker=run_marker(run.folder.path.name))

    def kinds(self, run: StartedRun) -> list[str]:
        return [event["kind"] for _, event in run.folder.events()]

    def changed(self, run_id: str) -> list[str]:
        """What a preview of the run's workspace would show."""
        return [change.path for change in delta(open_workspace(self.home.state, run_id)).changes]


@pytest.fixture
def place(tmp_path: Path, bench: Any, fake_worker: FakeClaude) -> Iterator[Place]:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path / "home")})
    home.ensure()
    made = Place(home, bench.repository, fake_worker)
    yield made
    for run in made.runs:
        send_signal(run.runner, signal.SIGKILL)
        end_tree(None, grace_s=0.0, marker=run_marker(run.folder.path.name))

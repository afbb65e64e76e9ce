"""The detached runner with a fake worker: real processes, real ends, and a folder that tells the truth."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import list_tokens, mint
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.launch import StartedRun, start_run, start_runner
from dragoman.jobs.orphans import end_orphans, find_orphans
from dragoman.process.identity import is_alive, send_signal
from dragoman.process.locks import is_locked
from dragoman.process.tree import end_tree, find_tree, run_marker
from dragoman.workers.testing import FakeClaude
from dragoman.workspace import delta, open_workspace

DEADLINE_S = 40.0
# Ten seconds of grace and one more: what a cancel or a time limit promises.
PROMISE_S = 11.0


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

    def start(
        self, *steps: str, behaviour: str | None = None, packet: str | None = None, **asked: Any
    ) -> StartedRun:
        run_id = asked.pop("run_id", f"run-{len(self.runs) + 1}-{os.getpid()}")
        request = RunRequest(
            run_id=run_id,
            packet=packet or self.fake.task(*steps, behaviour=behaviour),
            repository=str(self.repository),
            state=str(self.home.state),
            model="m",
            gateway_url="http://127.0.0.1:9",
            worker_command=str(self.fake.path),
            sandbox_level="none",
            **asked,
        )
        token = mint(self.home, scope="run", run=run_id).secret
        env = {**os.environ, "DRAGOMAN_HOME": str(self.home.state.parent)}
        run = start_run(self.home, request, token=token, env=env)
        self.runs.append(run)
        return run

    def again(self, run: StartedRun) -> StartedRun:
        """A second runner for the same run."""
        env = {**os.environ, "DRAGOMAN_HOME": str(self.home.state.parent)}
        return start_runner(run.folder, token="second", env=env)

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


def test_a_run_leaves_a_result_its_marks_and_no_token(place: Place) -> None:
    run = place.start("write code_under_test.py 'def double(x):\\n    return 2 * x\\n'")
    result = place.result(run)
    assert (result["status"], result["error_code"]) == ("success", None)
    assert [file["path"] for file in result["delta"]["files"]] == ["code_under_test.py"]
    assert run.folder.started_file.exists()
    assert list_tokens(place.home) == []
    assert not is_locked(run.folder.lock_file)
    assert run.folder.report_file.read_text() == "All done."
    assert place.processes(run) == []

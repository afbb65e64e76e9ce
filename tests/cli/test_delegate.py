"""`delegate` and `review` as they are typed: on the whole engine, the embedded model and the real worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

SCRATCH = files("dragoman.rehearsal").joinpath("scratch")
CONFIG = """
[gateway]
port = 0
[rehearsal]
scenario = "demo"
[delegation]
model = "rehearsal"
"""


class Shell:
    """A user's terminal in a repository with a failing test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / "dragoman.toml").write_text(CONFIG)
        self.repository = folder / "shop"
        self.repository.mkdir()
        for file in SCRATCH.joinpath("repository").iterdir():
            (self.repository / file.name.removesuffix(".txt")).write_bytes(file.read_bytes())
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("-c", "user.name=u", "-c", "user.email=u@localhost", "commit", "-qm", "one")
        self.packet = folder / "packet.md"
        self.packet.write_bytes(SCRATCH.joinpath("packet.md").read_bytes())

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ("git", *words), cwd=self.repository, check=True, capture_output=True, text=True
        )
        return done.stdout

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "-m", "dragoman.cli.main", *words),
            cwd=self.repository,
            env={**os.environ, "DRAGOMAN_HOME": str(self.home)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def json(self, *words: str, stdin: str = "") -> Any:
        done = self.run(*words, "--json", stdin=stdin)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def shell() -> Iterator[Shell]:
    # A short path: the sockets of a home must fit into 100 bytes.
    folder = Path(tempfile.mkdtemp(prefix="dgm-d-"))
    shell = Shell(folder)
    yield shell
    shell.run("stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.real_client
def test_a_packet_is_delegated_proved_and_applied(shell: Shell) -> None:
    before = shell.git("status", "--porcelain")
    done = shell.run("delegate", "--prompt-file", str(shell.packet), "--json")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["schema"], outcome["ok"], outcome["status"]) == ("delegate.result.v1", True, "success")
    assert outcome["changed_files"] == ["CHANGES.md", "pricing.py"]
    assert outcome["evidence"]["verdict"] == "proved"
    assert outcome["gateway_usage"]["total"]["requests"] > 0
    assert "run by us" in done.stderr
    assert shell.git("status", "--porcelain") == before
    applied = shell.run("apply", outcome["worktree_path"], "--yes")
    assert applied.returncode == 0, applied.stderr
    tested = subprocess.run((sys.executable, "-m", "unittest", "-q"), cwd=shell.repository, check=False)
    assert tested.returncode == 0


@pytest.mark.real_client
def test_the_best_of_two_stays_and_the_other_goes_to_the_trash(shell: Shell) -> None:
    outcome = shell.json(
        "delegate", "--prompt-file", str(shell.packet), "--best-of", "2", "--models", "rehearsal", "--apply"
    )
    best, loser = outcome["attempts_ranked"]
    assert (best["rank"], best["worktree_path"], best["discarded"]) == (1, outcome["worktree_path"], False)
    assert loser["discarded"] is True
    kept = {item["id"] for item in shell.json("workspace", "list")["workspaces"]}
    assert kept == {best["worktree_path"]}
    assert outcome["applied"]["applied_files"] == ["CHANGES.md", "pricing.py"]


@pytest.mark.real_client
def test_a_second_model_judges_the_change_and_its_words_stand_beside_the_result(shell: Shell) -> None:
    demo = files("dragoman.rehearsal").joinpath("scenarios", "demo.toml").read_text()
    judge = (
        '[[rule]]\nwhen = { user_contains = "Judge whether the diff" }\ndo = [{ say = "Sound: ${model}." }]\n'
    )
    scenario = shell.folder / "judged.toml"
    scenario.write_text(f"version = 1\n{judge}\n{demo[demo.index('[[rule]]') :]}")
    (shell.home / "dragoman.toml").write_text(CONFIG.replace('"demo"', f'"{scenario}"'))
    outcome = shell.json("delegate", "--prompt-file", str(shell.packet), "--review-model", "rehearsal")
    assert outcome["status"] == "success"
    judged = outcome["second_opinion"]
    assert (judged["model"], judged["status"], judged["error"]) == ("rehearsal", "success", None)
    assert judged["result"] == "Sound: rehearsal."


@pytest.mark.real_client
def test_a_task_in_the_background_is_followed_later(shell: Shell) -> None:
    asked = shell.json("delegate", "--background", stdin=shell.packet.read_text())
    job = asked["job"]["job_id"]
    assert shell.run("jobs", "wait", job, "--timeout", "90").returncode == 0
    assert shell.json("jobs", "result", job)["status"] == "success"


def test_no_task_two_tasks_and_options_that_do_not_go_together_are_usage_errors(shell: Shell) -> None:
    for words in (
        ("delegate",),
        ("delegate", "x", "--prompt-file", str(shell.packet)),
        ("delegate", "x", "--models", "a"),
        ("delegate", "x", "--fork"),
        ("delegate", "x", "--best-of", "2", "--models", "a,b,c"),
        ("delegate", "x", "--best-of", "2", "--background"),
        ("delegate", "x", "--review-model", "m", "--background"),
    ):
        done = shell.run(*words)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    assert not (shell.home / "run" / "daemon.json").exists()


class Typed:
    """`delegate` at a terminal, whose worker hangs until it is stopped."""

    def __init__(self, shell: Shell, fake_worker: Any) -> None:
        program = fake_worker.path
        (shell.home / "dragoman.toml").write_text(f'{CONFIG}[clients]\nclaude = "{program}"\n')
        self._shell = shell
        # The fake's interpreter is to be found inside the sandbox too.
        self._env = {**os.environ, "DRAGOMAN_HOME": str(shell.home)}
        self._env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._task = fake_worker.task(behaviour="hangs")

    def start(self, until: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            (sys.executable, "-m", "dragoman.cli.main", "delegate", self._task),
            cwd=self._shell.repository,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        seen = ""
        while until not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        return process

    def jobs(self) -> dict[str, str]:
        """Every job's status."""
        return {job["job_id"]: job["status"] for job in self._shell.json("jobs", "list")["jobs"]}


@pytest.fixture
def typed(shell: Shell, fake_worker: Any) -> Typed:
    return Typed(shell, fake_worker)


def test_ctrl_c_cancels_the_job_and_says_so(typed: Typed) -> None:
    process = typed.start("Thinking about it")
    ((job, _),) = typed.jobs().items()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"cancelling {job}" in said
    assert f"{job} is cancelled" in said
    assert typed.jobs() == {job: "cancelled"}


def test_ctrl_c_leaves_a_job_that_somebody_else_asked_for(typed: Typed) -> None:
    first = typed.start("Thinking about it")
    second = typed.start("joining it")
    second.send_signal(signal.SIGINT)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 130
    assert "goes on" in said
    assert list(typed.jobs().values()) == ["running"]
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)


def test_a_job_goes_on_when_its_terminal_is_closed(typed: Typed, shell: Shell) -> None:
    process = typed.start("Thinking about it")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGHUP
    ((job, status),) = typed.jobs().items()
    assert status == "running"
    assert shell.run("jobs", "cancel", job).returncode == 0
    assert shell.run("jobs", "wait", job, "--timeout", "60").returncode in (0, 1, 130)
    assert typed.jobs() == {job: "cancelled"}


@pytest.mark.parametrize("place", ["/", str(Path.home()), "/etc"])
def test_nothing_is_delegated_in_a_dangerous_place(shell: Shell, place: str) -> None:
    done = shell.run("delegate", "x", "--cwd", place)
    assert done.returncode == 1
    assert "nothing is delegated there" in done.stderr
    assert shell.json("jobs", "list")["jobs"] == []

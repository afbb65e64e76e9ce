"""`delegate` and `review` as they are typed: on the whole engine, the embedded model and the real worker."""

from __future__ import annotations

import json
import os
import shutil
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
    ):
        done = shell.run(*words)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    assert not (shell.home / "run" / "daemon.json").exists()


@pytest.mark.parametrize("place", ["/", str(Path.home()), "/etc"])
def test_nothing_is_delegated_in_a_dangerous_place(shell: Shell, place: str) -> None:
    done = shell.run("delegate", "x", "--cwd", place)
    assert done.returncode == 1
    assert "nothing is delegated there" in done.stderr
    assert shell.json("jobs", "list")["jobs"] == []

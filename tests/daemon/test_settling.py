"""A daemon that starts settles what a killed apply left in a user's files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.config.paths import HOME_VARIABLE, resolve_home
from dragoman.daemon.starting import ServeOptions, prepare

APPLY_AND_DIE = """
import os, signal, sys
from pathlib import Path
from dragoman.workspace import apply, create_workspace, open_repository, preview
repository, store = Path(sys.argv[1]), Path(sys.argv[2])
workspace = create_workspace(open_repository(repository), store, id="w", dirty="committed")
for number in range(40):
    (workspace.path / f"file{number}").write_text("new\\n")
seen = []
def die(stage):
    seen.append(stage)
    if len(seen) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
apply(workspace, token=preview(workspace).token, checkpoint=die)
"""


@pytest.mark.parametrize("stage", [2, 4, 6])
def test_files_are_exactly_before_or_exactly_after(tmp_path: Path, stage: int) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    for number in range(40):
        (repository / f"file{number}").write_text("old\n")
    identity = ["-c", "user.name=u", "-c", "user.email=u@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(repository), *identity, *words], check=True)
    env = {**os.environ, HOME_VARIABLE: str(tmp_path / "home")}
    home = resolve_home(env)
    home.ensure()
    killed = subprocess.run(
        [sys.executable, "-c", APPLY_AND_DIE, str(repository), str(home.state), str(stage)], env=env
    )
    assert killed.returncode == -signal.SIGKILL
    assert list((home.state / "journal").glob("*.json"))
    told: list[str] = []
    home.config_file.write_text("[gateway]\nport = 0\n")
    plan = prepare(ServeOptions(), env, warn=told.append)
    for descriptor in (plan.tcp_fd, plan.gateway_fd, plan.lock_fd, *(child.fd for child in plan.on_demand)):
        os.close(descriptor)
    assert len(told) == 1
    assert str(repository) in told[0]
    texts = {(repository / f"file{number}").read_text() for number in range(40)}
    assert texts in ({"old\n"}, {"new\n"})
    assert list((home.state / "journal").glob("*.json")) == []
    status = subprocess.run(
        ["git", "-C", str(repository), "status", "--porcelain"], capture_output=True, text=True, check=True
    ).stdout
    assert bool(status) == (texts == {"new\n"})

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dragoman.process.identity import ProcessIdentity, identify, is_alive, send_signal
from dragoman.process.spawn import (
    SpawnFailed,
    SpawnPlan,
    base_environment,
    daemon_environment,
    spawn_detached,
)


@pytest.fixture
def spawn() -> Iterator[Callable[[SpawnPlan], ProcessIdentity]]:
    started: list[ProcessIdentity] = []

    def run(plan: SpawnPlan) -> ProcessIdentity:
        started.append(spawn_detached(plan))
        return started[-1]

    yield run
    for identity in started:
        send_signal(identity, signal.SIGKILL)


def python(source: str, **rest) -> SpawnPlan:
    return SpawnPlan((sys.executable, "-S", "-c", source), env=rest.pop("env", {}), **rest)


def test_a_detached_process_leads_its_own_session_without_terminal_or_foreign_environment(
    spawn, tmp_path: Path, until: Callable
):
    log = tmp_path / "log"
    identity = spawn(
        python(
            "import os, sys, signal;"
            "print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), os.environ.get('A'),"
            " os.environ.get('HOME'), os.getcwd(), flush=True); signal.pause()",
            env={"A": "b"},
            log_file=log,
            cwd=tmp_path,
        )
    )
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    assert log.read_text() == f"True '' b None {tmp_path}\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert is_alive(identity)


def test_only_the_chosen_descriptors_are_inherited(spawn, tmp_path: Path, until: Callable):
    log = tmp_path / "log"
    reader, writer = os.pipe()
    spawn(
        python(f"import os; os.write({writer}, b'x'); os.fstat({reader})", pass_fds=(writer,), log_file=log)
    )
    os.close(writer)
    assert os.read(reader, 10) == b"x"
    assert os.read(reader, 10) == b""
    os.close(reader)
    until(lambda: "Bad file descriptor" in log.read_text())


def test_a_spawned_process_that_ends_is_reaped(spawn, until: Callable):
    identity = spawn(python("pass"))
    until(lambda: not Path(f"/proc/{identity.pid}").exists() and identify(identity.pid) is None)


def test_a_log_is_appended_to(spawn, tmp_path: Path, until: Callable):
    log = tmp_path / "log"
    log.write_text("before\n")
    spawn(python("print('after')", log_file=log))
    until(lambda: log.read_text() == "before\nafter\n")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (SpawnPlan(("/no/such/program",), env={}), "/no/such/program"),
        (SpawnPlan(("true",), env={}, log_file=Path("/no/such/folder/log")), "cannot open the log"),
    ],
)
def test_what_cannot_be_started_is_named(plan: SpawnPlan, words: str):
    with pytest.raises(SpawnFailed, match=words):
        spawn_detached(plan)


def test_the_base_environment_keeps_no_secrets():
    env = {"PATH": "/bin", "LC_ALL": "C", "ZAI_API_KEY": "s", "AWS_SECRET_ACCESS_KEY": "s", "JAVA_HOME": "/j"}
    kept = base_environment(env, extra=["JAVA_HOME"], add={"DRAGOMAN_RUN": "r"})
    assert kept == {"PATH": "/bin", "LC_ALL": "C", "JAVA_HOME": "/j", "DRAGOMAN_RUN": "r"}


def test_a_daemon_started_inside_a_run_does_not_carry_its_marker():
    assert daemon_environment({"KEY": "k", "DRAGOMAN_RUN": "r"}) == {"KEY": "k"}

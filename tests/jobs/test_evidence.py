"""Validation commands are run by us, without a shell, bounded, and skipped rather than guessed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from dragoman.jobs import evidence
from dragoman.jobs.evidence import Observation, observe, plan_command, verdict

TEST_FILE = """import unittest
class T(unittest.TestCase):
    def test_it(self):
        {body}
"""


def _environment() -> dict[str, str]:
    """The interpreter of this run first on PATH, so that `python3` is the one under test."""
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _observe(folder: Path, body: str, timeout_s: float = 120.0) -> Observation:
    (folder / "test_it.py").write_text(TEST_FILE.format(body=body))
    return asyncio.run(
        observe(
            "python3 -m unittest -q",
            cwd=folder,
            environment=_environment(),
            evidence=folder / "evidence",
            name="after-1",
            timeout_s=timeout_s,
        )
    )


def test_a_passing_command_is_seen_to_pass_and_its_output_kept(tmp_path: Path) -> None:
    seen = _observe(tmp_path, "print('hello from the test')")
    assert (seen.status, seen.exit_code) == ("passed", 0)
    assert "hello from the test" in seen.tail
    assert seen.output_file is not None
    assert (tmp_path / "evidence" / seen.output_file).read_text().count("hello from the test") == 1


def test_a_failing_command_is_seen_to_fail(tmp_path: Path) -> None:
    assert _observe(tmp_path, "self.fail('no')").status == "failed"


def test_a_command_that_never_ends_is_killed_with_all_it_started(tmp_path: Path) -> None:
    body = (
        "import subprocess,sys,time;"
        " child=subprocess.Popen([sys.executable,'-c','import time;time.sleep(600)']);"
        " open('pid','w').write(str(child.pid)); time.sleep(600)"
    )
    seen = _observe(tmp_path, body, timeout_s=3.0)
    assert seen.status == "timed_out"
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the grandchild outlived its test"
        time.sleep(0.02)


def test_a_process_left_running_does_not_make_a_passed_command_late(tmp_path: Path) -> None:
    body = (
        "import subprocess,sys;"
        " child=subprocess.Popen([sys.executable,'-c','import time;time.sleep(60)'], start_new_session=True);"
        " open('pid','w').write(str(child.pid))"
    )
    try:
        seen = _observe(tmp_path, body, timeout_s=30.0)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert seen.status == "passed"
    assert seen.duration_s < 20


def test_an_endless_printer_is_kept_only_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "OUTPUT_LIMIT_BYTES", 10_000)
    seen = _observe(tmp_path, "print('x' * 200_000)")
    assert seen.output_file is not None
    assert (tmp_path / "evidence" / seen.output_file).stat().st_size == 10_000


@pytest.mark.parametrize(
    "command",
    [
        "pytest -q && rm -rf /",
        "python3 -m unittest; true",
        "pytest > out",
        "rm -rf x",
        "python3 setup.py install",
        "npm run deploy",
        "make test",
        'pytest "unclosed',
        "pytest $(id)",
    ],
)
def test_what_needs_a_shell_or_is_no_test_runner_is_skipped_with_a_reason(command: str) -> None:
    argv, reason = plan_command(command)
    assert argv == []
    assert reason


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m unittest -q",
        "pytest -k 'a and b'",
        "npm test",
        "npm run lint",
        "go test ./...",
        "cargo test",
    ],
)
def test_known_runners_become_arguments(command: str) -> None:
    argv, reason = plan_command(command)
    assert reason is None
    assert argv[0] == command.split()[0]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["passed"], "proved"),
        (["passed", "failed"], "failed"),
        (["passed", "timed_out"], "failed"),
        (["passed", "skipped"], "unproved"),
        (["skipped"], "unproved"),
        ([], "unproved"),
    ],
)
def test_only_what_ran_and_passed_whole_is_proof(statuses: list[str], expected: str) -> None:
    assert verdict([Observation(command=s, status=s) for s in statuses]) == expected  # type: ignore[arg-type]

"""The demo does the main job with the real Claude Code, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest

from dragoman.cli.demo.stage import _open_folder, sweep  # pyright: ignore[reportPrivateUsage]

COMMAND = [sys.executable, "-m", "dragoman.cli.main", "demo"]


@pytest.fixture
def demo_env(tmp_path: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(tmp_path), "DRAGOMAN_HOME": str(tmp_path / "home"), "LANG": "C.UTF-8"}


def _mine(tmp_path: Path) -> list[psutil.Process]:
    """Every process that carries this test's folder in its environment or arguments."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
        if process.pid != os.getpid() and any(str(tmp_path) in word for word in words):
            found.append(process)
    return found


def _assert_nothing_left(tmp_path: Path) -> None:
    deadline = time.monotonic() + 5
    while left := _mine(tmp_path):
        assert time.monotonic() < deadline, f"still running: {[process.cmdline() for process in left]}"
        time.sleep(0.05)
    assert not (tmp_path / "home" / "state" / "demo").exists()


@pytest.fixture
def started(demo_env: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a demo over one wire and end it with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, "--over", "messages", *words],
            env=demo_env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _read_until(stream: IO[str] | None, word: str) -> str:
    """Read lines until one holds the word; everything read."""
    assert stream is not None
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if word in line:
            return "".join(lines)
    raise AssertionError(f"{word!r} never came:\n{''.join(lines)}")


@pytest.mark.real_client
def test_a_packet_is_delegated_proved_and_applied_over_both_wires(
    demo_env: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run([*COMMAND, "--json"], env=demo_env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [play["wire"] for play in told["plays"]] == ["messages", "chat"]
    for play in told["plays"]:
        result = play["result"]
        assert result["status"] == "success"
        assert [seen["status"] for seen in result["evidence"]["before"]] == ["failed"]
        assert [seen["status"] for seen in result["evidence"]["after"]] == ["passed"]
        assert result["evidence"]["differences"] == []
        assert result["integrity"]["changed"] == []
        assert play["applied"] == [file["path"] for file in result["delta"]["files"]]
        assert play["proof"]["status"] == "passed"
        (model,) = play["usage"]["by_model"]
        assert model["upstream_wires"] == [play["wire"]]
        assert model["requests"] >= 5
        assert model["failed"] == model["unreported"] == 0
        assert model["input_tokens"] > model["output_tokens"] > 0
        assert model["gateway_ms"] < model["total_ms"]
    assert told["plays"][0]["patch"] == told["plays"][1]["patch"]
    _assert_nothing_left(tmp_path)
    assert not (tmp_path / "home").exists()


@pytest.mark.real_client
@pytest.mark.parametrize("moment", ["Play 1", "before", "worker", "Edit", "after", "Ledger"])
def test_ctrl_c_at_any_moment_leaves_nothing_behind(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path, moment: str
) -> None:
    process = started()
    _read_until(process.stdout, moment)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    _assert_nothing_left(tmp_path)


@pytest.mark.real_client
def test_a_daemon_killed_in_the_middle_is_started_again_and_the_work_goes_on(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = started()
    _read_until(process.stdout, "worker")
    (note,) = (tmp_path / "home" / "state" / "demo").glob("*/home/run/daemon.json")
    os.kill(json.loads(note.read_text())["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert "started again" in output
    _assert_nothing_left(tmp_path)


@pytest.mark.real_client
def test_an_embedded_model_killed_in_the_middle_ends_the_demo_at_once(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = started()
    _read_until(process.stdout, "worker")
    (model,) = [
        child for child in psutil.Process(process.pid).children() if "dragoman.rehearsal" in child.cmdline()
    ]
    model.kill()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the embedded model ended in the middle of the play" in output
    _assert_nothing_left(tmp_path)


@pytest.mark.real_client
def test_a_killed_demo_is_cleared_away_by_the_next_one(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = started()
    _read_until(first.stdout, "worker")
    first.kill()
    first.wait()
    output, _ = started().communicate(timeout=90)
    assert "nothing left behind" in output
    _assert_nothing_left(tmp_path)


@pytest.mark.real_client
def test_an_output_nobody_reads_any_more_fails_the_demo(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = started()
    _read_until(process.stdout, "Play 1")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    _assert_nothing_left(tmp_path)


def test_two_demos_that_start_at_once_do_not_take_each_other_for_left_behind(tmp_path: Path) -> None:
    base = tmp_path / "demo"
    folder, lock = _open_folder(base)
    (base / ".draft").mkdir()
    (base / "dead").mkdir()
    sweep(base)
    assert sorted(base.iterdir()) == [base / ".draft", folder]
    os.utime(base / ".draft", (0, 0))
    lock.release()
    sweep(base)
    assert list(base.iterdir()) == []


def _refusal(env: dict[str, str], *words: str) -> tuple[int, str]:
    done = subprocess.run([*COMMAND, *words], env=env, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_without_git_it_says_what_to_install(demo_env: dict[str, str], tmp_path: Path) -> None:
    status, said = _refusal({**demo_env, "PATH": str(tmp_path)})
    assert status == 1
    assert "git was not found on PATH" in said
    assert "next: install git 2.38 or newer" in said


def test_an_old_git_is_named_with_its_version(demo_env: dict[str, str], tmp_path: Path) -> None:
    old = tmp_path / "bin" / "git"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho git version 2.30.2\n")
    old.chmod(0o755)
    status, said = _refusal({**demo_env, "PATH": f"{old.parent}{os.pathsep}{demo_env['PATH']}"})
    assert status == 1
    assert "2.30.2" in said
    assert "2.38" in said


def test_a_claude_code_that_is_not_there_is_named(demo_env: dict[str, str], tmp_path: Path) -> None:
    status, said = _refusal({**demo_env, "CLAUDE_BIN": str(tmp_path / "no-such-claude")})
    assert status == 1
    assert "no-such-claude" in said
    assert "next:" in said


def test_an_unwritable_home_is_named_with_the_variable_to_set(
    demo_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    status, said = _refusal({**demo_env, "DRAGOMAN_HOME": str(tmp_path / "file" / "home")})
    assert status == 1
    assert "cannot write" in said
    assert "DRAGOMAN_HOME" in said


def test_a_typo_in_a_scenario_names_the_line_and_the_nearest_key(
    demo_env: dict[str, str], tmp_path: Path
) -> None:
    scenario = tmp_path / "mine.toml"
    scenario.write_text('version = 1\n\n[[rule]]\ndo = [{ sya = "hello" }]\n')
    status, said = _refusal(demo_env, "--scenario", str(scenario))
    assert status == 2
    assert "mine.toml:4:" in said
    assert "nearest: rule[0].do[0].say" in said

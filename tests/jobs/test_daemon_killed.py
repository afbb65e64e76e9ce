"""The real Claude Code in mid-task, its daemon killed: the runner brings the gateway back and it finishes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.demo.stage import scratch_packet, set_stage
from dragoman.cli.interruptions import Interruptions
from dragoman.clients.claude_code import bundled_binary
from dragoman.daemon.connect import find_daemon
from dragoman.jobs.folder import RunFolder
from dragoman.process.identity import identify, send_signal

MODEL = "rehearsal-messages"


def told(run: RunFolder) -> Iterator[dict[str, Any]]:
    """A run's events until its result, read from its folder: nobody but the runner looks after the daemon."""
    offset, deadline = 0, time.monotonic() + 120
    while True:
        ended = run.result_file.exists()
        assert time.monotonic() < deadline
        if run.events_file.exists():
            for behind, event in run.events(offset):
                offset = behind
                yield event
        if ended:
            return
        time.sleep(0.05)


@pytest.mark.real_client
def test_a_worker_in_mid_task_survives_the_death_of_its_daemon(tmp_path: Path) -> None:
    if bundled_binary() is None and not os.environ.get("CLAUDE_BIN"):
        pytest.skip("no Claude Code: install the `clients` extra")
    env = {**os.environ, "DRAGOMAN_HOME": str(tmp_path / "home")}
    with set_stage(env, Interruptions(), scenario="demo") as stage:
        request = {
            "task": scratch_packet(),
            "cwd": str(stage.lay_scratch("repository")),
            "kind": "implement",
            "model": MODEL,
            "worker": "claude",
            "asker": {"client": "cli"},
        }
        with stage.control() as control:
            run = RunFolder(stage.home.runs / stage.start_job(control, request)["run_id"])
        kinds: list[str] = []
        gateway: list[str] = []
        for event in told(run):
            if event["kind"] == "tool" and "tool" not in kinds:
                daemon = identify(stage.daemon.pid)
                assert daemon is not None
                assert send_signal(daemon, signal.SIGKILL)
            kinds.append(event["kind"])
            if event["kind"] == "gateway":
                gateway.append(event["state"])
        result = run.result()
        assert result is not None
        assert (result["status"], result["error"]) == ("success", None)
        assert result["evidence"]["verdict"] == "proved"
        assert gateway[:2] == ["away", "started_again"]
        assert kinds.count("worker_spawned") == 1
        now = find_daemon(stage.home)
        assert now is not None
        assert now.pid != stage.daemon.pid
        assert now.url == stage.daemon.url

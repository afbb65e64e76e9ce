"""The real Claude Code in mid-task, its daemon killed: the runner brings the gateway back and it finishes."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

import pytest

from dragoman.cli.control_client import ControlClient
from dragoman.cli.demo.stage import scratch_packet, set_stage
from dragoman.cli.interruptions import Interruptions
from dragoman.clients.claude_code import bundled_binary
from dragoman.daemon.connect import find_daemon
from dragoman.jobs.folder import RunRequest
from dragoman.jobs.launch import follow
from dragoman.process.identity import identify, send_signal

MODEL = "rehearsal-messages"


@pytest.mark.real_client
def test_a_worker_in_mid_task_survives_the_death_of_its_daemon(tmp_path: Path) -> None:
    if bundled_binary() is None and not os.environ.get("CLAUDE_BIN"):
        pytest.skip("no Claude Code: install the `clients` extra")
    env = {**os.environ, "DRAGOMAN_HOME": str(tmp_path / "home")}
    with set_stage(env, Interruptions(), scenario="demo") as stage:
        run_id = f"run-{uuid.uuid4().hex[:12]}"
        with ControlClient(stage.home, stage.daemon.url) as control:
            token = control.mint_token(scope="run", run=run_id, models=[MODEL], expires_in_s=300)
        run = stage.start_run(
            RunRequest(
                run_id=run_id,
                packet=scratch_packet(),
                repository=str(stage.lay_scratch("repository")),
                state=str(stage.home.state),
                model=MODEL,
                gateway_url=stage.daemon.url,
                context_window=200_000,
                max_output_tokens=32_000,
            ),
            token,
        )
        kinds: list[str] = []
        gateway: list[str] = []
        for event in follow(run):
            if event["kind"] == "tool" and "tool" not in kinds:
                daemon = identify(stage.daemon.pid)
                assert daemon is not None
                assert send_signal(daemon, signal.SIGKILL)
            kinds.append(event["kind"])
            if event["kind"] == "gateway":
                gateway.append(event["state"])
        result = run.folder.result()
        assert result is not None
        assert (result["status"], result["error"]) == ("success", None)
        assert result["evidence"]["verdict"] == "proved"
        assert gateway[:2] == ["away", "started_again"]
        assert kinds.count("worker_spawned") == 1
        now = find_daemon(stage.home)
        assert now is not None
        assert now.pid != stage.daemon.pid
        assert now.url == stage.daemon.url

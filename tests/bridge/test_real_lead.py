"""The real Codex leads the real Claude Code, through `dragoman lead`, in its own default sandbox."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real_client

WaitUntil = Callable[..., Any]


@dataclass
class Lead:
    """`dragoman lead` in a terminal of its own."""

    process: subprocess.Popen[bytes]
    main: int
    printed: bytearray = field(default_factory=bytearray)

    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", self.printed.decode(errors="replace"))


@dataclass
class Stage:
    """A project, a home, and clients' configuration for a lead."""

    scratch: Path
    project: Path
    env: dict[str, str]
    leads: list[Lead] = field(default_factory=list[Lead])

    def lead(self, *words: str) -> Lead:
        main, side = pty.openpty()
        argv = [sys.executable, "-m", "dragoman.cli.main", "lead", *words]
        process = subprocess.Popen(
            argv, cwd=self.project, env=self.env, stdin=side, stdout=side, stderr=side, start_new_session=True
        )
        os.close(side)
        lead = Lead(process, main)

        def drain() -> None:
            try:
                while data := os.read(main, 65_536):
                    lead.printed += data
            except OSError:
                return

        threading.Thread(target=drain, daemon=True).start()
        self.leads.append(lead)
        return lead

    def session(self) -> dict[str, Any] | None:
        for path in (self.scratch / "state/state/sessions").glob("*/session.json"):
            return json.loads(path.read_text())
        return None

    def state(self) -> dict[str, Any]:
        session = self.session()
        path = Path(session["bridge_state_file"]) if session else None
        return json.loads(path.read_text()) if path and path.exists() else {}


@pytest.fixture
def stage(
    scratch: Path,
    model: str,
    claude_329: Path,
    environment: Callable[..., dict[str, str]],
    bundled_program: Callable[..., Path],
    alive_in: Callable[[Path], list[int]],
    wait_until: WaitUntil,
) -> Iterator[Stage]:
    project = scratch / "project"
    project.mkdir()
    env = environment(scratch, model, project)
    (Path(env["CODEX_HOME"]) / "config.toml").write_text(
        f"""
        model = "lead"
        model_provider = "rehearsal"
        [model_providers.rehearsal]
        name = "Rehearsal"
        base_url = "{model}/v1"
        wire_api = "responses"
        """
    )
    env |= {
        "DRAGOMAN_HOME": str(scratch / "state"),
        "CLAUDE_BIN": str(claude_329),
        "CODEX_BIN": str(bundled_program("codex_cli_bin", "bin", "codex")),
        "TERM": "xterm-256color",
        "PROBE_VALUE": "a-value-that-must-not-be-written",
    }
    stage = Stage(scratch, project, env)
    yield stage
    for lead in stage.leads:
        if lead.process.poll() is None:
            lead.process.terminate()
        lead.process.wait(30)
        os.close(lead.main)
    wait_until(lambda: not alive_in(project), "the end of every process in the project")


def test_codex_leads_three_rounds_with_one_permission_inside_its_sandbox(stage: Stage) -> None:
    lead = stage.lead("exec", "--skip-git-repo-check", "-s", "workspace-write", "lead the work")
    assert lead.process.wait(90) == 0, lead.text()[-3000:]
    text = lead.text()
    assert "The work is done." in text, text[-3000:]
    assert (stage.project / "made.txt").exists()
    # The sandbox gave the lead no sockets: what it did went through files.
    assert "Operation not permitted" in text, text[-3000:]
    home = stage.scratch / "state/state/supervisor"
    assert {path.name for path in home.iterdir()} >= {"AGENTS.md", "CLAUDE.md", "MEMORY.md"}
    session = stage.session()
    assert session is not None
    assert session["version"] == 2
    assert session["ended_at"]
    names = json.loads(Path(session["claude_env_file"]).read_text())["names"]
    assert "PROBE_VALUE" in names
    for path in Path(session["session_dir"]).rglob("*"):
        if path.is_file():
            assert b"a-value-that-must-not-be-written" not in path.read_bytes(), path
            assert path.stat().st_mode & 0o077 == 0, path


def test_the_end_of_the_lead_is_the_end_of_everything(
    stage: Stage, alive_in: Callable[[Path], list[int]], wait_until: WaitUntil
) -> None:
    stub = stage.scratch / "codex"
    stub.write_text('#!/bin/sh\n[ "$1" = --version ] && echo codex-cli 0.163.0 && exit\nexec sleep 60\n')
    stub.chmod(0o700)
    stage.env["CODEX_BIN"] = str(stub)
    lead = stage.lead()
    wait_until(lambda: stage.state().get("status") == "ready", "a session", 60)
    assert alive_in(stage.project)
    began = time.monotonic()
    os.kill(lead.process.pid, signal.SIGKILL)
    wait_until(lambda: not alive_in(stage.project), "the end of Claude Code")
    assert time.monotonic() - began < 15
    wait_until(lambda: stage.state().get("ended"), "the last word")


def test_the_rules_of_an_older_version_are_noticed(stage: Stage) -> None:
    home = stage.scratch / "state/state/supervisor"
    home.mkdir(parents=True)
    (home / "AGENTS.md").write_text("rules of my own\n")
    stub = stage.scratch / "codex"
    stub.write_text('#!/bin/sh\n[ "$1" = --version ] && echo codex-cli 0.163.0 && exit\nexit 7\n')
    stub.chmod(0o700)
    stage.env["CODEX_BIN"] = str(stub)
    lead = stage.lead()
    assert lead.process.wait(60) == 7
    assert "Supervisor rules are stale. Run: dragoman migrate-supervisor" in lead.text()
    assert (home / "AGENTS.md").read_text() == "rules of my own\n"


def test_through_the_gateway_both_use_its_models_and_no_account_of_their_own(stage: Stage) -> None:
    for name in ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_MODEL"):
        stage.env.pop(name)
    # Claude Code would prefer this to everything, and Codex has no provider that answers.
    stage.env["ANTHROPIC_API_KEY"] = "sk-ant-of-another-account"
    (Path(stage.env["CODEX_HOME"]) / "config.toml").write_text("")
    home = stage.scratch / "state"
    home.mkdir()
    scenario = Path(__file__).parent.parent / "fixtures" / "bridge" / "bridge.toml"
    (home / "dragoman.toml").write_text(
        f"[gateway]\nport = 0\n[rehearsal]\nscenario = '{scenario}'\n[bridge]\nlead_gateway = true\n"
    )
    stage.env["DRAGOMAN_BRIDGE_GATEWAY"] = "true"
    try:
        lead = stage.lead("exec", "--skip-git-repo-check", "-s", "workspace-write", "lead the work")
        assert lead.process.wait(100) == 0, lead.text()[-3000:]
        assert "The work is done." in lead.text(), lead.text()[-3000:]
        assert (stage.project / "made.txt").exists()
        rows = [
            json.loads(line)
            for path in (home / "state/spool").glob("*.jsonl")
            for line in path.read_text().splitlines()
        ]
        assert {row["client_wire"] for row in rows} == {"responses", "messages"}
        session = stage.session()
        assert session is not None
        token = (home / "state/data.token").read_text().strip()
        for path in Path(session["session_dir"]).rglob("*"):
            if path.is_file():
                assert token.encode() not in path.read_bytes(), path
        names = json.loads(Path(session["claude_env_file"]).read_text())["names"]
        assert "ANTHROPIC_API_KEY" not in names
    finally:
        subprocess.run(
            [sys.executable, "-m", "dragoman.cli.main", "stop"], env=stage.env, cwd=stage.project, timeout=30
        )

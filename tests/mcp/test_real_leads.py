"""The real Codex and the real Claude Code as leads, scripted by the embedded model; a real worker as well."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from dragoman.clients.claude_code import bundled_binary
from dragoman.clients.codex_program import bundled_codex

pytestmark = pytest.mark.real_client

LEAD = Path(__file__).parents[1] / "fixtures" / "mcp" / "lead.toml"
REHEARSAL = files("dragoman.rehearsal")
CONFIG = """
[gateway]
port = {port}
default_provider = "play"
[delegation]
allow_roots = ["{root}"]
model = "rehearsal"
[rehearsal]
scenario = "{folder}/play.toml"
[providers.play]
profile = "generic"
wires.chat = "http://127.0.0.1:9"
"""
STEPS = ["claude_setup", "claude_task", "claude_job_wait", "claude_result", "claude_apply", "claude_apply"]
TIMEOUT_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class House:
    """A lead's side: its home, a repository with a failing test, and a daemon that plays both parts."""

    def __init__(self, station: Any) -> None:
        self.station = station
        self.repository: Path = station.repository
        for file in REHEARSAL.joinpath("scratch", "repository").iterdir():
            (self.repository / file.name.removesuffix(".txt")).write_bytes(file.read_bytes())
        station.commit()
        worker = REHEARSAL.joinpath("scenarios", "demo.toml").read_text()
        rules = worker[worker.index("[[rule]]") :]
        (station.folder / "play.toml").write_text(f"{LEAD.read_text()}\n{rules}")
        # Codex puts no helper programs below the folder for temporary files, and warns.
        self.user = station.folder / "user"
        self.user.mkdir()
        station.env |= {"HOME": str(self.user), "CODEX_HOME": str(self.user / ".codex")}
        self.env = {
            "PATH": station.env["PATH"],
            "HOME": str(self.user),
            "CODEX_HOME": str(self.user / ".codex"),
            "DRAGOMAN_HOME": str(station.home),
            "LANG": "C.UTF-8",
        }

    def codex(self, prompt: str, *options: str, refused: tuple[str, ...] = ()) -> tuple[list[str], str]:
        """`codex exec`; the tools it called and its last words."""
        program = bundled_codex()
        assert program is not None, "Codex is missing: install the extra `clients`"
        events = self._run(
            [
                *(str(program), "exec", "--json", "-c", 'model_provider="dragoman"', "-m", "rehearsal"),
                *options,
                prompt,
            ]
        )
        items = [event["item"] for event in events if event["type"] == "item.completed"]
        calls = [item for item in items if item["type"] == "mcp_tool_call"]
        failed = [item["tool"] for item in calls if item["status"] != "completed"]
        assert set(failed) == set(refused)
        said = [item["text"] for item in items if item["type"] == "agent_message"]
        return [item["tool"] for item in calls], said[-1]

    def claude(self, prompt: str) -> tuple[list[str], str]:
        """`claude -p` with our server by `--mcp-config`; the tools it called and its last words."""
        program = bundled_binary()
        assert program is not None, "Claude Code is missing: install the extra `clients`"
        command, *args = self.station.argv
        server = {"command": command, "args": args, "env": {"DRAGOMAN_HOME": str(self.station.home)}}
        note = json.loads((self.station.home / "run" / "daemon.json").read_text())
        token = (self.station.home / "state" / "data.token").read_text().strip()
        self.env |= {
            "ANTHROPIC_BASE_URL": note["url"],
            "ANTHROPIC_AUTH_TOKEN": token,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        events = self._run(
            [
                str(program), "-p", "--output-format", "stream-json", "--verbose", "--model", "rehearsal",
                "--mcp-config", json.dumps({"mcpServers": {"dragoman": server}}), "--strict-mcp-config",
                "--allowedTools", "mcp__dragoman", "--permission-mode", "dontAsk", "--setting-sources", "",
                prompt,
            ]
        )  # fmt: skip
        result = next(event for event in events if event["type"] == "result")
        assert result["permission_denials"] == []
        blocks = [
            block
            for event in events
            if event["type"] == "assistant"
            for block in event["message"]["content"]
            if block["type"] == "tool_use"
        ]
        return [block["name"].removeprefix("mcp__dragoman__") for block in blocks], result["result"]

    def test_passes(self) -> bool:
        argv = (sys.executable, "-m", "unittest", "-q")
        return subprocess.run(argv, cwd=self.repository, capture_output=True, check=False).returncode == 0

    def _run(self, argv: list[str]) -> list[dict[str, Any]]:
        done = subprocess.run(
            argv,
            cwd=self.repository,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-2000:])
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture
def house(make_station: Callable[..., Any]) -> House:
    return House(make_station(CONFIG, port=free_port()))


@pytest.fixture
def set_up(house: House) -> House:
    """With Codex as `dragoman setup --write` leaves it."""
    done = house.station.dragoman("setup", "--write", "--client", "codex")
    assert done.returncode == 0, done.stderr
    return house


def without_waits(tools: list[str]) -> list[str]:
    """The calls, several waits in a row as one: how often is a matter of the machine."""
    return [tool for n, tool in enumerate(tools) if tool != "claude_job_wait" or tools[n - 1] != tool]


def test_codex_has_a_worker_repair_it_and_applies_that(set_up: House) -> None:
    assert not set_up.test_passes()
    # The user's own word that a Codex without anybody to ask may apply.
    word = 'mcp_servers.dragoman.tools.claude_apply.approval_mode="approve"'
    tools, said = set_up.codex("Have it repaired, please.", "-c", word)
    assert without_waits(tools) == STEPS
    assert said == "It is repaired and applied."
    assert set_up.test_passes()


def test_without_the_users_word_codex_applies_nothing(set_up: House) -> None:
    set_up.codex("Have it repaired, please.", refused=("claude_apply",))
    assert not set_up.test_passes()


def test_claude_code_has_a_worker_repair_it_and_applies_that(house: House) -> None:
    assert house.station.dragoman("token", "--ensure").returncode == 0
    tools, said = house.claude("Have it repaired, please.")
    assert without_waits(tools) == STEPS
    assert said == "It is repaired and applied."
    assert house.test_passes()


# The model of this play calls a tool in its first answer, and is refused where that tool is not offered.
@pytest.mark.parametrize("starts", [3, pytest.param(20, marks=pytest.mark.endurance)])
def test_codex_has_the_tools_in_its_first_turn_every_time(set_up: House, starts: int) -> None:
    for _ in range(starts):
        assert set_up.codex("Only look.") == (["claude_setup"], "Looked: ready.")

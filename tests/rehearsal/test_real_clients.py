"""The shipped demo, played to the real clients directly: read, see it fail, repair, see it pass, report."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from dragoman.jobs.claims import read_claims
from dragoman.jobs.packet import parse_packet

pytestmark = pytest.mark.real_client

TEST_COMMAND = ("python3", "-m", "unittest", "-q")
SCRATCH = resources.files("dragoman.rehearsal") / "scratch"
PACKET = (SCRATCH / "packet.md").read_text(encoding="utf-8")
PLAYED = ["read", "see it fail", "repair", "see it pass", "report"]


@dataclass
class Play:
    """The demo's repository, and the embedded model that plays it.

    Attributes:
        env: an environment without anything of the user's, with a home of its own.
    """

    folder: Path
    repository: Path
    url: str
    env: dict[str, str]

    def run(self, *argv: str) -> str:
        done = subprocess.run(
            argv, cwd=self.repository, env=self.env, input=PACKET, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def tests_pass(self) -> bool:
        # Nobody may take bytecode of a moment ago for the repaired module's.
        env = {**self.env, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(TEST_COMMAND, cwd=self.repository, env=env, capture_output=True).returncode == 0

    def played(self) -> list[str]:
        lines = (self.folder / "journal").read_text().splitlines()
        return [json.loads(line)["rule"] for line in lines]

    def changed(self) -> list[str]:
        status = self.run("git", "status", "--porcelain").splitlines()
        return sorted(line[3:] for line in status)


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    repository, home = tmp_path / "repository", tmp_path / "home"
    for folder in (repository, home, tmp_path / "tmp"):
        folder.mkdir()
    for entry in (SCRATCH / "repository").iterdir():
        (repository / entry.name.removesuffix(".txt")).write_bytes(entry.read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman.rehearsal", "--scenario", "demo", "--pace", "0.1",
         "--journal", str(tmp_path / "journal")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    # Codex refuses a home below the folder for temporary files, which the test's folder is.
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(tmp_path / "tmp"), "LANG": "C.UTF-8"}
    play = Play(tmp_path, repository, url, env)
    try:
        play.run("git", "init", "--quiet", "--initial-branch=main")
        play.run("git", "add", "--all")
        play.run(
            "git", "-c", "user.name=T", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "base"
        )
        assert not play.tests_pass()
        yield play
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def bundled(package: str, *parts: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is missing: install the extra `clients`"
    assert spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0], *parts))


def test_claude_code_repairs_the_scratch_repository(play: Play):
    play.env |= {
        "ANTHROPIC_BASE_URL": play.url,
        "ANTHROPIC_AUTH_TOKEN": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
        "CLAUDE_CODE_MAX_RETRIES": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    edits = [f"Edit(/{play.repository}/{name})" for name in parse_packet(PACKET).allowed_files]
    printed = play.run(
        bundled("claude_agent_sdk", "_bundled", "claude"),
        "-p", "--output-format", "json", "--model", "demo-worker",
        "--tools", "Read,Edit,Write,Bash", "--permission-mode", "dontAsk", "--allowedTools",
        f"Read(/{play.repository}/**)", *edits, f"Bash({' '.join(TEST_COMMAND)})",
        "--setting-sources", "", "--strict-mcp-config",
    )  # fmt: skip
    result = json.loads(printed)
    assert not result["is_error"]
    assert result["permission_denials"] == []
    assert play.played() == PLAYED
    assert_repaired(play, result["result"])
    (usage,) = result["modelUsage"].values()
    assert usage["cacheReadInputTokens"] > 0


def test_codex_repairs_the_scratch_repository(play: Play):
    home = Path(play.env["HOME"])
    play.env["CODEX_HOME"] = str(home)
    (home / "config.toml").write_text(
        f"""
        model = "demo-worker"
        model_provider = "rehearsal"
        [model_providers.rehearsal]
        name = "Rehearsal"
        base_url = "{play.url}/v1"
        wire_api = "responses"
        """
    )
    printed = play.run(
        bundled("codex_cli_bin", "bin", "codex"),
        "exec", "--json", "--dangerously-bypass-approvals-and-sandbox", "-",
    )  # fmt: skip
    events = [json.loads(line) for line in printed.splitlines()]
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    assert play.played() == PLAYED
    assert_repaired(play, [item["text"] for item in items if item["type"] == "agent_message"][-1])
    assert any(item["type"] == "reasoning" for item in items)
    assert events[-1]["usage"]["reasoning_output_tokens"] > 0


def assert_repaired(play: Play, report: str) -> None:
    assert play.tests_pass()
    packet, claims = parse_packet(PACKET), read_claims(report)
    assert play.changed() == sorted(packet.allowed_files) == sorted(claims.files)
    assert [(one.command, one.outcome) for one in claims.commands] == [(packet.validation[0], "passed")]

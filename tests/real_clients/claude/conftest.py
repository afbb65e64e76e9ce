"""The real Claude Code, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dragoman.clients.claude_code import bundled_binary

TIMEOUT_S = 60


@dataclass
class Done:
    """A finished `claude -p`."""

    code: int
    events: list[dict[str, Any]]
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        return [event for event in self.events if event["type"] == "result"][-1]

    @property
    def said(self) -> str:
        return self.result["result"]

    @property
    def session(self) -> str:
        return self.result["session_id"]

    @property
    def retries(self) -> int:
        return sum(event.get("subtype") == "api_retry" for event in self.events)

    def assert_fine(self) -> Done:
        assert (self.code, self.result["is_error"]) == (0, False), [self.result, self.stderr[-2000:]]
        assert self.result["permission_denials"] == []
        return self


class Claude:
    """Runs Claude Code in `repository`, against the gateway of a bench.

    Attributes:
        env: its environment.
    """

    def __init__(self, bench: Any, folder: Path) -> None:
        program = bundled_binary()
        assert program is not None, "Claude Code is missing: install the extra `clients`"
        self._program = str(program)
        self.repository = folder / "repository"
        for made in (folder / "home", self.repository, folder / "tmp"):
            made.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "CLAUDE_CODE_TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
            "CLAUDE_CODE_MAX_RETRIES": "2",
            "DISABLE_AUTOUPDATER": "1",
        }
        self.move_to(bench)

    def move_to(self, bench: Any) -> None:
        """Use another gateway from now on."""
        self.env |= {"ANTHROPIC_BASE_URL": bench.url, "ANTHROPIC_AUTH_TOKEN": bench.token}

    def run(
        self, prompt: str, *options: str, model: str = "plain", tools: str = "Read,Edit,Write,Bash"
    ) -> Done:
        """`claude -p` to its end, with every tool it has allowed."""
        argv = [
            self._program, "-p", "--output-format", "stream-json", "--verbose", "--model", model,
            "--tools", tools, "--allowedTools", f"{tools},Edit(./**)", "--permission-mode", "dontAsk",
            "--setting-sources", "", "--strict-mcp-config", *options,
        ]  # fmt: skip
        done = subprocess.run(
            argv,
            cwd=self.repository,
            env=self.env,
            input=prompt,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        events = [json.loads(line) for line in done.stdout.split("\n") if line]
        assert events, done.stderr[-2000:]
        return Done(done.returncode, events, done.stderr)


@pytest.fixture
def claude(bench: Any, tmp_path: Path) -> Claude:
    return Claude(bench, tmp_path)

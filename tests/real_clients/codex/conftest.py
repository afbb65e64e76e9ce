"""The real Codex, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dragoman.clients.codex_program import bundled_codex

FIXTURES = Path(__file__).parents[2] / "fixtures" / "real_clients"
TIMEOUT_S = 60


@dataclass
class Done:
    """A finished `codex exec`."""

    code: int
    events: list[dict[str, Any]]
    stderr: str

    def items(self, kind: str) -> list[dict[str, Any]]:
        """The finished items of a kind."""
        found = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return [item for item in found if item["type"] == kind]

    @property
    def said(self) -> list[str]:
        return [item["text"] for item in self.items("agent_message")]

    @property
    def failure(self) -> str | None:
        """What the turn failed with; None when it did not."""
        return next((e["error"]["message"] for e in self.events if e["type"] == "turn.failed"), None)

    @property
    def retries(self) -> list[str]:
        return [event["message"] for event in self.events if event["type"] == "error"]

    @property
    def thread(self) -> str:
        return next(event["thread_id"] for event in self.events if event["type"] == "thread.started")

    def assert_fine(self) -> Done:
        assert (self.code, self.failure) == (0, None), [*self.events[-3:], self.stderr[-2000:]]
        return self


class Codex:
    """Runs Codex in `repository`, against the gateway of a bench."""

    def __init__(self, bench: Any, folder: Path) -> None:
        program = bundled_codex()
        assert program is not None, "Codex is missing: install the extra `clients`"
        self._program = str(program)
        self._bench = bench
        self.home = folder / "codex"
        self.repository = folder / "repository"
        # Codex refuses to work with a home below the folder for temporary files, which the test's folder is.
        for made in (self.home, self.repository, folder / "tmp"):
            made.mkdir(parents=True)
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CODEX_HOME": str(self.home),
            "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
        }
        self.configure()

    def configure(
        self, *, catalogue: bool = True, idle_timeout_ms: int = 30_000, top: str = "", tables: str = ""
    ) -> None:
        """Write its configuration.

        Args:
            catalogue: whether it may learn the models from the gateway.
            idle_timeout_ms: the silence after which it gives a stream up.
            top, tables: more lines, before the first table and behind the last.
        """
        url = self._bench.url
        (self.home / "config.toml").write_text(
            f"""
model_provider = "dragoman"
web_search = "disabled"
{top}
[features]
unbounded_connection_retries = false
[model_providers.dragoman]
name = "dragoman"
base_url = "{url}/v1"
wire_api = "responses"
{f'model_catalog_url = "{url}/v1/models"' if catalogue else ""}
experimental_bearer_token = "{self._bench.token}"
request_max_retries = 1
stream_max_retries = 3
stream_idle_timeout_ms = {idle_timeout_ms}
{tables}
"""
        )

    def move_to(self, bench: Any) -> None:
        """Use another gateway from now on."""
        self._bench = bench
        self.configure()

    def add_echo_server(self) -> None:
        """Give it an MCP server, `probe`, with one tool, `echo`."""
        self.configure(
            tables=f"""
[mcp_servers.probe]
command = "{sys.executable}"
args = ["{FIXTURES / "echo_mcp.py"}"]
required = true
"""
        )

    def start(self, prompt: str, *options: str, model: str = "plain") -> subprocess.Popen[str]:
        return self._popen("exec", "-m", model, "--json", "--skip-git-repo-check", prompt, *options)

    def finish(self, process: subprocess.Popen[str]) -> Done:
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"Codex did not end: {stdout[-1000:]}{stderr[-1000:]}") from None
        return Done(process.returncode, [json.loads(line) for line in stdout.split("\n") if line], stderr)

    def run(self, prompt: str, *options: str, model: str = "plain") -> Done:
        """`codex exec` to its end."""
        return self.finish(self.start(prompt, *options, model=model))

    def resume(self, thread: str, prompt: str, *, model: str = "plain") -> Done:
        return self.finish(
            self._popen("exec", "resume", "-m", model, "--json", "--skip-git-repo-check", thread, prompt)
        )

    def _popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._program, *words, "--dangerously-bypass-approvals-and-sandbox"],
            cwd=self.repository,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def make_codex(tmp_path: Path) -> Callable[..., Codex]:
    """More than one Codex in a test, each against a bench of its own."""

    def make(bench: Any, **configuration: Any) -> Codex:
        made = Codex(bench, tmp_path / bench.wire)
        made.configure(**configuration)
        return made

    return make


@pytest.fixture
def codex(bench: Any, tmp_path: Path) -> Codex:
    return Codex(bench, tmp_path)

"""The stdio server a client starts: ready at once, and its daemon's comings and goings are not its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client.stdio import stdio_client

from mcp import Client, StdioServerParameters

CONFIG = """
[gateway]
port = 0
[delegation]
allow_roots = ["{root}"]
model = "rehearsal"
worker = "claude"
[rehearsal]
scenario = "demo"
[clients]
claude = "{claude}"
"""
HEAVY = ("msgspec", "click", "httpx", "pydantic", "mcp", "starlette", "asyncio", "http.client", "subprocess")


class Lead:
    """A client's side: a home, a repository below an allow root, and what starts the server."""

    def __init__(self, folder: Path, claude: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.repository = folder / "work" / "app"
        self.repository.mkdir(parents=True)
        (self.home / "dragoman.toml").write_text(CONFIG.format(root=folder / "work", claude=claude))
        (self.repository / "a.txt").write_text("one\n")
        for words in (
            ("init", "-q", "-b", "main"),
            ("add", "-A"),
            ("-c", "user.name=u", "-c", "user.email=u@localhost", "commit", "-qm", "one"),
        ):
            subprocess.run(("git", *words), cwd=self.repository, check=True, capture_output=True)
        self.env = {**os.environ, "DRAGOMAN_HOME": str(self.home)}
        self.argv = (sys.executable, "-m", "dragoman.cli.main", "mcp")

    def open(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv, env=self.env, cwd=self.repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def client(self) -> Client:
        parameters = StdioServerParameters(
            command=self.argv[0], args=list(self.argv[1:]), env=self.env, cwd=str(self.repository)
        )
        return Client(stdio_client(parameters))

    def dragoman(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "-m", "dragoman.cli.main", *words),
            env=self.env,
            cwd=self.repository,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def lead(fake_worker: Any) -> Iterator[Lead]:
    folder = Path(tempfile.mkdtemp(prefix="dgm-m-"))
    lead = Lead(folder, fake_worker.path)
    yield lead
    lead.dragoman("stop")
    shutil.rmtree(folder, ignore_errors=True)


def ask(server: subprocess.Popen[bytes], method: str, number: int = 1, **params: Any) -> Any:
    assert server.stdin is not None
    assert server.stdout is not None
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    server.stdin.write(json.dumps(message).encode() + b"\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


def test_its_start_needs_the_standard_library_alone() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "import dragoman.mcp.shim\n"
        "print(' '.join(sorted(set(sys.modules) - before)))"
    )
    loaded = subprocess.run(
        (sys.executable, "-c", script), check=True, capture_output=True, text=True
    ).stdout.split()
    assert [name for name in HEAVY if name in loaded] == []


def test_it_answers_without_a_daemon(lead: Lead) -> None:
    with lead.open() as server:
        told = ask(server, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={})
        assert told["result"]["protocolVersion"] == "2025-06-18"
        assert ask(server, "ping", 2)["result"] == {}
        assert ask(server, "resources/list", 3)["error"]["code"] == -32601
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(10) == 0
    assert not (lead.home / "run" / "daemon.json").exists()


def test_nonsense_is_answered_and_the_next_message_still_understood(lead: Lead) -> None:
    with lead.open() as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(b"not json\n[1]\n")
        server.stdin.flush()
        assert json.loads(server.stdout.readline())["error"]["code"] == -32700
        assert json.loads(server.stdout.readline())["error"]["code"] == -32600
        assert "tools" not in ask(server, "initialize", protocolVersion="9999-01-01")["result"]
        server.stdin.close()


def test_the_official_client_calls_a_tool_and_the_daemon_is_started_for_it(lead: Lead) -> None:
    async def converse() -> Any:
        async with lead.client() as client:
            assert len((await client.list_tools()).tools) == 6
            return await client.call_tool("claude_setup", {})

    found = asyncio.run(converse())
    assert found.structured_content["allow_roots"] == [str(lead.repository.parent.resolve())]


def test_a_restart_and_a_new_daemon_between_two_calls_are_invisible(lead: Lead) -> None:
    async def converse() -> list[bool]:
        async with lead.client() as client:
            seen = [await client.call_tool("claude_setup", {})]
            assert (await asyncio.to_thread(lead.dragoman, "restart")).returncode == 0
            seen.append(await client.call_tool("claude_setup", {}))
            assert (await asyncio.to_thread(lead.dragoman, "stop")).returncode == 0
            seen.append(await client.call_tool("claude_setup", {}))
            return [result.is_error for result in seen]

    assert asyncio.run(converse()) == [False, False, False]


def test_c19_the_job_goes_on_when_the_client_is_gone(lead: Lead) -> None:
    with lead.open() as server:
        ask(server, "initialize", protocolVersion="2025-06-18")
        task = {"task": "answer: all is well", "mode": "read"}
        started = ask(server, "tools/call", 2, name="claude_task", arguments=task)
        job = started["result"]["structuredContent"]["job"]["job_id"]
        waiting = {"job_id": job, "wait_timeout_sec": 60}
        message = {
            "jsonrpc": "2.0",
            "id": 3,
            "method": "tools/call",
            "params": {"name": "claude_job_wait", "arguments": waiting},
        }
        assert server.stdin is not None
        server.stdin.write(json.dumps(message).encode() + b"\n")
        server.stdin.close()
        left = time.monotonic()
        assert server.wait(10) == 0
        assert time.monotonic() - left < 5
    ended = json.loads(lead.dragoman("jobs", "wait", job, "--timeout", "60", "--json").stdout)
    assert ended["timed_out"] is False


def test_c10_another_server_reads_what_the_first_started(lead: Lead) -> None:
    async def start() -> str:
        async with lead.client() as client:
            task = {"task": "answer: all is well", "mode": "read"}
            done = await client.call_tool("claude_task", task)
            return done.structured_content["job"]["job_id"]

    async def read(job: str) -> Any:
        async with lead.client() as client:
            return (
                await client.call_tool("claude_job_wait", {"job_id": job, "wait_timeout_sec": 60})
            ).structured_content

    job = asyncio.run(start())
    lead.dragoman("restart")
    assert asyncio.run(read(job))["job"]["job_id"] == job


def test_c18_a_worker_that_starts_it_cannot_delegate(lead: Lead) -> None:
    lead.env["BRIDGE_DEPTH"] = "2"

    async def converse() -> Any:
        async with lead.client() as client:
            return await client.call_tool("claude_task", {"task": "x"})

    refused = asyncio.run(converse())
    assert refused.is_error
    assert refused.structured_content["error_code"] == "recursion_refused"


def test_its_own_roots_replace_the_configured_ones(lead: Lead, tmp_path: Path) -> None:
    lead.env["CODEX_CLAUDE_ALLOW_ROOTS"] = str(tmp_path)

    async def converse() -> Any:
        async with lead.client() as client:
            return await client.call_tool("claude_task", {"task": "x"})

    assert asyncio.run(converse()).structured_content["error_code"] == "cwd_not_allowed"

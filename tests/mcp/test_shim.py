"""The stdio server a client starts: ready at once, and its daemon's comings and goings are not its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("msgspec", "click", "httpx", "pydantic", "mcp", "starlette", "asyncio", "http.client", "subprocess")


@pytest.fixture
def lead(station: Any) -> Any:
    """The client's side is all these tests need."""
    return station


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


def test_it_answers_without_a_daemon(lead: Any) -> None:
    with lead.open() as server:
        told = ask(server, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={})
        assert told["result"]["protocolVersion"] == "2025-06-18"
        assert ask(server, "ping", 2)["result"] == {}
        assert ask(server, "resources/list", 3)["error"]["code"] == -32601
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(10) == 0
    assert not (lead.home / "run" / "daemon.json").exists()


def test_nonsense_is_answered_and_the_next_message_still_understood(lead: Any) -> None:
    with lead.open() as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(b"not json\n[1]\n")
        server.stdin.flush()
        assert json.loads(server.stdout.readline())["error"]["code"] == -32700
        assert json.loads(server.stdout.readline())["error"]["code"] == -32600
        assert "tools" not in ask(server, "initialize", protocolVersion="9999-01-01")["result"]
        server.stdin.close()


def test_the_official_client_calls_a_tool_and_the_daemon_is_started_for_it(lead: Any) -> None:
    async def converse() -> Any:
        async with lead.client() as client:
            assert len((await client.list_tools()).tools) == 6
            return await client.call_tool("claude_setup", {})

    found = asyncio.run(converse())
    assert found.structured_content["allow_roots"] == [str(lead.repository.parent.resolve())]


def test_a_restart_and_a_new_daemon_between_two_calls_are_invisible(lead: Any) -> None:
    async def converse() -> list[bool]:
        async with lead.client() as client:
            seen = [await client.call_tool("claude_setup", {})]
            assert (await asyncio.to_thread(lead.dragoman, "restart")).returncode == 0
            seen.append(await client.call_tool("claude_setup", {}))
            assert (await asyncio.to_thread(lead.dragoman, "stop")).returncode == 0
            seen.append(await client.call_tool("claude_setup", {}))
            return [result.is_error for result in seen]

    assert asyncio.run(converse()) == [False, False, False]


def test_c19_the_job_goes_on_when_the_client_is_gone(lead: Any) -> None:
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


def test_c10_another_server_reads_what_the_first_started(lead: Any) -> None:
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


def test_c18_a_worker_that_starts_it_cannot_delegate(lead: Any) -> None:
    lead.env["BRIDGE_DEPTH"] = "2"

    async def converse() -> Any:
        async with lead.client() as client:
            return await client.call_tool("claude_task", {"task": "x"})

    refused = asyncio.run(converse())
    assert refused.is_error
    assert refused.structured_content["error_code"] == "recursion_refused"


def test_its_own_roots_replace_the_configured_ones(lead: Any, tmp_path: Path) -> None:
    lead.env["CODEX_CLAUDE_ALLOW_ROOTS"] = str(tmp_path)

    async def converse() -> Any:
        async with lead.client() as client:
            return await client.call_tool("claude_task", {"task": "x"})

    assert asyncio.run(converse()).structured_content["error_code"] == "cwd_not_allowed"


def test_a_daemon_that_cannot_start_is_one_sentence_with_the_next_command(lead: Any) -> None:
    (lead.home / "dragoman.toml").write_text("[gateway]\nprot = 1\n")

    async def converse() -> Any:
        async with lead.client() as client:
            return await client.call_tool("claude_setup", {})

    refused = asyncio.run(converse())
    said = json.loads(refused.content[0].text)["error"]
    assert refused.is_error
    assert "prot" in said
    assert "\n" not in said
    assert "starting" not in said

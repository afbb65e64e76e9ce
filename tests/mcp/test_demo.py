"""The nine steps of delegating, as the official client takes them, over both transports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.streamable_http import streamable_http_client

from mcp import Client

# Codex and Claude Code show a model some 25,000 tokens of a reply at most; a tenth of that is polite.
REPLY_BYTES = 8192

Call = Callable[..., Awaitable[dict[str, Any]]]


async def demo(call: Call, task: str) -> None:
    """Setup, a question and a change, each waited for, result, preview, a refusal, apply, cleanup."""
    assert (await call("claude_setup"))["ready"] is True
    asked = await call("claude_task", mode="read", task="Explain a.txt")
    told = await call("claude_job_wait", job_id=asked["job"]["job_id"], wait_timeout_sec=60)
    assert told["result"]["claude_report"]["text"] == "All done."
    begun = await call("claude_task", mode="write", task=task, allowed_files=["a.txt"])
    job = begun["job"]["job_id"]
    done = await call("claude_job_wait", job_id=job, wait_timeout_sec=60)
    assert (done["status"], done["job"]["status"]) == ("success", "succeeded")
    result = await call("claude_result")
    assert result["job"]["job_id"] == job
    assert result["result"]["server_observed"]["changed_files"] == ["M a.txt"]
    worktree = result["result"]["worktree_path"]
    seen = await call("claude_apply", worktree_path=worktree, preview=True, include_patch=True)
    assert "+two" in seen["patch"]
    refused = await call("claude_apply", worktree_path=worktree, confirmed_by_user=True)
    assert refused["error_code"] == "preview_token_required"
    applied = await call(
        "claude_apply",
        worktree_path=worktree,
        preview_token=seen["preview_token"],
        confirmed_by_user=True,
        cleanup=True,
    )
    assert (applied["applied_files"], applied["cleanup_performed"]) == (["a.txt"], True)
    assert (await call("claude_cleanup", older_than_hours=0))["dry_run"] is True


async def play(client: Client, station: Any, task: str) -> None:
    async def call(tool: str, **arguments: Any) -> dict[str, Any]:
        given = {"cwd": str(station.repository), **arguments}
        answer = await client.call_tool(tool, given)
        assert json.loads(answer.content[0].text) == answer.structured_content  # pyright: ignore
        return answer.structured_content or {}

    async with client:
        await demo(call, task)


@pytest.fixture
def task(fake_worker: Any) -> str:
    return fake_worker.task(r"append a.txt 'two\n'", goal="add a line to a.txt")


def test_the_demo_over_stdio(station: Any, task: str) -> None:
    wire = station.folder / "wire"
    argv = ("sh", "-c", '"$@" | tee "$0"', str(wire), *station.argv)
    asyncio.run(play(station.client(argv), station, task))
    replies = wire.read_bytes().splitlines()
    assert len(replies) >= 11
    assert max(map(len, replies)) <= REPLY_BYTES
    assert (station.repository / "a.txt").read_text() == "one\ntwo\n"


def test_the_demo_over_http(station: Any, task: str) -> None:
    started = station.dragoman("token", "--ensure")
    assert started.returncode == 0, started.stderr
    url = json.loads((station.home / "run" / "daemon.json").read_text())["url"]
    token = next(Path(station.home).rglob("control.token")).read_text().strip()
    sizes: list[int] = []

    async def measure(response: httpx2.Response) -> None:
        sizes.append(len(await response.aread()))

    async def converse() -> None:
        async with httpx2.AsyncClient(
            headers={"authorization": f"Bearer {token}"}, timeout=90, event_hooks={"response": [measure]}
        ) as http:
            transport = streamable_http_client(f"{url}/mcp", http_client=http)
            await play(Client(transport), station, task)

    asyncio.run(converse())
    assert len(sizes) >= 11
    assert max(sizes) <= REPLY_BYTES
    assert (station.repository / "a.txt").read_text() == "one\ntwo\n"

"""The provider over HTTP: the same bytes for the same request, at a pace, with failures that look real."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from dragoman.rehearsal.journal import Journal, JournalUnwritable

MakeClient = Callable[..., httpx.AsyncClient]
Serve = Callable[..., AbstractAsyncContextManager[str]]

SAY = "[[rule]]\nwhen.tools = 'any'\n"
USER = {"role": "user", "content": "go"}
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/messages": {"model": "m", "messages": [USER]},
    "/v1/chat/completions": {"model": "m", "messages": [USER]},
    "/v1/responses": {"model": "m", "input": [USER]},
}
PATHS = sorted(REQUESTS)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
def test_the_same_request_gets_the_same_bytes_and_another_gets_other_ids(
    in_memory: MakeClient, path: str, stream: bool
):
    async def ask() -> None:
        play = SAY + "do = [{ think = 'hm' }, { say = 'yes' }]"
        async with in_memory(play) as client:
            body = REQUESTS[path] | {"stream": stream}
            first = await client.post(path, json=body)
            again = await client.post(path, json=body)
            other = await client.post(path, json=body | {"user": "someone"})
            assert first.content == again.content
            assert first.headers == again.headers
            assert first.content != other.content
            assert len(first.content) == len(other.content)

    asyncio.run(ask())


@pytest.mark.parametrize("path", PATHS)
def test_chunks_come_at_the_pace_of_the_scenario(served: Serve, path: str):
    play = "pace = { tokens_per_s = 50, chunk_tokens = 1 }\n" + SAY + f"do = [{{ say = '{'word' * 10}' }}]"

    async def arrivals(wait_factor: float) -> list[float]:
        async with served(play, wait_factor=wait_factor) as url, httpx.AsyncClient(base_url=url) as client:
            started = time.monotonic()
            async with client.stream("POST", path, json=REQUESTS[path] | {"stream": True}) as response:
                return [time.monotonic() - started async for part in response.aiter_raw() if b"word" in part]

    times = asyncio.run(arrivals(1.0))
    # Ten chunks, 20 ms apart: the last cannot have come sooner, and they cannot have come at once.
    assert times[-1] >= 0.19
    assert len(times) >= 5
    assert times[-1] - times[0] >= 0.1


def test_a_leading_delay_holds_back_the_head(served: Serve):
    async def ask() -> float:
        play = SAY + "do = [{ delay_s = 0.2 }, { say = 'yes' }]"
        async with served(play, wait_factor=1.0) as url, httpx.AsyncClient(base_url=url) as client:
            started = time.monotonic()
            body = REQUESTS["/v1/messages"] | {"stream": True}
            async with client.stream("POST", "/v1/messages", json=body):
                return time.monotonic() - started

    assert asyncio.run(ask()) >= 0.2


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_drops_the_connection_in_the_middle(served: Serve, path: str, stream: bool):
    received: list[bytes] = []

    async def ask() -> None:
        play = SAY + "do = [{ say = 'half a sen' }, { cut = true }]"
        body = REQUESTS[path] | {"stream": stream}
        async with (
            served(play) as url,
            httpx.AsyncClient(base_url=url) as client,
            client.stream("POST", path, json=body) as response,
        ):
            assert response.status_code == 200
            async for part in response.aiter_raw():
                received.append(part)

    with pytest.raises(httpx.RemoteProtocolError):
        asyncio.run(ask())
    whole = b"".join(received)
    if stream:
        assert b"half a sen" in whole
        for ending in (b"[DONE]", b"message_stop", b"content_block_stop", b".done", b"completed"):
            assert ending not in whole
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(whole)


def test_a_client_that_leaves_ends_its_stream(served: Serve, tmp_path: Path):
    journal = tmp_path / "journal"
    play = "pace = { tokens_per_s = 1, chunk_tokens = 1 }\n" + SAY + f"do = [{{ say = '{'word' * 500}' }}]"

    async def ask() -> dict[str, Any]:
        async with served(play, wait_factor=1.0, journal=Journal(journal)) as url:
            async with httpx.AsyncClient(base_url=url) as client:
                body = REQUESTS["/v1/chat/completions"] | {"stream": True}
                async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                    async for _ in response.aiter_raw():
                        break
            async with asyncio.timeout(10):
                while not journal.read_bytes():
                    await asyncio.sleep(0.01)
            return json.loads(journal.read_text())

    assert asyncio.run(ask())["outcome"] == "client_gone"


def test_the_journal_tells_what_was_played_and_holds_no_prompt(served: Serve, tmp_path: Path):
    journal = tmp_path / "journal"
    play = SAY + "name = 'only'\ndo = [{ say = 'spoken words' }]"

    async def ask() -> None:
        async with (
            served(play, journal=Journal(journal)) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            body = {"model": "m", "input": "private words", "stream": True}
            await client.post("/v1/responses", json=body)

    asyncio.run(ask())
    (line,) = journal.read_text().splitlines()
    row = json.loads(line)
    assert "words" not in line
    assert journal.stat().st_mode & 0o777 == 0o600
    wanted = {"wire": "responses", "rule": "only", "scenario": "play", "turn": 0, "status": 200}
    assert row | wanted | {"outcome": "completed", "stream": True, "output_tokens": 3} == row


def test_a_journal_that_cannot_be_written_is_an_error(tmp_path: Path):
    with pytest.raises(JournalUnwritable, match="cannot write the journal"):
        Journal(tmp_path / "missing" / "journal")


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "said"),
    [
        ("POST", "/v1/messages", b"{", 400, "the body is not JSON"),
        ("POST", "/v1/messages", b"[]", 400, "the body is not a JSON object"),
        ("POST", "/v1/chat/completions", b'{"messages": []}', 400, "model: a name is required"),
        ("POST", "/v1/responses", b'{"model": "m"}', 400, "input: at least one item is required"),
        ("POST", "/v1/embeddings", b"{}", 404, "there is no /v1/embeddings here"),
        ("GET", "/v1/nothing", b"", 404, "there is no /v1/nothing here"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    in_memory: MakeClient, method: str, path: str, content: bytes, status: int, said: str
):
    async def ask() -> httpx.Response:
        async with in_memory(SAY + "do = [{ say = 'x' }]") as client:
            return await client.request(method, path, content=content)

    response = asyncio.run(ask())
    assert response.status_code == status
    assert response.json()["error"]["message"].startswith(said)


def test_health_says_what_is_played(in_memory: MakeClient):
    async def ask() -> None:
        async with in_memory(SAY + "do = [{ say = 'x' }]") as client:
            health = (await client.get("/health")).json()
            assert (health["status"], health["scenarios"]) == ("ok", ["play"])
            head = await client.head("/")
            assert (head.status_code, head.content) == (200, b"")

    asyncio.run(ask())

"""How a child serves and leaves, in this process: no connection it has taken goes unanswered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dragoman import __version__
from dragoman.daemon import listening
from dragoman.daemon.channel import LineReader, encode_message
from dragoman.daemon.listening import Listener, failures_reported, offer_to_leave, serve_until_told
from dragoman.errors import DragomanError

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Ending:
    def __init__(self) -> None:
        self.steps: list[str] = []

    def begin(self) -> None:
        self.steps.append("begin")

    async def finish(self) -> None:
        self.steps.append("finish")


class Child:
    """A child serving in a task, and the test as its parent and its clients."""

    def __init__(self, app: Any = None) -> None:
        self.ending = Ending()
        self.parent, theirs = socket.socketpair()
        self.parent.settimeout(10)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        served = Listener(listener, app or hello)
        self.task = asyncio.create_task(serve_until_told([served], theirs, ending=self.ending))
        self._theirs = theirs

    async def ready(self) -> Child:
        line = await asyncio.to_thread(self.parent.recv, 1000)
        assert line == encode_message("ready", version=__version__)
        return self

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    def drain(self, grace_s: float = 10.0) -> None:
        self.parent.sendall(encode_message("drain", grace_s=grace_s))

    async def ended(self) -> list[str]:
        await asyncio.wait_for(self.task, 20)
        self.parent.close()
        self._theirs.close()
        return self.ending.steps


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def accepted(child: Child, count: int) -> None:
    """Wait until the server has taken connections out of the queue, however it is scheduled."""
    for _ in range(count):
        reader, writer = await child.connect()
        writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await reader.read()).endswith(b"hello")
        writer.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


def test_a_request_that_was_on_its_way_when_leaving_began_is_answered():
    async def test() -> None:
        child = await Child().ready()
        reader, writer = await child.connect()
        await accepted(child, 1)  # what came after it has been served, so it has been accepted too
        child.drain()
        await asyncio.sleep(0.05)
        writer.write(REQUEST)
        answer = await reader.read()  # to the end: the connection is closed once answered
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"hello")
        writer.close()
        assert await child.ended() == ["begin", "finish"]

    run(test)


def test_a_connection_that_never_asks_keeps_nobody_for_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listening, "_FRESH_GRACE_S", 0.1)

    async def test() -> None:
        child = await Child().ready()
        reader, writer = await child.connect()
        await accepted(child, 1)
        child.drain()
        assert await child.ended() == ["begin", "finish"]
        assert await reader.read() == b""
        writer.close()

    run(test)


def test_a_kept_alive_connection_is_closed_and_new_ones_are_refused():
    async def test() -> None:
        child = await Child().ready()
        reader, writer = await child.connect()
        writer.write(REQUEST)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        child.drain()
        assert await reader.read() == b""
        writer.close()
        assert await child.ended() == ["begin", "finish"]
        with pytest.raises(OSError, match="Connect call failed"):
            await child.connect()

    run(test)


def test_an_answer_in_progress_is_finished_first():
    async def test() -> None:
        go_on = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await go_on.wait()
            await hello(scope, receive, send)

        child = await Child(slow).ready()
        reader, writer = await child.connect()
        writer.write(REQUEST)
        while not child.ending.steps:
            child.drain()
            await asyncio.sleep(0.01)
        assert not child.task.done()
        go_on.set()
        assert (await reader.read()).endswith(b"hello")
        writer.close()
        assert (await child.ended())[-1] == "finish"

    run(test)


def test_a_child_without_a_parent_leaves():
    async def test() -> None:
        child = await Child().ready()
        child.parent.close()
        assert await child.ended() == ["begin", "finish"]

    run(test)


def test_an_answer_that_does_not_end_is_cut_at_the_end_of_the_grace():
    async def test() -> None:
        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await asyncio.Event().wait()

        child = await Child(endless).ready()
        reader, writer = await child.connect()
        writer.write(REQUEST)
        await reader.readuntil(b"begun")
        child.drain(grace_s=0.2)
        assert await child.ended() == ["begin", "finish"]
        writer.close()

    run(test)


def test_an_idle_child_offers_to_leave_and_one_that_is_needed_does_not():
    async def test() -> None:
        said: list[str] = []

        class Link:
            def send(self, kind: str) -> None:
                said.append(kind)

        idle = [0.0]
        offer = asyncio.create_task(offer_to_leave(Link(), lambda: idle[0], 0.1))  # type: ignore[arg-type]
        await asyncio.sleep(0.25)
        assert said == []
        idle[0] = 0.2
        await asyncio.wait_for(offer, 10)
        assert said == ["idle"]

    run(test)


def test_why_a_child_cannot_start_reaches_the_parent_without_its_words_when_it_is_our_mistake():
    ours, theirs = socket.socketpair()
    with pytest.raises(SystemExit), failures_reported(theirs):
        raise DragomanError("no such preset", hint="dragoman providers list", code="c")
    with pytest.raises(ValueError, match="secret"), failures_reported(theirs):
        raise ValueError("a secret")
    told = LineReader().feed(ours.recv(10_000))
    assert told[0] == {
        "type": "failed",
        "message": "no such preset",
        "hint": "dragoman providers list",
        "code": "c",
    }
    assert "ValueError at test_listening.py:" in told[1]["message"]
    assert "secret" not in told[1]["message"]
    ours.close()
    theirs.close()

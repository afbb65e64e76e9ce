"""Scripted in-process servers: each connection plays a script, each request is kept."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dragoman.gateway.transport import Transport

FIXTURES = Path(__file__).parent.parent / "fixtures" / "gateway"

Step = bytes | float | str
"""Bytes to send, seconds to pause, or `close`, `reset`, `half`, `wait` (until the other side goes)."""


@dataclass
class Request:
    """A request as the server saw it."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Script:
    """What a scripted server does and has seen."""

    answers: Callable[[Request], list[Step]]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    port: int = 0

    @property
    def base(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        self.writers.append(writer)
        try:
            while (request := await read_request(reader, number)) is not None:
                self.requests.append(request)
                if not await self._answer(self.answers(request), reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self.left.set()
            writer.close()

    async def _answer(
        self, steps: list[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        for step in steps:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case float() | int():
                    await asyncio.sleep(step)
                case "close":
                    return False
                case "reset":
                    writer.transport.abort()
                    return False
                case "wait":
                    await reader.read(1)
                    return False
                case _:
                    raise AssertionError(step)
        return True


async def read_request(reader: asyncio.StreamReader, number: int) -> Request | None:
    """The next request, or None when the client is done."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, *rest = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (part.partition(":") for part in rest if part)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(line, headers, body, number)


@asynccontextmanager
async def scripted(
    answers: Callable[[Request], list[Step]] | list[Step],
    *,
    tls: ssl.SSLContext | None = None,
    unix: Path | None = None,
) -> AsyncIterator[Script]:
    """A server on a free loopback port (or a unix socket) playing `answers` for each request."""
    script = Script(answers if callable(answers) else lambda _: answers, tls)
    if unix is not None:
        server = await asyncio.start_unix_server(script.play, unix)
    else:
        server = await asyncio.start_server(script.play, "127.0.0.1", 0, ssl=tls, limit=1 << 22)
        script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for writer in script.writers:
            writer.transport.abort()


def answer(
    body: bytes = b"ok",
    *,
    status: str = "200 OK",
    headers: tuple[tuple[str, str], ...] = (),
    framing: str = "length",
) -> bytes:
    """A whole answer in one piece; `framing` is length, chunked or eof."""
    lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers)]
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def until(condition: Callable[[], Any], *, timeout_s: float = 5.0) -> None:
    """Wait for a condition with a deadline."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(scope="session")
def server_tls() -> ssl.SSLContext:
    """The server side of the test certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FIXTURES / "localhost.pem", FIXTURES / "localhost.key")
    return context


@pytest.fixture(scope="session")
def ca_file() -> str:
    """The authority that signed it."""
    return str(FIXTURES / "localhost.pem")


class Kit:
    """The tools of this file for tests: under importlib mode a test cannot import its conftest."""

    def __init__(self) -> None:
        self._transports: list[Transport] = []
        self._servers: list[asyncio.Server] = []
        self._writers: list[asyncio.StreamWriter] = []

    def transport(self, **options: Any) -> Transport:
        """A transport that `run` closes."""
        transport = Transport(**options)
        self._transports.append(transport)
        return transport

    async def serve(
        self, play: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], **options: Any
    ) -> str:
        """A server that does what `play` says for each connection; `run` ends it. Gives its base address."""

        async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            try:
                await play(reader, writer)
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(kept, "127.0.0.1", 0, **options)
        self._servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test's coroutine; nothing may stay open behind it."""

        async def whole() -> None:
            try:
                await main()
            finally:
                for transport in self._transports:
                    await transport.aclose()
                for server in self._servers:
                    server.close()
                for writer in self._writers:
                    writer.transport.abort()
                for _ in range(5):
                    await asyncio.sleep(0)

        asyncio.run(whole())

    scripted = staticmethod(scripted)
    answer = staticmethod(answer)
    chunk = staticmethod(chunk)
    until = staticmethod(until)
    read_request = staticmethod(read_request)


@pytest.fixture
def kit() -> Kit:
    """Scripted servers and what goes with them."""
    return Kit()

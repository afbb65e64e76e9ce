"""Scripted in-process servers: each connection plays a script, each request is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn

from dragoman.config.load import parse_config
from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import TokenCache, ensure_data_token
from dragoman.gateway.app import Gateway
from dragoman.gateway.forward import ControlDoor
from dragoman.gateway.runtime import make_runtime
from dragoman.gateway.server import server_config
from dragoman.gateway.spool import Spool, UsageRow
from dragoman.gateway.transport import (
    Answer,
    Outgoing,
    Proxy,
    ProxyRules,
    Timeouts,
    Transport,
    parse_base,
)

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


def sse(*events: dict[str, Any] | str, named: bool = True) -> bytes:
    """Events as a stream's bytes; `named` writes `event:` lines, as Messages and Responses have them."""
    out = b""
    for event in events:
        if isinstance(event, str):
            out += f"data: {event}\n\n".encode()
            continue
        if named:
            out += f"event: {event['type']}\n".encode()
        out += b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
    return out


def messages_stream(
    *texts: str, model: str = "m-up", stop: str = "end_turn", output_tokens: int = 7
) -> bytes:
    """A whole Messages stream saying `texts`."""
    message = {"id": "msg_u", "type": "message", "role": "assistant", "model": model, "content": []}
    usage = {"input_tokens": 11, "cache_read_input_tokens": 3, "output_tokens": 1}
    return sse(
        {"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            for text in texts
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": output_tokens}},
        {"type": "message_stop"},
    )


def chat_chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """One Chat chunk."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m-up", "choices": [choice]}


def chat_stream(*texts: str, finish: str = "stop", done: bool = True) -> bytes:
    """A whole Chat stream saying `texts`, with late usage."""
    usage = {"prompt_tokens": 14, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}
    last = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-up",
        "choices": [],
        "usage": usage,
    }
    events: list[Any] = [chat_chunk({"role": "assistant", "content": ""})]
    events += [chat_chunk({"content": text}) for text in texts]
    events += [chat_chunk({}, finish), last, *(["[DONE]"] if done else [])]
    return sse(*events, named=False)


SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def streamed(body: bytes) -> bytes:
    """A streamed answer in one chunk."""
    return SSE_HEAD + chunk(body) + b"0\r\n\r\n"


def json_answer(value: Any, status: str = "200 OK", headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A JSON answer."""
    return answer(
        json.dumps(value).encode(), status=status, headers=(("Content-Type", "application/json"), *headers)
    )


class _Server(uvicorn.Server):
    """Uvicorn that is told to leave instead of looking ten times a second."""

    leave: asyncio.Event

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.leave.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Served:
    """A gateway on a free port and what a test wants to see of it."""

    gateway: Gateway
    home: Home
    token: str
    port: int
    transport: Transport
    logged: list[tuple[str, dict[str, Any]]]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rows(self) -> list[UsageRow]:
        """The usage rows written so far."""
        self.gateway._spool.flush()
        lines = b"".join(f.read_bytes() for f in sorted(self.home.spool.glob("*.jsonl"))).splitlines()
        return [msgspec.json.decode(line, type=UsageRow) for line in lines]

    async def open(
        self, path: str, body: Any = None, *, method: str | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request with the data token; the answer is still to be read."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = {
            "authorization": f"Bearer {self.token}",
            "content-type": "application/json",
            **(headers or {}),
        }
        host = given.pop("host", None)
        request = Outgoing(
            method or ("GET" if body is None else "POST"),
            parse_base(self.base).origin,
            path,
            tuple((k.encode(), v.encode()) for k, v in given.items() if v),
            raw,
            host.encode() if host is not None else None,
        )
        return await self.transport.send(request, Timeouts(2, 30, 30))

    async def ask(self, path: str, body: Any = None, **options: Any) -> tuple[int, dict[str, str], bytes]:
        """Send a request and read its whole answer."""
        answer = await self.open(path, body, **options)
        headers = {k.decode(): v.decode() for k, v in answer.headers}
        return answer.status, headers, await answer.read_all(1 << 26)


@asynccontextmanager
async def served(
    tmp_path: Path,
    toml: str | None,
    *,
    environment: dict[str, str] | None = None,
    data_plane_only: bool = False,
    control: Path | None = None,
    proxies: ProxyRules | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """A gateway with this configuration, served by uvicorn on loopback."""
    environment = {
        "DRAGOMAN_HOME": str(tmp_path / "home"),
        "UP_KEY": "sk-upstream-secret",
        **(environment or {}),
    }
    home = resolve_home(environment)
    home.ensure()
    config = parse_config(toml, environment)
    logged: list[tuple[str, dict[str, Any]]] = []
    transport = Transport(proxies=proxies)
    door = ControlDoor(control, transport, hold_s=options.pop("hold_s", 0.5)) if control is not None else None
    gateway = Gateway(
        make_runtime(config, home, environment),
        transport=transport,
        spool=Spool(home.spool, wall=lambda: 1_700_000_000.0),
        slots=home.slots,
        find_token=TokenCache(home, max_age_s=0.0).find,
        door=door,
        log=lambda level, event, **fields: logged.append((event, fields)),
        **options,
    )
    sock = socket.create_server(("127.0.0.1", 0))
    app = gateway.data_plane_app if data_plane_only else gateway.app
    server = _Server(server_config(app, timeout_graceful_shutdown=1))
    server.leave = asyncio.Event()
    task = asyncio.create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started)
    client = Transport()
    try:
        yield Served(gateway, home, ensure_data_token(home), sock.getsockname()[1], client, logged)
    finally:
        await client.aclose()
        server.should_exit = True
        server.leave.set()
        await task
        await gateway.aclose()


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


@dataclass(frozen=True)
class Authority:
    """A certificate authority nobody knows, and a server it vouches for."""

    ca_file: Path
    tls: ssl.SSLContext


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A private authority as companies have them: its own root, and a certificate for this machine."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import IPv4Address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("authority")
    now = datetime.now(UTC)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A company's own authority")])

    def certificate(subject: x509.Name, of: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        begun = x509.CertificateBuilder().subject_name(subject).issuer_name(root)
        numbered = begun.public_key(of.public_key()).serial_number(x509.random_serial_number())
        return numbered.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))

    constraints = x509.BasicConstraints(ca=True, path_length=0)
    signed_root = certificate(root, root_key).add_extension(constraints, True)
    here = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    leaf = certificate(x509.Name([]), key).add_extension(here, True)
    pem = serialization.Encoding.PEM
    ca_file, chain = folder / "authority.pem", folder / "server.pem"
    ca_file.write_bytes(signed_root.sign(root_key, hashes.SHA256()).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(private + leaf.sign(root_key, hashes.SHA256()).public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return Authority(ca_file, context)


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
    return body.endswith(b"0\r\n\r\n")


class TunnelProxy:
    """A proxy that understands CONNECT and absolute addresses, and keeps what it was asked."""

    def __init__(self, status: str = "200 Connection established") -> None:
        self.status = status
        self.heads: list[str] = []
        self.port = 0

    async def __aenter__(self) -> TunnelProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def rules(self, **kw: Any) -> ProxyRules:
        proxy = Proxy("http", "127.0.0.1", self.port, "Basic dTpw")
        return ProxyRules(http=proxy, https=proxy, **kw)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            method, target, _ = head.split(" ", 2)
            if method == "CONNECT":
                writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
                if not self.status.startswith("200"):
                    return
                host, _, port = target.rpartition(":")
                onward = await asyncio.open_connection(host, int(port))
            else:
                base = target.split("/", 3)
                host, _, port = base[2].rpartition(":")
                onward = await asyncio.open_connection(host, int(port))
                onward[1].write(head.replace(target, "/" + base[3], 1).encode())
            await asyncio.gather(self._copy(reader, onward[1]), self._copy(onward[0], writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


class Kit:
    """The tools of this file for tests: under importlib mode a test cannot import its conftest."""

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self._loop_factory = loop_factory
        self._transports: list[Transport] = []
        self._servers: list[asyncio.Server] = []
        self._writers: list[asyncio.StreamWriter] = []

    def transport(self, **options: Any) -> Transport:
        """A transport that `run` closes."""
        transport = Transport(**options)
        self._transports.append(transport)
        return transport

    async def raw(self, port: int, data: bytes, *, timeout_s: float = 3.0) -> bytes:
        """Send bytes as they are; gives what comes back until it is whole, or the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        got = b""
        try:
            writer.write(data)
            async with asyncio.timeout(timeout_s):
                while piece := await reader.read(65536):
                    got += piece
                    if b"\r\n\r\n" in got and _is_whole(got):
                        break
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
        return got

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
                    # asyncio up to 3.11 trips over a closing transport that has just written its last bytes.
                    with contextlib.suppress(AttributeError):
                        writer.transport.abort()
                for _ in range(5):
                    await asyncio.sleep(0)

        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            runner.run(whole())

    TunnelProxy = TunnelProxy
    scripted = staticmethod(scripted)
    answer = staticmethod(answer)
    chunk = staticmethod(chunk)
    until = staticmethod(until)
    served = staticmethod(served)
    sse = staticmethod(sse)
    streamed = staticmethod(streamed)
    json_answer = staticmethod(json_answer)
    messages_stream = staticmethod(messages_stream)
    chat_stream = staticmethod(chat_stream)
    chat_chunk = staticmethod(chat_chunk)
    SSE_HEAD = SSE_HEAD
    read_request = staticmethod(read_request)


@pytest.fixture
def kit() -> Kit:
    """Scripted servers and what goes with them."""
    return Kit()

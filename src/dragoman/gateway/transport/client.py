"""Send a request, get an answer: the one way this gateway talks to anybody."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - `to_thread` would import it while streams are running
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from .address import Origin, check_header, check_target
from .answer import Answer
from .connection import Connection
from .dialing import dial, make_tls_context
from .failures import ConnectionDropped, TransportError
from .limits import Limits, Timeouts
from .pool import Path, Pool
from .proxies import ProxyRules


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to send; Host, Content-Length, Accept-Encoding and Connection are ours, not in `headers`.

    `host` is the Host header where it is not the origin's own.
    """

    method: str
    origin: Origin
    target: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    host: bytes | None = None


class Transport:
    """Asynchronous HTTP/1.1 over kept-alive connections, for one event loop.

    One stream is one connection, which is why there is no HTTP/2 here. Redirects are answers like any other:
    following one would hand the credentials on.
    """

    def __init__(
        self,
        *,
        proxies: ProxyRules | None = None,
        ca_file: str | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        Args:
            proxies: which proxy an origin is reached through; none by default.
            ca_file: further authorities to trust, in PEM.
            limits: bounds of this transport.
            tls: a ready context instead of `ca_file` (tests).
        """
        self._proxies = proxies or ProxyRules()
        self._ca_file = ca_file
        self._limits = limits or Limits()
        self._tls = tls
        self._pool: Pool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, limits: Limits | None = None) -> Transport:
        """A transport with the proxies of an environment."""
        return cls(proxies=ProxyRules.from_environment(environment), limits=limits)

    @property
    def idle(self) -> int:
        """Connections kept for later."""
        return 0 if self._pool is None else len(self._pool)

    async def send(self, request: Outgoing, timeouts: Timeouts) -> Answer:
        """Send a request and wait for the head of its answer.

        A kept-alive connection that turns out to have been closed by its server is replaced once, only when
        not one byte of an answer was read.

        Raises:
            BadAddress: the request cannot be written as it is.
            TransportError: no answer came.
        """
        loop, pool = self._ready()
        path = Path(request.origin, self._proxies.choose(request.origin))
        head = _head(request, path)
        connection = pool.take(path)
        if connection is not None:
            started_at = loop.time()
            try:
                return await self._exchange(connection, request, head, timeouts, reused=True)
            except ConnectionDropped:
                if loop.time() - started_at > self._limits.stale_window_s:
                    raise
        connection = await dial(path, await self._tls_for(path), timeout_s=timeouts.connect_s)
        pool.adopt(path, connection)
        return await self._exchange(connection, request, head, timeouts, reused=False)

    async def warm(self, origin: Origin, *, timeout_s: float = 5.0) -> bool:
        """Make one idle connection, so that the next request pays no handshake; False when that failed."""
        _, pool = self._ready()
        path = Path(origin, self._proxies.choose(origin))
        try:
            connection = await dial(path, await self._tls_for(path), timeout_s=timeout_s)
        except TransportError:
            return False
        pool.adopt(path, connection)
        connection.release(reusable=True)
        return True

    async def aclose(self) -> None:
        """Close idle connections; exchanges still running end by their own holders and are not kept."""
        if self._pool is not None:
            self._pool.close()
        await asyncio.sleep(0)

    async def _exchange(
        self, connection: Connection, request: Outgoing, head: bytes, timeouts: Timeouts, *, reused: bool
    ) -> Answer:
        answer = Answer(
            connection,
            request.origin,
            loop=self._ready()[0],
            limits=self._limits,
            timeouts=timeouts,
            reused=reused,
            no_body=request.method == "HEAD",
        )
        try:
            connection.start(answer, head, request.body)
            await answer.head()
        except BaseException:
            answer.abort()
            raise
        return answer

    def _ready(self) -> tuple[asyncio.AbstractEventLoop, Pool]:
        # Asking for the running loop is a system call in CPython 3.11 (it checks for a fork): once is enough.
        if self._loop is None or self._pool is None:
            self._loop = asyncio.get_running_loop()
            self._pool = Pool(
                self._loop, per_path=self._limits.idle_per_origin, keep_idle_s=self._limits.keep_idle_s
            )
        return self._loop, self._pool

    async def _tls_for(self, path: Path) -> ssl.SSLContext | None:
        needs = path.origin.scheme == "https" or (path.proxy is not None and path.proxy.scheme == "https")
        if needs and self._tls is None:
            # Reading the system's authorities takes 40 ms: not on the loop that carries the streams.
            self._tls = await asyncio.to_thread(make_tls_context, self._ca_file)
        return self._tls if needs else None


def _head(request: Outgoing, path: Path) -> bytes:
    """The request line and headers as bytes."""
    check_target(request.target)
    target, authority = request.target, request.origin.authority
    lines = [b""]
    if path.proxy is not None and request.origin.scheme == "http":
        target = f"http://{authority}{target}"
        if path.proxy.authorization is not None:
            lines.append(b"proxy-authorization: " + path.proxy.authorization.encode("latin-1"))
    host = authority.encode("latin-1") if request.host is None else request.host
    check_header(b"host", host)
    lines[0] = f"{request.method} {target} HTTP/1.1\r\n".encode("latin-1")
    lines[0] += b"host: " + host + b"\r\naccept-encoding: identity"
    for name, value in request.headers:
        check_header(name, value)
        lines.append(name + b": " + value)
    if request.body or request.method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
        lines.append(b"content-length: %d" % len(request.body))
    lines.append(b"\r\n")
    return b"\r\n".join(lines)

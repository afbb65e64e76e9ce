"""Send a request, get an answer: the one way this gateway talks to anybody."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - `to_thread` would import it while streams are running
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as File

from .address import Origin, check_header, check_target
from .answer import Answer
from .connection import Connection
from .dialing import dial, make_tls_context
from .failures import BadAddress, ConnectionDropped, TransportError
from .limits import Limits, Timeouts
from .pool import Path, Pool
from .proxies import ProxyRules
from .spares import Spares

_AHEAD_S = 5.0
"""How long a connection made ahead may take; a request that comes meanwhile makes its own."""


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
        limits: Limits | None = None,
    ) -> None:
        """
        Args:
            proxies: which proxy an origin is reached through; none by default.
            limits: bounds of this transport.
        """
        self._proxies = proxies or ProxyRules()
        self._limits = limits or Limits()
        self._tls: dict[str | None, tuple[int, ssl.SSLContext]] = {}
        self._pool: Pool | None = None
        self._spares: Spares | None = None
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
        loop, pool, spares = self._ready()
        path = Path(request.origin, self._proxies.choose(request.origin))
        head = _head(request, path)
        spares.used(path)
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

    def warm(self, origin: Origin) -> None:
        """Somebody is about to ask there: have a connection ready, without waiting for it.

        Nothing is done where one is idle, or where a handshake costs next to nothing (no TLS). A failure is
        told to nobody: the request meets it again and says so.
        """
        _, pool, spares = self._ready()
        try:
            path = Path(origin, self._proxies.choose(origin))
        except BadAddress:
            return
        if not pool.holds(path):
            spares.begin(path)

    async def aclose(self) -> None:
        """Close idle connections; exchanges still running end by their own holders and are not kept."""
        if self._pool is not None:
            self._pool.close()
        if self._spares is not None:
            await self._spares.close()
        await asyncio.sleep(0)

    async def _dial_ahead(self, path: Path) -> None:
        _, pool, _ = self._ready()
        try:
            connection = await dial(path, await self._tls_for(path), timeout_s=_AHEAD_S)
        except TransportError:
            return
        pool.adopt(path, connection)
        connection.keep()

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

    def _ready(self) -> tuple[asyncio.AbstractEventLoop, Pool, Spares]:
        # Asking for the running loop is a system call in CPython 3.11 (it checks for a fork): once is enough.
        if self._loop is None or self._pool is None or self._spares is None:
            limits = self._limits
            self._loop = asyncio.get_running_loop()
            self._spares = Spares(self._loop, self._dial_ahead, window_s=limits.spare_window_s)
            self._pool = Pool(
                self._loop,
                per_path=limits.idle_per_origin,
                keep_idle_s=limits.keep_idle_s,
                on_empty=self._spares.lost,
            )
        return self._loop, self._pool, self._spares

    async def _tls_for(self, path: Path) -> ssl.SSLContext | None:
        """The context for a dial: one for each file of authorities, and another when the file has changed."""
        if path.origin.scheme != "https" and (path.proxy is None or path.proxy.scheme != "https"):
            return None
        ca_file = path.origin.ca_file
        changed = _changed_ns(ca_file)
        known = self._tls.get(ca_file)
        if known is None or known[0] != changed:
            known = changed, await asyncio.to_thread(make_tls_context, ca_file)
            self._tls[ca_file] = known
        return known[1]


def _changed_ns(ca_file: str | None) -> int:
    try:
        return File(ca_file).stat().st_mtime_ns if ca_file is not None else 0
    except OSError:
        return 0  # reading it says what is wrong


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

"""Make a connection: TCP or a unix socket, through a proxy where one is chosen, with TLS where asked."""

from __future__ import annotations

import asyncio
import socket
import ssl

from .connection import Connection
from .failures import BadAddress, ConnectFailed, ConnectTimedOut
from .pool import Path
from .proxies import Proxy

_PROXY_HEAD_BYTES = 16 * 1024


def make_tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Verify by the system's authorities (OpenSSL honours SSL_CERT_FILE and SSL_CERT_DIR), and by those of
    `ca_file` besides. Costs about 40 ms: not for the loop that carries the streams.

    Raises:
        BadAddress: `ca_file` cannot be read.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadAddress(f"the certificate file {ca_file} cannot be used: {error}") from None
    return context


async def dial(path: Path, tls: ssl.SSLContext | None, *, timeout_s: float) -> Connection:
    """Connect to `path.origin`; `tls` is needed for https origins and https proxies.

    Raises:
        ConnectFailed: or its subclass ConnectTimedOut; the message names origin and proxy, never more.
    """
    through = f" through the proxy {path.proxy}" if path.proxy else ""
    where = f"{path.origin}{through}"
    try:
        async with asyncio.timeout(timeout_s):
            return await _dial(path, tls)
    except TimeoutError:
        raise ConnectTimedOut(f"could not connect to {where} within {timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        hint = "Name your authority's certificates as ca_file in dragoman.toml, or in SSL_CERT_FILE."
        raise ConnectFailed(
            f"could not connect to {where}: its certificate is not trusted ({error.verify_message}); "
            "authorities of your own are named by ca_file",
            hint=hint,
        ) from None
    except ssl.SSLError as error:
        raise ConnectFailed(
            f"could not connect to {where}: TLS failed ({error.reason or 'unknown'})"
        ) from None
    except socket.gaierror:
        raise ConnectFailed(f"could not connect to {where}: the host name was not found") from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        if isinstance(error, ConnectionRefusedError):
            reason = "connection refused"
        raise ConnectFailed(f"could not connect to {where}: {reason}") from None


async def _dial(path: Path, tls: ssl.SSLContext | None) -> Connection:
    loop = asyncio.get_running_loop()
    origin, proxy = path.origin, path.proxy
    connection = Connection()
    secure = tls if origin.scheme == "https" else None
    if origin.socket is not None:
        await loop.create_unix_connection(lambda: connection, origin.socket)
    elif proxy is None:
        await loop.create_connection(
            lambda: connection,
            origin.host,
            origin.port,
            ssl=secure,
            server_hostname=origin.host if secure else None,
        )
    elif secure is None:
        # A plain origin is asked for by its absolute address; no tunnel.
        proxy_tls = tls if proxy.scheme == "https" else None
        await loop.create_connection(lambda: connection, proxy.host, proxy.port, ssl=proxy_tls)
    else:
        await _tunnel(loop, path, proxy, secure, connection)
    return connection


async def _tunnel(
    loop: asyncio.AbstractEventLoop, path: Path, proxy: Proxy, tls: ssl.SSLContext, connection: Connection
) -> None:
    """Ask the proxy for a tunnel (CONNECT), then speak TLS through it."""
    origin = path.origin
    handshake = _Handshake(loop)
    proxy_tls = tls if proxy.scheme == "https" else None
    transport, _ = await loop.create_connection(lambda: handshake, proxy.host, proxy.port, ssl=proxy_tls)
    try:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        lines = [f"CONNECT {host}:{origin.port} HTTP/1.1", f"Host: {host}:{origin.port}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        status = await handshake.status
        if not 200 <= status < 300:
            raise ConnectFailed(
                f"the proxy {proxy} refused a tunnel to {origin} with status {status}",
                hint="Check HTTPS_PROXY and its credentials." if status == 407 else None,
            )
        upgraded = await loop.start_tls(transport, connection, tls, server_hostname=origin.host)
        if upgraded is None:
            raise ConnectFailed(f"the proxy {proxy} closed the tunnel to {origin}")
        connection.attach(upgraded)
    except BaseException:
        transport.abort()
        raise


class _Handshake(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT and not one byte more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status: asyncio.Future[int] = loop.create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        if self.status.done():
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > _PROXY_HEAD_BYTES:
                self._refuse("sent endless headers")
            return
        words = head.split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1][:3].isdigit():
            self._refuse("did not answer in HTTP")
            return
        status = int(words[1][:3])
        if rest and 200 <= status < 300:
            self._refuse("sent bytes before the tunnel was used")
            return
        self.status.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            self._refuse("closed the connection")

    def _refuse(self, what: str) -> None:
        self.status.set_exception(ConnectFailed(f"the proxy {what}"))

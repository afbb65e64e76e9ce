"""How uvicorn serves the data plane: its options, and a protocol that bounds what comes before a request."""

from __future__ import annotations

import asyncio
import gc
import secrets
from typing import Any, cast

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .asgi import App
from .incoming import FLOW

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers. Codex 0.169 sends about 3 KB, turn metadata included."""


_ID = "x-dragoman-request-id"


def _answer(status: str, message: str, code: str) -> bytes:
    """A whole answer to a request that never got as far as the application; the request's id is put in."""
    error = f'"message":"{message}","type":"invalid_request_error","param":null,"code":"{code}"'
    body = f'{{"error":{{{error}}}}}'
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}connection: close\r\n{_ID}: %b\r\n\r\n{body}".encode()


_TOO_LARGE = _answer(
    "431 Request Header Fields Too Large", "The request headers are larger than 64 KiB.", "headers_too_large"
)
_NOT_HTTP = _answer("400 Bad Request", "This is no HTTP request.", "invalid_request")
_NO_PROXY = _answer("400 Bad Request", "This is no proxy: ask for a path.", "invalid_target")

_LINGER_S = 1.0


class HeadCork:
    """A transport that lets an answer's head leave together with what follows it in the same moment.

    Uvicorn writes the head by itself; joined, head and first event are one segment, one system call and one
    wake-up of the client.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or hold a head for the moment."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self.flush)
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write a head nothing followed."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def write_eof(self) -> None:
        """Write what is held, then end our half."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Write what is held, then close."""
        self.flush()
        self._transport.close()


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with a limit on headers, which httptools collects without one, and corked heads."""

    _head_bytes = 0
    _in_head = True
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", HeadCork(transport, self.loop)))

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # Headers that are not complete yet are not told to us: what arrived is counted, whole.
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self._refused:
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if not self.url.startswith((b"/", b"*")):
            # The absolute form is for proxies, and names a host of its own that nobody would check.
            self._refuse(_NO_PROXY)
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES and not self._refused:
            self._refuse(_TOO_LARGE)
        if not self._refused:
            self.scope["extensions"] = {FLOW: self.flow}  # type: ignore[typeddict-item]
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()
        self._in_head = True

    def _refuse(self, answer: bytes) -> None:
        """Answer, and let the rest of the request run into the void for a moment: closing at once would
        reset the connection, and the client would lose the answer with it."""
        self._refused = True
        if self.transport.is_closing():
            return
        self.transport.write(answer % secrets.token_hex(12).encode())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's own words for what it cannot read, in our shape."""
        self._refuse(_NOT_HTTP)

    def _unsupported_upgrade_warning(self) -> None:
        """The application answers upgrades itself (426); there is nothing to warn about."""


def calm_collector() -> None:
    """Let the garbage collector pass over what lives for ever and look less often at what does not.

    To be called once everything is set up. A request makes next to no cycles; with the defaults the collector
    took an eighth of the CPU of a hundred paced streams (CPython 3.11).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 100)


def server_config(app: App, **options: Any) -> Config:
    """Uvicorn's configuration for the data plane.

    No access log, no lifespan, no websockets, no default headers; proxy headers are not believed. Idle client
    connections are kept for 75 s, longer than the pauses between a client's turns and its tool calls.
    """
    chosen: dict[str, Any] = {
        "http": BoundedProtocol,
        "interface": "asgi3",
        "ws": "none",
        "lifespan": "off",
        "access_log": False,
        "log_config": None,
        "proxy_headers": False,
        "server_header": False,
        "date_header": False,
        "timeout_keep_alive": 75,
        "backlog": 2048,
    }
    return Config(app, **(chosen | options))

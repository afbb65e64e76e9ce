"""How uvicorn serves the data plane: its options, and a protocol that bounds what comes before a request."""

from __future__ import annotations

from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .asgi import App

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers. Codex 0.169 sends about 3 KB, turn metadata included."""

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)
_TOO_LARGE_BODY = (
    b'{"error":{"message":"The request headers are larger than 64 KiB.","type":"invalid_request_error",'
    b'"param":null,"code":"headers_too_large"}}'
)


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with a limit on headers, which httptools collects without one."""

    _head_bytes = 0
    _in_head = True

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE % (len(_TOO_LARGE_BODY), _TOO_LARGE_BODY))
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MAX_HEAD_BYTES:
            self._in_head = True
            self._head_bytes = MAX_HEAD_BYTES + 1
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._in_head:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._in_head:
            super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0

    def _unsupported_upgrade_warning(self) -> None:
        """The application answers upgrades itself (426); there is nothing to warn about."""


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

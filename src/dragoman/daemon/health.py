"""Ask the data plane whether it answers, with a bare socket: the parent and `token --ensure` have no time
for an HTTP client."""

from __future__ import annotations

import socket
from typing import Any


def url_of(host: str, port: int) -> str:
    """The address clients use; listening everywhere is reached at the loopback address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def split_url(url: str) -> tuple[str, int]:
    """Host and port of `http://host:port`, brackets of an IPv6 address removed."""
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    return host.strip("[]"), int(port)


def is_healthy(url: str, *, timeout_s: float = 2.0) -> bool:
    """Whether `GET /health` answers 200 within `timeout_s`."""
    request = f"GET /health HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\nConnection: close\r\n\r\n"
    try:
        host, port = split_url(url)
        # As bytes: a name is looked up by the codec for international ones, which the parent does without.
        address: tuple[Any, int] = (host.encode(), port)
        with socket.create_connection(address, timeout=timeout_s) as sock:
            sock.sendall(request.encode("ascii"))
            head = b""
            while b"\r\n" not in head and (data := sock.recv(1024)):
                head += data
    except OSError:
        return False
    return head.startswith(b"HTTP/1.1 200")

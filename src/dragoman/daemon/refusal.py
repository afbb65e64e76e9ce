"""What the parent answers on the control socket when the control process cannot be started."""

from __future__ import annotations

import json
import socket

from dragoman.daemon.channel import Message


def refuse_pending(listener_fd: int, reason: Message | None) -> None:
    """Answer every waiting connection 503 with the reason, and close it.

    Args:
        listener_fd: the listening unix socket; stays open.
        reason: `message` and `hint`.
    """
    reason = reason or {}
    body = json.dumps(
        {
            "error": reason.get("message", "the control process is not available"),
            "error_code": "control_unavailable",
            "next": reason.get("hint") or "dragoman logs",
        }
    ).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    listener = socket.socket(fileno=listener_fd)
    listener.setblocking(False)
    try:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setblocking(False)
                _drop_request(connection)
                connection.sendall(head.encode() + body)
                connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # none left
    finally:
        listener.detach()


def _drop_request(connection: socket.socket) -> None:
    """Closing with unread bytes would reset the connection before the answer is read."""
    try:
        while connection.recv(65536):
            pass
    except OSError:
        return  # nothing more has come yet

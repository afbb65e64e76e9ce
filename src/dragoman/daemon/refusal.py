"""What the parent answers on the socket of a child that cannot be started."""

from __future__ import annotations

import json
import socket

from dragoman.daemon.channel import Message


def refuse_pending(listener_fd: int, role: str, reason: Message) -> None:
    """Answer every waiting connection 503 with the reason, and close it.

    Args:
        listener_fd: the listening socket; stays open.
        role: who does not come: the control API has one shape of errors, a provider another.
        reason: `message` and `hint`.
    """
    message = reason.get("message", f"the {role} process is not available")
    hint = reason.get("hint") or "dragoman logs"
    code = f"{role}_unavailable"
    answer = (
        {"error": message, "error_code": code, "next": hint}
        if role == "control"
        else {"error": {"message": f"{message}; next: {hint}", "type": "server_error", "code": code}}
    )
    body = json.dumps(answer).encode()
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

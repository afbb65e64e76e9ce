"""What parent and child say to each other: one JSON object a line over a socket pair.

The pair is also the lifeline: it reads as ended when the other side is gone, however it went.
Child to parent: `ready`, `failed` (message, hint), `idle` (I would like to end), `reloaded` (error or null).
Parent to child: `drain` (grace_s), `reload`.
"""

from __future__ import annotations

import json
import socket
from typing import Any

Message = dict[str, Any]

_MAX_LINE_BYTES = 1 << 20


def encode_message(kind: str, **fields: Any) -> bytes:
    """One message as bytes."""
    return json.dumps({"type": kind, **fields}).encode() + b"\n"


class LineReader:
    """Cuts a byte stream into messages; what is not a message is dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """Messages completed by these bytes, in order."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE_BYTES:
            self._rest = b""
        messages: list[Message] = []
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict) and isinstance(message.get("type"), str):
                messages.append(message)
        return messages


class ParentEnd:
    """The parent's side, never blocking: a child that does not read must not stop the parent."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._lines = LineReader()

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, kind: str, **fields: Any) -> bool:
        """Whether it could be sent; a few hundred bytes always fit unless the child is stuck or gone."""
        try:
            return self.sock.send(encode_message(kind, **fields)) > 0
        except OSError:
            return False

    def receive(self) -> list[Message] | None:
        """What has come, or None when the child closed its end."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._lines.feed(data) if data else None

    def close(self) -> None:
        self.sock.close()

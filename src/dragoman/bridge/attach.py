"""People at the same terminal: a private socket that shows every byte, and takes typing from who asks for it.

From the bridge comes what the terminal prints, as it is. To the bridge go lines of JSON:
`{"join": "watch"|"type"}` first, then `{"type": "<base64>"}` and `{"size": [columns, rows]}`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dragoman.bridge.screen import View

# A watcher that is this far behind has stopped reading; the terminal does not wait for it.
MAX_BEHIND_BYTES = 1 << 20
_MAX_LINE_BYTES = 1 << 17
_MAX_WATCHERS = 16
_SIZE_LIMITS = ((40, 400), (15, 300))


@dataclass
class _Guest:
    socket: socket.socket
    mode: Literal["new", "watch", "type"] = "new"
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)


class AttachServer:
    """The bridge's side; it never waits.

    Args:
        path: of the socket; made 0600.
        typed: given what a person types.
        resized: given the size a typing person's terminal has.
        repaint: asks the program to draw itself anew.
        view: the screen now.
    """

    def __init__(
        self,
        path: Path,
        *,
        typed: Callable[[bytes], None],
        resized: Callable[[int, int], None],
        repaint: Callable[[], None],
        view: Callable[[], View],
    ) -> None:
        self._path = path
        self._typed, self._resized, self._repaint, self._view = typed, resized, repaint, view
        self._guests: dict[int, _Guest] = {}
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        self._listener.listen(8)

    @property
    def watchers(self) -> int:
        """How many people are here."""
        return len(self._guests)

    def filenos(self) -> tuple[list[int], list[int]]:
        """What to wait on: for reading, and for writing."""
        return (
            [self._listener.fileno(), *self._guests],
            [number for number, guest in self._guests.items() if guest.outgoing],
        )

    def handle(self, readable: list[int], writable: list[int]) -> None:
        """Take what is ready."""
        if self._listener.fileno() in readable:
            self._welcome()
        for number in readable:
            if number in self._guests:
                self._listen_to(self._guests[number])
        for number in writable:
            if number in self._guests:
                self._send(self._guests[number], b"")

    def show(self, data: bytes) -> None:
        """The terminal printed something."""
        for guest in list(self._guests.values()):
            if guest.mode != "new":
                self._send(guest, data)

    def close(self) -> None:
        """Everybody leaves, and the door goes."""
        for guest in list(self._guests.values()):
            self._drop(guest)
        self._listener.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _welcome(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._guests) >= _MAX_WATCHERS:
            connection.close()
            return
        connection.setblocking(False)
        self._guests[connection.fileno()] = _Guest(connection)

    def _listen_to(self, guest: _Guest) -> None:
        try:
            data = guest.socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(guest)
            return
        guest.incoming += data
        while b"\n" in guest.incoming:
            line, _, rest = bytes(guest.incoming).partition(b"\n")
            guest.incoming = bytearray(rest)
            if not self._obey(guest, line):
                self._drop(guest)
                return
        if len(guest.incoming) > _MAX_LINE_BYTES:
            self._drop(guest)

    def _obey(self, guest: _Guest, line: bytes) -> bool:
        try:
            words: Any = json.loads(line)
        except ValueError:
            return False
        match words:
            case {"join": "watch" | "type" as mode} if guest.mode == "new":
                guest.mode = mode
                self._send(guest, _picture(self._view()))
                # Colours, cursor and modes come with the program's own repaint.
                self._repaint()
            case {"type": str(text)} if guest.mode == "type":
                try:
                    self._typed(base64.b64decode(text, validate=True))
                except binascii.Error:
                    return False
            case {"size": [int(cols), int(rows)]} if guest.mode == "type":
                (least_c, most_c), (least_r, most_r) = _SIZE_LIMITS
                self._resized(min(max(cols, least_c), most_c), min(max(rows, least_r), most_r))
            case _:
                return False
        return True

    def _send(self, guest: _Guest, data: bytes) -> None:
        guest.outgoing += data
        try:
            while guest.outgoing:
                sent = guest.socket.send(guest.outgoing)
                del guest.outgoing[:sent]
        except BlockingIOError:
            if len(guest.outgoing) > MAX_BEHIND_BYTES:
                self._drop(guest)
        except OSError:
            self._drop(guest)

    def _drop(self, guest: _Guest) -> None:
        self._guests.pop(guest.socket.fileno(), None)
        guest.socket.close()


def _picture(view: View) -> bytes:
    return b"\x1b[2J\x1b[H" + "\r\n".join(view.lines).encode() + b"\r\n"

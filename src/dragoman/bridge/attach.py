"""People at the same terminal: a private socket that shows every byte, and takes typing from who asks for it.

To the bridge go lines of JSON: `{"join": "watch"|"type"|"keys"}` first, then `{"type": "<base64>"}` and
`{"size": [columns, rows]}`. From the bridge comes what the terminal prints, as it is.

Who joins with `"framed": true` gets lines of JSON in its place: `{"size": [columns, rows]}` and
`{"screen": "<base64>"}` (all that is to be seen) first, then `{"output": "<base64>"}`, each new size, and
`{"end": "ended"}` with the session. Who joins with `keys` sees nothing and is told what became of each line:
`{"typed": bytes, "waits": whether a prompt goes in first}` and `{"size": [columns, rows]}` as it is then.
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

# A watcher that is this far behind has stopped reading; the terminal does not wait for it.
MAX_BEHIND_BYTES = 1 << 20
_MAX_LINE_BYTES = 1 << 17
_MAX_WATCHERS = 16
_SIZE_LIMITS = ((40, 400), (15, 300))
_LOOKS_ON = ("watch", "type")
_MAY_TYPE = ("type", "keys")


@dataclass
class _Guest:
    socket: socket.socket
    mode: Literal["new", "watch", "type", "keys"] = "new"
    framed: bool = False
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)


class AttachServer:
    """The bridge's side; it never waits.

    Args:
        path: of the socket; made 0600.
        typed: given what a person types; says whether it has to wait for a prompt that is being typed.
        resized: given the size a typing person's terminal has; says the size the session's has then.
        repaint: asks the program to draw itself anew.
        picture: what draws the screen as it is.
        size: columns and rows of the session's terminal.
    """

    def __init__(
        self,
        path: Path,
        *,
        typed: Callable[[bytes], bool],
        resized: Callable[[int, int], tuple[int, int]],
        repaint: Callable[[], None],
        picture: Callable[[], bytes],
        size: Callable[[], tuple[int, int]],
    ) -> None:
        self._path = path
        self._typed, self._resized, self._repaint = typed, resized, repaint
        self._picture, self._size = picture, size
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
        """How many people look on."""
        return sum(guest.mode in _LOOKS_ON for guest in self._guests.values())

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
            if guest.mode in _LOOKS_ON:
                self._send(guest, _line({"output": _text(data)}) if guest.framed else data)

    def tell_size(self, cols: int, rows: int) -> None:
        """The terminal has another size; who gets bare bytes sees the program's repaint."""
        for guest in list(self._guests.values()):
            if guest.mode in _LOOKS_ON and guest.framed:
                self._send(guest, _line({"size": [cols, rows]}))

    def close(self) -> None:
        """Everybody leaves, and the door goes."""
        for guest in list(self._guests.values()):
            if guest.framed:
                self._send(guest, _line({"end": "ended"}))
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
            case {"join": "watch" | "type" | "keys" as mode} if guest.mode == "new":
                guest.mode, guest.framed = mode, words.get("framed") is True
                if mode != "keys":
                    self._show_all(guest)
            case {"type": str(text)} if guest.mode in _MAY_TYPE:
                try:
                    keys = base64.b64decode(text, validate=True)
                except binascii.Error:
                    return False
                waits = self._typed(keys)
                if guest.mode == "keys":
                    self._send(guest, _line({"typed": len(keys), "waits": waits}))
            case {"size": [int(cols), int(rows)]} if guest.mode in _MAY_TYPE:
                (least_c, most_c), (least_r, most_r) = _SIZE_LIMITS
                size = self._resized(min(max(cols, least_c), most_c), min(max(rows, least_r), most_r))
                if guest.mode == "keys":
                    self._send(guest, _line({"size": list(size)}))
            case _:
                return False
        return True

    def _show_all(self, guest: _Guest) -> None:
        if guest.framed:
            self._send(guest, _line({"size": list(self._size())}) + _line({"screen": _text(self._picture())}))
            return
        self._send(guest, self._picture())
        # What a terminal has beside its picture, such as modes, comes with the program's own repaint.
        self._repaint()

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


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()

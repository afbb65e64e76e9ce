"""Join a bridge's terminal from another one: raw mode, a key to leave, its state restored at the end."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import termios
import tty
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dragoman.errors import DragomanError

# ctrl-] leaves, as in telnet: Claude Code uses ctrl-b, ctrl-d and ctrl-c itself.
DETACH = b"\x1d"

# What Claude Code may have switched on in the terminal: paste and focus marks, mouse, colour scheme reports,
# the other screen, a hidden cursor (2.1.329: 1000 1002 1003 1006 1004 2004 2031 1049).
_RESTORE = (
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?2031l\x1b[?1049l\x1b[?25h"
    b"\x1b[<u\x1b[0m\r\n"
)


class AttachFailed(DragomanError):
    """The terminal cannot be joined."""

    code = "attach_failed"


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a person sits.

    Attributes:
        keyboard: descriptor keys come from.
        display: descriptor the picture goes to.
    """

    keyboard: int
    display: int

    def size(self) -> tuple[int, int]:
        """Columns and rows; 0, 0 when it is no terminal."""
        try:
            packed = fcntl.ioctl(self.display, termios.TIOCGWINSZ, b"\0" * 8)
        except OSError:
            return 0, 0
        rows, cols, _, _ = struct.unpack("HHHH", packed)
        return cols, rows


def connect(path: Path) -> socket.socket:
    """A connection to a bridge's terminal.

    Raises:
        AttachFailed: nobody serves it.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise AttachFailed(
            f"the session at {path.parent.name} does not run", hint="start one with `dragoman lead`"
        ) from error
    return connection


def join_message(mode: Literal["watch", "type", "keys"], *, framed: bool = False) -> bytes:
    """The first line a guest says.

    Args:
        mode: look only, type too, or type and see nothing.
        framed: get lines of JSON in place of bare bytes.
    """
    return _line({"join": mode, "framed": True} if framed else {"join": mode})


def typed_message(data: bytes) -> bytes:
    """Keys, as the bridge takes them."""
    return _line({"type": base64.b64encode(data).decode()})


def size_message(cols: int, rows: int) -> bytes:
    """A new size, as the bridge takes it."""
    return _line({"size": [cols, rows]})


def attach(
    connection: socket.socket,
    seat: Seat,
    mode: Literal["watch", "type"],
    *,
    follow_size: bool = False,
    on_joined: Callable[[], None] | None = None,
) -> Literal["left", "ended"]:
    """Show the terminal until the person leaves (ctrl-]) or the session ends.

    Args:
        connection: from `connect`.
        seat: the person's own terminal; its state is restored at the end.
        mode: look only, or type too.
        follow_size: make the session's terminal as large as this one.
        on_joined: told once the door is open; for tests.

    Returns:
        Who ended it.
    """
    resized: list[bool] = [follow_size and mode == "type"]
    kept = _raw(seat.keyboard)
    old = _on_resize(lambda: resized.append(True)) if follow_size else None
    try:
        connection.sendall(join_message(mode))
        if on_joined is not None:
            on_joined()
        return _relay(connection, seat, mode, resized)
    except OSError:
        return "ended"
    finally:
        if old is not None:
            signal.signal(signal.SIGWINCH, old)
        if kept is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(seat.keyboard, termios.TCSADRAIN, kept)
            with contextlib.suppress(OSError):
                os.write(seat.display, _RESTORE)
        connection.close()


def _relay(
    connection: socket.socket, seat: Seat, mode: Literal["watch", "type"], resized: list[bool]
) -> Literal["left", "ended"]:
    while True:
        if any(resized):
            resized.clear()
            cols, rows = seat.size()
            if cols and rows:
                connection.sendall(size_message(cols, rows))
        ready, _, _ = select.select([connection, seat.keyboard], [], [], 0.5)
        if seat.keyboard in ready:
            keys = os.read(seat.keyboard, 4096)
            before, found, _ = keys.partition(DETACH)
            if mode == "type" and before:
                connection.sendall(typed_message(before))
            if found or not keys:
                return "left"
        if connection in ready:
            data = connection.recv(65_536)
            if not data:
                return "ended"
            _write_all(seat.display, data)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _raw(keyboard: int) -> list[Any] | None:
    try:
        kept = termios.tcgetattr(keyboard)
    except termios.error:
        return None
    tty.setraw(keyboard)
    return kept


def _on_resize(told: Callable[[], None]) -> signal.Handlers | Callable[..., object] | int | None:
    try:
        return signal.signal(signal.SIGWINCH, lambda number, frame: told())
    except ValueError:
        return None  # not the main thread


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"

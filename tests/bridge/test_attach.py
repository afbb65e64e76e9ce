from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pty
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dragoman.bridge.attach import MAX_BEHIND_BYTES, AttachServer
from dragoman.bridge.join import (
    AttachFailed,
    Seat,
    attach,
    connect,
    join_message,
    size_message,
    typed_message,
)
from dragoman.bridge.screen import Screen
from dragoman.config.paths import resolve_home
from dragoman.config.tokens import ensure_control_token
from dragoman.control.app import Control, control_app

WaitUntil = Callable[..., Any]


class Room:
    """A server whose loop runs in a thread, and what reached it."""

    def __init__(self, path: Path) -> None:
        self.typed = bytearray()
        self.sizes: list[tuple[int, int]] = []
        self.repaints = 0
        self.held = False
        self.path = path
        self.server = AttachServer(
            path,
            typed=self._type,
            resized=self._resize,
            repaint=self._repaint,
            picture=lambda: "first line\r\n❯ box".encode(),
            size=lambda: (140, 50),
        )
        self._stop = threading.Event()
        self._outbox: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _repaint(self) -> None:
        self.repaints += 1

    def _type(self, keys: bytes) -> bool:
        self.typed += keys
        return self.held

    def _resize(self, cols: int, rows: int) -> tuple[int, int]:
        self.sizes.append((cols, rows))
        return cols, rows

    def _serve(self) -> None:
        while not self._stop.is_set():
            reading, writing = self.server.filenos()
            with contextlib.suppress(OSError, ValueError):
                readable, writable, _ = select.select(reading, writing, [], 0.02)
                self.server.handle(readable, writable)
            while self._outbox:
                self.server.show(self._outbox.pop(0))

    def show(self, data: bytes) -> None:
        self._outbox.append(data)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self.server.close()


@pytest.fixture
def room(scratch: Path) -> Iterator[Room]:
    room = Room(scratch / "attach.sock")
    yield room
    room.close()


def joined(room: Room, mode: Any) -> socket.socket:
    guest = connect(room.path)
    guest.settimeout(5)
    guest.sendall(join_message(mode))
    return guest


def read_until(guest: socket.socket, what: bytes) -> bytes:
    data = b""
    while what not in data:
        more = guest.recv(65_536)
        assert more, data
        data += more
    return data


def test_the_door_is_for_its_owner_alone(room: Room) -> None:
    assert stat.S_IMODE(room.path.stat().st_mode) == 0o600


def test_who_joins_sees_the_screen_as_it_is_and_then_every_byte(room: Room, wait_until: WaitUntil) -> None:
    guest = joined(room, "watch")
    assert "❯ box".encode() in read_until(guest, "❯ box".encode())
    wait_until(lambda: room.repaints == 1, "the repaint")
    room.show(b"\x1b[1mlive\x1b[0m")
    assert read_until(guest, b"live\x1b[0m")
    guest.close()
    wait_until(lambda: room.server.watchers == 0, "the leaving")


def test_only_who_joined_to_type_can_type(room: Room, wait_until: WaitUntil) -> None:
    watcher, typist = joined(room, "watch"), joined(room, "type")
    typist.sendall(typed_message(b"hello\r") + size_message(100, 30) + size_message(1, 9999))
    wait_until(lambda: room.typed == b"hello\r", "the typing")
    wait_until(lambda: room.sizes == [(100, 30), (40, 300)], "the sizes")
    watcher.sendall(typed_message(b"intruder"))
    wait_until(lambda: room.server.watchers == 1, "the end of who broke the rule")
    assert room.typed == b"hello\r"
    watcher.close()
    typist.close()


def read_lines(guest: socket.socket, count: int) -> bytes:
    data = b""
    while data.count(b"\n") < count:
        more = guest.recv(65_536)
        assert more, data
        data += more
    return data


def framed(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def test_who_asks_for_frames_gets_size_and_screen_first_and_disturbs_nobody(
    room: Room, wait_until: WaitUntil
) -> None:
    guest = connect(room.path)
    guest.settimeout(5)
    guest.sendall(join_message("watch", framed=True))
    size, screen = framed(read_lines(guest, 2))
    assert size == {"size": [140, 50]}
    assert "❯ box".encode() in base64.b64decode(screen["screen"])
    room.show(b"\x1b[1mlive")
    assert framed(read_lines(guest, 1)) == [{"output": base64.b64encode(b"\x1b[1mlive").decode()}]
    assert room.repaints == 0
    room.close()
    assert framed(read_lines(guest, 1)) == [{"end": "ended"}]
    guest.close()


def test_who_only_brings_keys_sees_nothing_and_hears_what_became_of_them(room: Room) -> None:
    guest = connect(room.path)
    guest.settimeout(5)
    guest.sendall(join_message("keys") + typed_message(b"ab"))
    assert framed(read_lines(guest, 1)) == [{"typed": 2, "waits": False}]
    room.held = True
    room.show(b"unseen")
    guest.sendall(typed_message(b"c") + size_message(1, 9999))
    assert framed(read_lines(guest, 2)) == [{"typed": 1, "waits": True}, {"size": [40, 300]}]
    assert (bytes(room.typed), room.server.watchers) == (b"abc", 0)
    guest.close()


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n", b'{"type": "eA=="}\n', b'{"join": "root"}\n', b"[1]\n", b'{"size": ["a", 1]}\n'],
)
def test_who_does_not_speak_the_language_is_shown_out(room: Room, said: bytes) -> None:
    guest = connect(room.path)
    guest.settimeout(5)
    guest.sendall(said)
    assert guest.recv(100) == b""
    assert room.typed == b""
    guest.close()


def test_a_line_without_end_is_not_kept(room: Room) -> None:
    guest = connect(room.path)
    guest.settimeout(5)
    with contextlib.suppress(OSError):
        guest.sendall(b"x" * (1 << 18))
    with contextlib.suppress(ConnectionResetError):
        assert guest.recv(100) == b""
    guest.close()


def test_a_watcher_that_stops_reading_is_dropped_and_the_others_go_on(
    room: Room, wait_until: WaitUntil
) -> None:
    slow, quick = joined(room, "watch"), joined(room, "watch")
    wait_until(lambda: room.repaints == 2, "both")
    got = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := quick.recv(1 << 20):
                got.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    sent = 0
    while room.server.watchers == 2 and sent < 20 * MAX_BEHIND_BYTES:
        room.show(b"y" * 65_536)
        sent += 65_536
        wait_until(lambda wanted=sent: len(got) >= wanted, "the quick one's bytes")
    assert room.server.watchers == 1
    room.show(b"still here")
    wait_until(lambda: got.endswith(b"still here"), "the last words")
    slow.close()
    quick.close()


def test_nobody_at_home_is_said_with_the_next_step(scratch: Path) -> None:
    with pytest.raises(AttachFailed) as failed:
        connect(scratch / "attach.sock")
    assert failed.value.hint == "start one with `dragoman lead`"


def test_a_person_types_leaves_with_one_key_and_gets_the_terminal_back(
    room: Room, wait_until: WaitUntil
) -> None:
    main, side = pty.openpty()
    import termios

    before = termios.tcgetattr(side)
    ended: list[str] = []
    person = threading.Thread(
        target=lambda: ended.append(attach(connect(room.path), Seat(side, side), "type")), daemon=True
    )
    person.start()
    wait_until(lambda: room.repaints == 1, "the joining")
    os.write(main, b"a\x03b")
    wait_until(lambda: room.typed == b"a\x03b", "the typing, ctrl-c included")
    os.write(main, b"c\x1d")
    person.join(5)
    assert ended == ["left"]
    wait_until(lambda: room.typed == b"a\x03bc", "what was typed before leaving")
    assert termios.tcgetattr(side) == before
    # A terminal hands its bytes on in pieces, under load some later.
    os.set_blocking(main, False)
    shown = bytearray()

    def restored() -> bool:
        with contextlib.suppress(BlockingIOError):
            shown.extend(os.read(main, 65_536))
        return b"\x1b[?1000l" in shown

    wait_until(restored, "the terminal as it was")
    os.close(main)
    os.close(side)


def test_the_end_of_the_session_is_told_to_who_watches(scratch: Path, wait_until: WaitUntil) -> None:
    room = Room(scratch / "attach.sock")
    main, side = pty.openpty()
    ended: list[str] = []
    person = threading.Thread(
        target=lambda: ended.append(attach(connect(room.path), Seat(side, side), "watch")), daemon=True
    )
    person.start()
    wait_until(lambda: room.repaints == 1, "the joining")
    room.close()
    person.join(5)
    assert ended == ["ended"]
    os.close(main)
    os.close(side)


@pytest.mark.real_client
def test_a_person_joins_the_real_terminal_and_has_it_while_typing(
    start_session: Callable[..., Any], claude_329: Path, wait_until: WaitUntil
) -> None:
    session = start_session(claude_329)
    guest = connect(session.folder.attach_socket)
    guest.settimeout(10)
    guest.sendall(join_message("type"))
    assert b"\x1b[" in read_until(guest, "❯".encode())
    guest.sendall(typed_message(b"say typed by a person"))
    read_until(guest, b"person")
    refused = session.send("say from the lead")
    assert (refused["status"], "person" in refused["error"]) == ("busy", True)
    guest.sendall(typed_message(b"\r"))
    wait_until(lambda: "typed by a person" in session.transcript(), "the person's turn")
    assert session.state()["watchers"] == 1
    guest.close()

    def answered() -> bool:
        time.sleep(0.2)
        return session.send("say from the lead")["status"] == "completed"

    wait_until(answered, "the terminal's return")
    recording = session.folder.recording.read_text().splitlines()
    assert json.loads(recording[0])["version"] == 2
    assert any("typed" in json.loads(line)[2] for line in recording[1:])


@pytest.mark.real_client
def test_the_real_terminal_over_the_control_api_shows_the_same_screen_and_takes_the_same_keys(
    start_session: Callable[..., Any], claude_329: Path, wait_until: WaitUntil
) -> None:
    session = start_session(claude_329)
    home = resolve_home({**session.env, "DRAGOMAN_HOME": str(session.folder.path.parents[2])})
    app = control_app(Control(home, "1", dict))
    token = ensure_control_token(home)

    def post(what: str, body: dict[str, Any]) -> dict[str, Any]:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                path = f"/api/v1/sessions/{session.folder.path.name}/{what}"
                return await client.post(path, json=body, headers={"x-api-key": token})

        return asyncio.run(run()).json()

    # One who watches keeps a screen of his own from the frames that the events are made of.
    guest = connect(session.folder.attach_socket)
    guest.settimeout(10)
    guest.sendall(join_message("watch", framed=True))
    screen = Screen(140, 50)
    seen: list[tuple[int, int]] = []

    def watch() -> None:
        with contextlib.suppress(OSError), guest.makefile("rb") as lines:
            for line in lines:
                match json.loads(line):
                    case {"size": [cols, rows]}:
                        seen.append((cols, rows))
                        screen.resize(cols, rows)
                    case {"screen": data} | {"output": data}:
                        screen.feed(base64.b64decode(data))
                    case _:
                        return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    assert post("resize", {"cols": 120, "rows": 40}) == {"cols": 120, "rows": 40, "resized": True}
    assert post("input", {"text": "say typed over the API"}) == {"typed": 22, "waits": False}
    wait_until(lambda: any("typed over the API" in line for line in screen.view().lines), "the echo")
    assert session.send("say from the lead")["status"] == "busy"
    post("input", {"data": base64.b64encode(b"\r").decode()})
    wait_until(lambda: "● typed over the API" in "\n".join(screen.view().lines), "the answer")
    assert seen == [(140, 50), (120, 40)]
    guest.shutdown(socket.SHUT_RDWR)
    watcher.join(5)
    guest.close()

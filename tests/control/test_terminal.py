"""The bridge's sessions and their terminals over the control API."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import select
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.bridge.attach import MAX_BEHIND_BYTES, AttachServer
from dragoman.bridge.mailbox import Mailbox
from dragoman.bridge.session import SessionFolder, create_session
from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import ensure_control_token
from dragoman.control.app import Control, control_app
from dragoman.process.locks import FileLock

SESSION = "20260101-000000-abcdef"
ROOT = f"/api/v1/sessions/{SESSION}"


class Bridge:
    """The terminal side of a bridge that runs, in a thread: its socket, its lock, its state."""

    def __init__(self, folder: SessionFolder) -> None:
        self.typed = bytearray()
        self.held = False
        self.size = (140, 50)
        mailbox = Mailbox(folder.bridge)
        mailbox.make()
        mailbox.write_state({"status": "ready", "watchers": 0, "last": "an answer"})
        self.lock = FileLock(mailbox.lock_file)
        self.lock.acquire()
        self.server = AttachServer(
            folder.attach_socket,
            typed=self._type,
            resized=self._resize,
            repaint=lambda: None,
            picture=lambda: b"\x1b[2J all of it",
            size=lambda: self.size,
        )
        self._outbox: list[bytes] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _type(self, keys: bytes) -> bool:
        self.typed += keys
        return self.held

    def _resize(self, cols: int, rows: int) -> tuple[int, int]:
        if not self.held:
            self.size = (cols, rows)
            self.server.tell_size(cols, rows)
        return self.size

    def _serve(self) -> None:
        while not self._stop.is_set():
            reading, writing = self.server.filenos()
            with contextlib.suppress(OSError, ValueError):
                readable, writable, _ = select.select(reading, writing, [], 0.01)
                self.server.handle(readable, writable)
            while self._outbox:
                self.server.show(self._outbox.pop(0))

    def show(self, data: bytes) -> None:
        self._outbox.append(data)

    def close(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(5)
            self.server.close()
            self.lock.release()


@pytest.fixture
def home() -> Iterator[Home]:
    # A short name: a socket's path must fit.
    folder = Path(tempfile.mkdtemp(prefix="dgm-c-"))
    home = resolve_home({"DRAGOMAN_HOME": str(folder), "HOME": str(folder)})
    home.ensure()
    yield home
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(home: Home) -> SessionFolder:
    return create_session(
        home,
        session_id=SESSION,
        claude_session_id="0b1c",
        project=home.state,
        supervisor_home=home.state / "supervisor",
        created_at="2026-01-01T00:00:00+00:00",
        env={"SECRET": "value"},
    )


@pytest.fixture
def bridge(folder: SessionFolder) -> Iterator[Bridge]:
    bridge = Bridge(folder)
    yield bridge
    bridge.close()


class Watcher:
    """One who watches by server-sent events, spoken to as the web server would."""

    def __init__(self, control: Control, path: str, secret: str) -> None:
        self.app = control_app(control)
        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {secret}".encode())]
        self.scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
            "raw_path": path.encode(), "query_string": b"", "headers": headers, "scheme": "http",
            "server": ("localhost", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        self.status = 0
        self.content = b""
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.task = asyncio.ensure_future(self.app(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.content += message.get("body", b"")

    @property
    def events(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for block in self.content.decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "event" in fields:
                found.append((fields["event"], fields["data"]))
        return found

    def output(self) -> bytes:
        return b"".join(base64.b64decode(data) for name, data in self.events if name == "output")

    async def until(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture
def watch(home: Home) -> Callable[..., None]:
    def run(what: Callable[[Watcher], Any], path: str = f"{ROOT}/terminal") -> None:
        async def body() -> None:
            control = Control(home, "1.2.3", dict)
            watcher = Watcher(control, path, ensure_control_token(home))
            try:
                await what(watcher)
            finally:
                watcher.gone.set()
                watcher.reads.set()
                control.closing.set()
                await asyncio.wait_for(watcher.task, 5)

        asyncio.run(body())

    return run


def test_sessions_are_listed_with_how_they_stand_and_without_what_was_said(ask, bridge: Bridge) -> None:
    (row,) = ask("GET", "/api/v1/sessions").json()["sessions"]
    assert (row["session_id"], row["runs"], row["status"]) == (SESSION, True, "ready")
    assert ask("GET", ROOT).json() == {"session": row}
    assert "an answer" not in json.dumps(row)
    bridge.close()
    assert ask("GET", ROOT).json()["session"]["runs"] is False


@pytest.mark.parametrize("name", ["..", "%2e%2e", "20260101-000000-000000", "x", f"{SESSION}%2f.."])
@pytest.mark.parametrize("what", ["", "/terminal"])
def test_what_is_no_session_is_not_found(name: str, what: str, ask, folder: SessionFolder) -> None:
    assert ask("GET", f"/api/v1/sessions/{name}{what}").status_code == 404


def test_only_a_control_token_opens_a_terminal(ask, bridge: Bridge) -> None:
    for method, path in [("GET", "/terminal"), ("POST", "/input"), ("POST", "/resize")]:
        assert (
            ask(method, ROOT + path, {"text": "x"} if method == "POST" else None, token=None).status_code
            == 401
        )
    assert bridge.typed == b""


def test_a_watcher_gets_the_whole_screen_first_and_then_every_byte(watch, bridge: Bridge) -> None:
    async def look(watcher: Watcher) -> None:
        await watcher.until(lambda: len(watcher.events) >= 2)
        assert watcher.status == 200
        size, screen = watcher.events[:2]
        assert size == ("size", '{"cols":140,"rows":50}')
        assert (screen[0], base64.b64decode(screen[1])) == ("screen", b"\x1b[2J all of it")
        for piece in (b"\x1b[1mlive", "漢".encode()[:2], "漢".encode()[2:]):
            bridge.show(piece)
        await watcher.until(lambda: watcher.output() == "\x1b[1mlive漢".encode())
        bridge.show(b"x" * 300_000)
        await watcher.until(lambda: len(watcher.output()) > 300_000)

    watch(look)


def test_a_watcher_that_leaves_leaves_nothing_behind(watch, bridge: Bridge) -> None:
    async def look(watcher: Watcher) -> None:
        await watcher.until(lambda: bridge.server.watchers == 1)
        watcher.gone.set()
        await watcher.until(lambda: bridge.server.watchers == 0 and watcher.task.done())

    watch(look)


def test_the_end_of_the_session_is_the_last_event(watch, bridge: Bridge) -> None:
    async def look(watcher: Watcher) -> None:
        await watcher.until(lambda: bridge.server.watchers == 1)
        bridge.close()
        await watcher.until(lambda: watcher.task.done())
        assert watcher.events[-1] == ("end", '{"reason":"ended"}')

    watch(look)


def test_a_watcher_that_stops_reading_is_let_go_and_told_so(watch, bridge: Bridge) -> None:
    async def look(watcher: Watcher) -> None:
        await watcher.until(lambda: bridge.server.watchers == 1)
        watcher.reads.clear()
        sent = 0
        while bridge.server.watchers and sent < 20 * MAX_BEHIND_BYTES:
            bridge.show(b"y" * 65_536)
            sent += 65_536
            await asyncio.sleep(0.002)
        assert bridge.server.watchers == 0
        watcher.reads.set()
        await watcher.until(lambda: watcher.task.done())
        assert watcher.events[-1] == ("end", '{"reason":"too_slow"}')

    watch(look)


def test_a_process_that_leaves_lets_its_watchers_go(home: Home, bridge: Bridge) -> None:
    async def body() -> None:
        control = Control(home, "1.2.3", dict)
        watcher = Watcher(control, f"{ROOT}/terminal", ensure_control_token(home))
        await watcher.until(lambda: bridge.server.watchers == 1)
        control.closing.set()
        await watcher.until(lambda: watcher.task.done() and bridge.server.watchers == 0)

    asyncio.run(body())


def test_what_is_posted_is_typed_and_says_whether_it_waits_for_a_prompt(ask, bridge: Bridge) -> None:
    assert ask("POST", f"{ROOT}/input", {"text": "é\r"}).json() == {"typed": 3, "waits": False}
    bridge.held = True
    data = base64.b64encode(b"\x1b[A").decode()
    assert ask("POST", f"{ROOT}/input", {"data": data}).json() == {"typed": 3, "waits": True}
    assert bridge.typed == "é\r".encode() + b"\x1b[A"
    assert bridge.server.watchers == 0


@pytest.mark.parametrize(
    "body",
    [{}, {"text": "a", "data": "eA=="}, {"data": "?"}, {"text": ""}, {"text": "x" * 70_000}, {"keys": "x"}],
)
def test_what_cannot_be_typed_is_refused(body: dict[str, str], ask, bridge: Bridge) -> None:
    assert ask("POST", f"{ROOT}/input", body).status_code == 400
    assert bridge.typed == b""


def test_a_size_is_taken_between_rounds_and_told_to_who_watches(ask, watch, bridge: Bridge) -> None:
    async def look(watcher: Watcher) -> None:
        await watcher.until(lambda: bridge.server.watchers == 1)
        done = await asyncio.to_thread(ask, "POST", f"{ROOT}/resize", {"cols": 100, "rows": 30})
        assert done.json() == {"cols": 100, "rows": 30, "resized": True}
        await watcher.until(lambda: ("size", '{"cols":100,"rows":30}') in watcher.events)

    watch(look)
    bridge.held = True
    refused = ask("POST", f"{ROOT}/resize", {"cols": 90, "rows": 30}).json()
    assert refused == {"cols": 100, "rows": 30, "resized": False}


def test_a_session_that_has_ended_says_so(ask, folder: SessionFolder) -> None:
    for method, path, body in [("GET", "/terminal", None), ("POST", "/input", {"text": "x"})]:
        answer = ask(method, ROOT + path, body)
        assert (answer.status_code, answer.json()["error_code"]) == (409, "terminal_unreachable")
        assert answer.json()["next"] == "start one with `dragoman lead`"

"""A hundred streams through everything that can happen to a daemon, and new connections while it happens.

The upstream talks until it is told to stop, so that the streams last exactly as long as the trouble does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import dragoman
from dragoman.daemon.changing import reload_daemon, restart_daemon
from dragoman.daemon.health import split_url

STREAMS = 100
TICK_S = 0.25
DEADLINE_S = 60.0


class Talker:
    """An upstream on the Chat wire that counts aloud, and clients of a gateway before it, on a loop of their
    own."""

    def __init__(self) -> None:
        self.finish = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self.run(asyncio.start_server(self._play, "127.0.0.1", 0, backlog=512))
        self.base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def call(self, function: Callable[[], Any]) -> None:
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length[15:]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            number = 0
            while not self.finish.is_set():
                writer.write(_chunk({"content": f"{number};"}))
                await writer.drain()
                number += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.finish.wait(), TICK_S)
            writer.write(_chunk({"content": "end"}) + _chunk({}, "stop") + b"data: [DONE]\n\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


@dataclass
class Stream:
    """A client's stream.

    Attributes:
        wire: which one it speaks.
        text: what it has been told.
        port: its own port.
        ended: how it ended, "" while it runs: `well`, or what was wrong.
    """

    wire: str
    text: str = ""
    port: int = 0
    ended: str = ""
    heard: int = 0
    _rest: bytes = field(default=b"", repr=False)

    async def run(self, url: str, token: str) -> None:
        try:
            reader, writer = await asyncio.open_connection(*split_url(url))
            self.port = writer.get_extra_info("sockname")[1]
            path = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}[self.wire]
            body = {"model": "m", "stream": True, "max_tokens": 9, "messages": [_HELLO]}
            raw = json.dumps(body).encode()
            head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
            writer.write(f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw)
            status = await reader.readline()
            if b" 200 " not in status:
                self.ended = status.decode()
                return
            while data := await reader.read(65536):
                self._read(data)
                if self._rest.endswith(b"0\r\n\r\n"):
                    break
            whole = self.text == "".join(f"{n};" for n in range(self.heard)) + "end"
            self.ended = "well" if whole and self._rest.endswith(b"0\r\n\r\n") else "cut"
            writer.close()
        except OSError as error:
            self.ended = repr(error)

    def _read(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = (b"\n".join(lines[-2:]) + b"\n" + self._rest)[-16:] if not self._rest else self._rest
        for line in lines:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if self.wire == "chat":
                piece = event["choices"][0]["delta"].get("content", "") if event["choices"] else ""
            else:
                piece = event.get("delta", {}).get("text", "")
            self.text += piece
            self.heard += piece.count(";")


_HELLO = {"role": "user", "content": "Count."}


@pytest.fixture
def talker(homestead) -> Iterator[Talker]:
    made = Talker()
    homestead.home.config_file.write_text(CONFIG.format(base=made.base))
    yield made
    made.close()


CONFIG = '[providers.p]\nwires.chat = "{base}"\n[models.m]\nprovider = "p"\n'


class Crowd:
    """Many streams, watched together."""

    def __init__(self, talker: Talker, daemon: Any, count: int = STREAMS) -> None:
        token = daemon.home.data_token_file.read_text().strip()
        self.streams = [Stream(("chat", "messages")[n % 2]) for n in range(count)]
        self._talker = talker
        self._tasks: list[asyncio.Task[None]] = []

        async def start() -> None:
            self._tasks += [asyncio.create_task(stream.run(daemon.url, token)) for stream in self.streams]

        talker.run(start())

    def running(self) -> list[Stream]:
        return [stream for stream in self.streams if not stream.ended]

    def all_go_on(self, until: Callable[..., Any]) -> None:
        """Every stream that has not ended is told something new."""
        before = [(stream, stream.heard) for stream in self.running()]
        until(
            lambda: all(stream.heard > heard or stream.ended for stream, heard in before),
            f"{len(before)} streams going on",
        )

    def finish(self) -> list[str]:
        """How they all ended, once the upstream has finished."""
        self._talker.call(self._talker.finish.set)

        async def wait() -> None:
            await asyncio.gather(*self._tasks)

        self._talker.run(wait())
        return [stream.ended for stream in self.streams]


def test_a_hundred_streams_live_through_reloads_restarts_and_a_kill_of_control(homestead, talker, until):
    daemon = homestead.serve("--workers", "2").wait_up()
    bearer = {"Authorization": f"Bearer {daemon.home.control_token_file.read_text().strip()}"}
    crowd = Crowd(talker, daemon)
    crowd.all_go_on(until)
    for number in range(3):
        homestead.home.config_file.write_text(f"{CONFIG.format(base=talker.base)}# {number}\n")
        reload_daemon(homestead.home)
        assert daemon.call("/api/v1/status", **bearer).status == 200
        if number == 1:
            os.kill(daemon.pids("control")[-1], signal.SIGKILL)
            assert daemon.call("/api/v1/status", **bearer).status == 200
        restart_daemon(homestead.home)
        crowd.all_go_on(until)
    assert len(crowd.running()) == STREAMS
    assert crowd.finish() == ["well"] * STREAMS
    assert sum(stream.heard for stream in crowd.streams) > 3 * STREAMS
    # The gateways of three lives go once their streams have.
    until(lambda: len(daemon.pids("gateway")) == 2)
    assert daemon.stop() == 0


def test_a_gateway_killed_cuts_its_own_streams_and_no_other(homestead, talker, until):
    daemon = homestead.serve("--workers", "2").wait_up()
    crowd = Crowd(talker, daemon, 40)
    crowd.all_go_on(until)
    victim = max(daemon.pids("gateway"), key=lambda pid: len(_client_ports(pid)))
    ports = _client_ports(victim)
    lost = [stream for stream in crowd.streams if stream.port in ports]
    assert 0 < len(lost) <= 40
    os.kill(victim, signal.SIGKILL)
    until(lambda: all(stream.ended for stream in lost))
    until(lambda: len(set(daemon.pids("gateway")) - {victim}) == 2)
    crowd.all_go_on(until)
    ended = crowd.finish()
    assert [one for one, stream in zip(ended, crowd.streams, strict=True) if stream not in lost] == [
        "well"
    ] * (40 - len(lost))
    assert "well" not in [stream.ended for stream in lost]


def _client_ports(pid: int) -> set[int]:
    """The other side's ports of the connections a gateway has accepted."""
    return {
        connection.raddr.port
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == "ESTABLISHED" and connection.raddr
    }


def ask_during_restarts(homestead: Any, daemon: Any, wanted: int) -> tuple[int, list[str]]:
    """Connect again and again while the daemon restarts again and again; answered ones, and what failed."""
    stop = threading.Event()
    answered: list[int] = [0] * 4
    failed: list[str] = []

    def ask(place: int) -> None:
        while not stop.is_set():
            try:
                answered[place] += daemon.call("/health").status == 200
            except Exception as error:
                failed.append(repr(error))

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    try:
        while sum(answered) < wanted or daemon.note["restarts"]["count"] < 5:
            restart_daemon(homestead.home)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return sum(answered), failed


def test_of_a_thousand_new_connections_during_restarts_none_is_refused(homestead):
    daemon = homestead.serve("--workers", "2").wait_up()
    answered, failed = ask_during_restarts(homestead, daemon, 1000)
    assert answered >= 1000
    assert failed == []


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_of_ten_thousand_new_connections_during_restarts_at_most_one_is_refused(homestead):
    daemon = homestead.serve("--workers", "2").wait_up()
    answered, failed = ask_during_restarts(homestead, daemon, 10_000)
    print(f"{answered} answered, {len(failed)} failed, {daemon.note['restarts']['count']} restarts")
    assert answered >= 10_000
    assert len(failed) * 10_000 <= answered, failed[:5]


def _install(folder: Path, version: str) -> Path:
    """A copy of the package with a version of its own."""
    target = folder / version
    shutil.copytree(
        Path(dragoman.__file__).parent, target / "dragoman", ignore=shutil.ignore_patterns("__pycache__")
    )
    init = target / "dragoman" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{dragoman.__version__}"', f'"{version}"'))
    return target


@pytest.mark.parametrize("how", ["restart", "a crash"])
def test_an_upgrade_in_place_brings_the_new_version_and_cuts_no_stream(
    homestead, talker, until, how, tmp_path
):
    installed = tmp_path / "installed"
    installed.symlink_to(_install(tmp_path, "1.0.1"))
    daemon = homestead.serve(PYTHONPATH=str(installed)).wait_up()
    assert (daemon.note["version"], daemon.call("/health").json["version"]) == ("1.0.1", "1.0.1")
    crowd = Crowd(talker, daemon, 10)
    crowd.all_go_on(until)
    pid, old = daemon.note["pid"], daemon.pids("gateway")
    new = tmp_path / "new"
    new.symlink_to(_install(tmp_path, "1.0.2"))
    new.replace(installed)
    if how == "restart":
        done = homestead.dragoman("restart", "--json", PYTHONPATH=str(installed))
        assert json.loads(done.stdout)["version"] == "1.0.2", done.stderr
    else:
        # A child that has to be started meanwhile is of the new version; the parent sees it and follows.
        bearer = {"Authorization": f"Bearer {daemon.home.control_token_file.read_text().strip()}"}
        assert daemon.call("/api/v1/status", **bearer).status == 200
    until(lambda: daemon.note["version"] == "1.0.2" and daemon.note["restarts"]["count"] == 1)
    assert daemon.call("/health").json["version"] == "1.0.2"
    assert (daemon.note["pid"], set(old) <= set(daemon.pids("gateway"))) == (pid, True)
    crowd.all_go_on(until)
    assert crowd.finish() == ["well"] * 10
    until(lambda: not set(old) & set(daemon.pids("gateway")))
    assert daemon.stop() == 0


def test_an_upgrade_that_does_not_start_leaves_the_old_version_serving(homestead, talker, until, tmp_path):
    installed = tmp_path / "installed"
    installed.symlink_to(_install(tmp_path, "1.0.1"))
    daemon = homestead.serve(PYTHONPATH=str(installed)).wait_up()
    crowd = Crowd(talker, daemon, 4)
    crowd.all_go_on(until)
    broken = _install(tmp_path, "1.0.2")
    (broken / "dragoman" / "daemon" / "supervisor.py").write_text("this is no program\n")
    new = tmp_path / "new"
    new.symlink_to(broken)
    new.replace(installed)
    daemon.process.send_signal(signal.SIGUSR1)
    until(lambda: daemon.note["restarts"]["count"] == 1)
    assert "does not start" in daemon.note["restarts"]["error"]["message"]
    assert daemon.note["version"] == daemon.call("/health").json["version"] == "1.0.1"
    assert crowd.finish() == ["well"] * 4


def test_streams_of_gateways_handed_over_outlive_the_time_a_stop_would_give_them(homestead, talker, until):
    daemon = homestead.serve("--drain", "0.5").wait_up()
    crowd = Crowd(talker, daemon, 4)
    crowd.all_go_on(until)
    restart_daemon(homestead.home)
    for _ in range(4):  # a second, four times what they would have had
        crowd.all_go_on(until)
    assert crowd.finish() == ["well"] * 4

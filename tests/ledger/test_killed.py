"""`kill -9` takes no row away and gives none twice."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from dragoman.gateway import spool as spool_module
from dragoman.gateway.spool import Spool
from dragoman.ledger.intake import take_in
from dragoman.ledger.tables import FILES, ROWS, prepare

# Loads everything once, then makes a child for each line it reads; a child takes rows in until it is killed.
_NURSERY = """
import os, signal, sys, time
from pathlib import Path
from sqlalchemy.engine import make_url
from dragoman.errors import DragomanError
from dragoman.ledger import intake
from dragoman.store.database import Database
intake._PIECE_BYTES = 1500
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    if (pid := os.fork()) == 0:
        taking = intake.Intake(Database(make_url(sys.argv[1])), Path(sys.argv[2]))
        while True:
            try:
                taking.take_in()
            except DragomanError:
                pass
            time.sleep(0.001)
    print(pid, flush=True)
"""


def test_whoever_takes_rows_in_may_be_killed_at_any_moment(database, spool, row, monkeypatch):
    monkeypatch.setattr(spool_module, "MAX_FILE_BYTES", 6000)
    prepare(database)
    chance = random.Random(99)
    address = database.address.render_as_string(hide_password=False)
    nursery = subprocess.Popen(
        [sys.executable, "-c", _NURSERY, address, str(spool)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    orders, answers = nursery.stdin, nursery.stdout
    kills = written = 0

    async def run() -> None:
        nonlocal kills, written
        gateways = [Spool(spool, wall=time.time) for _ in range(2)]
        for _ in range(40):
            orders.write("go\n")
            orders.flush()
            child = int(answers.readline())
            end = time.monotonic() + chance.uniform(0.005, 0.06)
            while time.monotonic() < end:
                for gateway in gateways:
                    for _ in range(chance.randrange(4)):
                        gateway.append(row(written, session=f"s{written % 7}"))
                        written += 1
                    gateway.flush()
                time.sleep(0.002)
            os.kill(child, signal.SIGKILL)
            kills += 1
        for gateway in gateways:
            gateway.close()

    try:
        asyncio.run(run())
    finally:
        orders.close()
        nursery.wait(10)
        answers.close()
    deadline = time.monotonic() + 20
    while list(spool.iterdir()) and time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            take_in(database, spool)
    with database.read() as connection:
        ids = list(connection.execute(select(ROWS.c.id).order_by(ROWS.c.id)).scalars())
        noted = connection.execute(select(func.count()).select_from(FILES)).scalar_one()
    assert ids == [f"req-{number:06d}" for number in range(written)]
    assert written > 500
    assert kills == 40
    # Notes of files that are gone are all a kill may leave behind: of those that one look had finished.
    assert noted <= 3 * kills
    assert list(spool.iterdir()) == []


class _Provider(BaseHTTPRequestHandler):
    """A Chat endpoint that counts: every answer is one token more than the one before."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    answers = 0
    hold = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/messages"):
            self._stream_for_ever()
            return
        with _Provider.lock:
            _Provider.answers += 1
            number = _Provider.answers
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": number, "completion_tokens": 1, "total_tokens": number + 1}
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        data = json.dumps({**body, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream_for_ever(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        message = {"id": "m", "type": "message", "role": "assistant", "model": "n", "content": []}
        usage = {"input_tokens": 1000, "output_tokens": 1}
        events = [
            {"type": "message_start", "message": {**message, "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        ]
        for event in events:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()
        self.hold.wait(30)

    def log_message(self, format: str, *args: Any) -> None:
        return


class _Daemon:
    """A real daemon in a home of its own."""

    def __init__(self, root: Path, provider: int, **more_env: str) -> None:
        self.home = root / "d"
        self.home.mkdir()
        (self.home / "dragoman.toml").write_text(
            "[gateway]\nport = 0\n[providers.mock]\n"
            f'wires.chat = "http://127.0.0.1:{provider}/v1"\n[models.m]\nprovider = "mock"\n'
            "price = { input = 1.0, output = 1.0 }\n"
            f'[providers.anth]\nwires.messages = "http://127.0.0.1:{provider}"\n'
            '[models.n]\nprovider = "anth"\n'
        )
        env = {"HOME": str(root), "PATH": os.environ["PATH"], "DRAGOMAN_HOME": str(self.home), **more_env}
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name("dragoman")), "serve"],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://"):
            self.stop()
            raise AssertionError(f"the daemon did not start: {line}")
        self.port = int(line.rsplit(":", 1)[1])
        self.data = (self.home / "state" / "data.token").read_text().strip()

    def ask(self, count: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
        for _ in range(count):
            connection.request(
                "POST",
                "/v1/chat/completions",
                body,
                {"authorization": f"Bearer {self.data}", "content-type": "application/json"},
            )
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        connection.close()

    def begin_stream(self) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """An answer that goes on and on, and what it comes by."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = {
            "model": "n",
            "max_tokens": 9,
            "stream": True,
            "messages": [{"role": "user", "content": "hi"}],
        }
        connection.request(
            "POST",
            "/v1/messages",
            json.dumps(body),
            {"authorization": f"Bearer {self.data}", "content-type": "application/json"},
        )
        return connection, connection.getresponse()

    def usage(self) -> dict[str, Any]:
        secret = (self.home / "state" / "control.token").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/api/v1/usage", headers={"authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        assert answer.status == 200, said
        return said

    def child(self, role: str, *, other_than: int | None = None) -> int:
        """The process of a role, waited for."""
        deadline = time.monotonic() + 20
        note: dict[str, Any] = {}
        while time.monotonic() < deadline:
            note = json.loads((self.home / "run" / "daemon.json").read_text())
            for child in note["children"]:
                if child["role"] == role and child["pid"] != other_than and child["state"] == "ready":
                    return child["pid"]
            time.sleep(0.02)
        raise AssertionError(f"no {role}: {note}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()


@pytest.fixture
def provider() -> Iterator[int]:
    """The port of a provider that counts."""
    _Provider.answers = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def daemon(tmp_path: Path, provider: int) -> Iterator[_Daemon]:
    """A daemon over that provider."""
    running = _Daemon(tmp_path, provider)
    yield running
    running.stop()


def _expected(count: int) -> tuple[int, int]:
    return count, count * (count + 1) // 2


def _counted(usage: dict[str, Any]) -> tuple[int, int]:
    return usage["total"]["requests"], usage["total"]["input_tokens"]


def _settled(daemon: _Daemon, count: int) -> dict[str, Any]:
    """The totals once the rows of that many requests are in, each once."""
    deadline = time.monotonic() + 20
    while (usage := daemon.usage())["total"]["requests"] < count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _counted(usage) == _expected(count)
    return usage["total"]


def test_a_daemon_whose_control_is_killed_again_and_again_loses_no_row(daemon: _Daemon) -> None:
    chance = random.Random(7)
    daemon.ask(3)
    daemon.usage()
    for _ in range(2):
        asking = threading.Thread(target=daemon.ask, args=(60,))
        asking.start()
        control = daemon.child("control")
        time.sleep(chance.uniform(0.0, 0.4))
        os.kill(control, signal.SIGKILL)
        asking.join(30)
        daemon.usage()  # starts another
    usage = _settled(daemon, 123)
    assert usage["cost_usd"] == pytest.approx((usage["input_tokens"] + usage["output_tokens"]) / 1e6)


def test_a_gateway_that_is_killed_loses_the_last_second_at_most_and_a_clean_stop_loses_nothing(
    daemon: _Daemon,
) -> None:
    spool = daemon.home / "state" / "spool"

    def written() -> set[str]:
        left = b"".join(file.read_bytes() for file in spool.glob("*.jsonl"))
        return {json.loads(line)["id"] for line in left.splitlines(keepends=True) if line.endswith(b"\n")}

    daemon.ask(50)
    deadline = time.monotonic() + 20  # within a second where processes get their turn
    while len(written()) < 50 and time.monotonic() < deadline:
        time.sleep(0.02)
    gateway = daemon.child("gateway")
    os.kill(gateway, signal.SIGKILL)
    daemon.child("gateway", other_than=gateway)
    daemon.ask(50)
    daemon.stop()  # at once: what waits is written by a gateway that ends in order
    assert len(written()) == 100


def test_a_gateway_that_is_killed_leaves_a_row_of_every_call_it_was_answering(daemon: _Daemon) -> None:
    """Claude Code's own wire says what the prompt cost at the beginning, so that is known of a cut stream."""
    _Provider.hold.clear()
    try:
        streams = [daemon.begin_stream() for _ in range(5)]
        for _, answer in streams:
            assert b"message_start" in answer.readline()
        daemon.ask(3)
        time.sleep(1.2)  # what is older than a second must not be lost
        gateway = daemon.child("gateway")
        os.kill(gateway, signal.SIGKILL)
        daemon.child("gateway", other_than=gateway)
    finally:
        _Provider.hold.set()
    for connection, answer in streams:
        answer.close()
        connection.close()
    deadline = time.monotonic() + 20
    while (found := daemon.usage())["total"]["requests"] < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    total = found["total"]
    assert (total["requests"], total["failed"], total["unreported"]) == (8, 5, 0)
    chat = sum(range(_Provider.answers - 2, _Provider.answers + 1))
    assert total["input_tokens"] == chat + 5 * 1000
    assert daemon.usage()["total"] == total
    assert list((daemon.home / "state" / "spool").glob("*.open")) == []


@pytest.mark.postgres
def test_a_daemon_keeps_its_ledger_in_postgresql_when_told_to(
    tmp_path: Path, provider: int, postgres_url: str
) -> None:
    daemon = _Daemon(tmp_path, provider, DRAGOMAN_DATABASE=postgres_url)
    try:
        daemon.ask(20)
        _settled(daemon, 20)
        assert not (daemon.home / "state" / "dragoman.db").exists()
    finally:
        daemon.stop()

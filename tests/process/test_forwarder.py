"""The forwarder: an address on loopback that leads to a unix socket, and a program that notices nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.process import forwarder

PROGRAM = """
import os, socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as s:
    s.sendall(b"x" * 3_000_000); s.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: s.recv(65536), b""))
print(len(got), os.getpid(), sys.stdin.read())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    short = Path("/tmp") / f"dgf-{os.getpid()}-{abs(hash(tmp_path)) % 10**8}"
    short.mkdir(mode=0o700)
    yield short
    for path in short.iterdir():
        path.unlink()
    short.rmdir()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def everything(client: socket.socket) -> bytes:
    got = bytearray()
    while chunk := client.recv(65_536):
        got += chunk
    return bytes(got)


def echo_at(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.sendall(everything(client))

    threading.Thread(target=serve, daemon=True).start()
    return server


def test_the_program_keeps_its_process_its_streams_and_its_exit_code(folder: Path) -> None:
    port = free_port()
    script = Path(forwarder.__file__)
    argv = [sys.executable, "-I", "-S", str(script), str(folder / "s"), str(port), "--"]
    # The socket comes late, as after a restart of the gateway.
    with subprocess.Popen(
        [*argv, sys.executable, "-IS", "-c", PROGRAM, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        server = echo_at(folder / "s")
        try:
            out, _ = process.communicate("typed", timeout=30)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            _end_group(process.pid)
    assert out == f"3000000 {process.pid} typed\n"
    assert process.returncode == 0


def test_a_connection_is_closed_when_nothing_answers_in_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "_PATIENCE_S", 0.0)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=forwarder.serve, args=(listener, str(folder / "gone")), daemon=True).start()
    with socket.create_connection(listener.getsockname(), 10) as client:
        assert client.recv(1) == b""
    listener.close()


def test_words_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SystemExit, match="usage"):
        forwarder.main(["/x", "1", "program", "argument"])


def _end_group(pid: int) -> None:
    """What the forwarder left behind; in a sandbox it ends with that."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, 9)

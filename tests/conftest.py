"""Fixtures every test may use."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from dragoman.workers.testing import FakeClaude, write_fake_claude

# No example is judged by the clock, which on a busy machine measures the others; and the same code gives the
# same verdict every time. `--hypothesis-profile search` looks for new examples, as `make endurance` does.
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")

# A shell starts what it puts in the background with ctrl-C ignored, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def fake_worker(tmp_path_factory: pytest.TempPathFactory) -> FakeClaude:
    """A program that speaks like Claude Code and behaves as its task says."""
    return write_fake_claude(tmp_path_factory.mktemp("fake-worker"))


def _postgres_programs() -> Path | None:
    """The folder of `initdb` and `postgres`: on PATH, or where Debian keeps them."""
    found = shutil.which("initdb")
    if found is not None and shutil.which("postgres") is not None:
        return Path(found).resolve().parent
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return newest[-1].parent if newest else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A private PostgreSQL server on a unix socket; gives the address of its maintenance database."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine: scripts/system-packages installs one")
    # Below /tmp, so that the server's own user can get there and the socket's path stays short.
    with tempfile.TemporaryDirectory(prefix="dgm-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        owner: dict[str, Any] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            owner = {"user": "postgres", "group": "postgres", "extra_groups": []}
        data = folder / "data"
        subprocess.run(
            [
                str(programs / "initdb"),
                *("-D", str(data), "-U", "dragoman", "-A", "trust", "-E", "UTF8", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **owner,
        )
        log = folder / "log"
        with log.open("wb") as out:
            server = subprocess.Popen(
                [
                    str(programs / "postgres"),
                    *("-D", str(data), "-k", str(folder), "-h", "", "-F"),
                    *("-c", "max_connections=60", "-c", "shared_buffers=16MB"),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                **owner,
            )
        try:
            deadline = time.monotonic() + 30
            while b"ready to accept connections" not in log.read_bytes():
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield f"postgresql://dragoman@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The address of a new, empty PostgreSQL database. Mark the test `postgres`."""
    psycopg = pytest.importorskip("psycopg")
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgres_server.replace("/postgres?", f"/{name}?")
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

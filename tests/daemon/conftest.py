"""A home of its own, real daemons in it, and the promise that none of them outlives its test."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dragoman.config.paths import Home, resolve_home
from dragoman.daemon.health import split_url
from dragoman.daemon.starting import ServeOptions
from dragoman.process.identity import send_signal
from dragoman.process.tree import Marker, find_tree

FIXTURES = Path(__file__).parents[1] / "fixtures" / "daemon"
DEADLINE_S = 30.0


def until(condition: Callable[[], Any], what: str = "condition") -> Any:
    """Wait for something true, with a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(0.01)
    return found


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Daemon:
    """A daemon in the foreground."""

    process: subprocess.Popen[str]
    home: Home
    url: str = ""
    lines: list[str] = field(default_factory=list)

    def wait_up(self) -> Daemon:
        assert self.process.stdout is not None
        self.lines.append(self.process.stdout.readline().strip())
        assert self.lines[0].startswith("listening on "), (self.lines, self.rest())
        self.url = self.lines[0].removeprefix("listening on ")
        return self

    def rest(self) -> tuple[str, str]:
        """What else it says on stdout and stderr, once it has ended."""
        return self.process.communicate(timeout=DEADLINE_S)

    @property
    def note(self) -> dict[str, Any]:
        return json.loads(self.home.daemon_json.read_text())

    def pids(self, role: str) -> list[int]:
        return [child["pid"] for child in self.note["children"] if child["role"] == role]

    def call(self, path: str, *, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(*split_url(self.url), timeout=DEADLINE_S)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        answer = Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )
        connection.close()
        return answer

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


class Homestead:
    """One home, and ways to start daemons in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = Marker("DRAGOMAN_HOME", str(folder))
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder / "user"), "DRAGOMAN_HOME": str(folder)}
        # Added to the environment, it makes gateways stubs.
        self.stubs = {"PYTHONPATH": str(FIXTURES / "stubs")}
        self.program = (sys.executable, "-m", "dragoman.cli.main")
        self.home = resolve_home(self.env)
        self._processes: list[subprocess.Popen[str]] = []

    def popen(self, argv: list[str], **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            argv,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def dragoman(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        argv = [*self.program, *words]
        return subprocess.run(
            argv, env=self.env | env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    def serve(self, *words: str, **env: str) -> Daemon:
        """`dragoman serve --port 0`, the whole thing."""
        argv = [*self.program, "serve", "--port", "0", *words]
        return Daemon(self.popen(argv, **env), self.home)

    def stub(self, mode: str = "well", *, changes: dict[str, Any] | None = None, **options: Any) -> Daemon:
        """The real parent over stub gateways."""
        given = replace(ServeOptions(port=0), **options).to_argv()
        argv = [sys.executable, str(FIXTURES / "stub_daemon.py"), *given, json.dumps(changes or {})]
        return Daemon(self.popen(argv, STUB_GATEWAY=mode, **self.stubs), self.home)

    def processes(self) -> list[int]:
        """Every running process of this home."""
        return [identity.pid for identity in find_tree(None, marker=self.marker)]

    def log(self) -> list[dict[str, Any]]:
        """The daemon's log."""
        return [json.loads(line) for line in (self.home.logs / "daemon.log").read_text().splitlines()]

    def clear(self) -> None:
        """End all that is left; tells whether something was."""
        for identity in find_tree(None, marker=self.marker):
            send_signal(identity, signal.SIGKILL)
        for process in self._processes:
            process.communicate(timeout=DEADLINE_S)


@contextmanager
def a_home() -> Iterator[Homestead]:
    # A short path: unix sockets live in it.
    folder = Path(tempfile.mkdtemp(prefix="dgm-"))
    stead = Homestead(folder)
    try:
        yield stead
    finally:
        stead.clear()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def homestead() -> Iterator[Homestead]:
    """A home of the test's own."""
    with a_home() as stead:
        yield stead


@pytest.fixture(scope="module")
def standing() -> Iterator[tuple[Homestead, Daemon]]:
    """A home whose daemon runs, for tests that only ask it something."""
    with a_home() as stead:
        yield stead, stead.serve().wait_up()


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until

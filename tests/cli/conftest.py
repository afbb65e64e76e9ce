"""A provider that answers on this machine, an empty home, and a terminal to type at."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEADLINE_S = 60.0


class EmptyHome:
    """A user who has nothing yet, with a gateway of its own on a port nobody else has.

    Attributes:
        env: the user's environment.
        program: how `dragoman` is started.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.program = str(Path(sys.executable).with_name("dragoman"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.env = {
            "HOME": str(root),
            "PATH": os.environ["PATH"],
            "TERM": "xterm",
            "TMPDIR": str(root / "tmp"),
            "DRAGOMAN_HOME": str(root / "d"),
            "DRAGOMAN_PORT": str(self.port),
        }
        (root / "tmp").mkdir()

    @property
    def config(self) -> Path:
        return self.root / "d" / "dragoman.toml"

    @property
    def codex(self) -> Path:
        return self.root / ".codex" / "config.toml"

    @property
    def claude(self) -> Path:
        return self.root / ".claude" / "settings.json"

    def dragoman(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end, without a terminal."""
        return subprocess.run(
            [self.program, *words],
            env=self.env,
            input=text,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    def terminal(self, *words: str) -> Terminal:
        """Run a command at a terminal."""
        return Terminal([self.program, *words], self.env)


class Terminal:
    """A program at a pseudo terminal, and what it has shown so far."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.shown = ""
        self._read = 0

    def expect(self, text: str) -> None:
        """Wait until it shows something it has not shown before."""
        deadline = time.monotonic() + DEADLINE_S
        while (at := self.shown.find(text, self._read)) < 0:
            assert time.monotonic() < deadline, f"never shown: {text}\n{self.shown}"
            ended = self.process.poll() is not None
            assert self._take(0.1) or not ended, f"never shown: {text}\n{self.shown}"
        self._read = at + len(text)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode() + b"\n")

    def end(self) -> int:
        """Wait for its end; its exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._take(0.1)
        while self._take(0.0):
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)

    def _take(self, patience_s: float) -> bool:
        if not select.select([self._ours], [], [], patience_s)[0]:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux says so when the last writer is gone
            return False
        text = data.decode(errors="replace").replace("\r\n", "\n")
        self.shown += re.sub(r"\x1b\[[0-9;]*m", "", text)
        return bool(data)


@pytest.fixture
def empty_home() -> Iterator[EmptyHome]:
    # A short path: unix sockets live in it.
    with tempfile.TemporaryDirectory(prefix="dgm-") as root:
        home = EmptyHome(Path(root))
        try:
            yield home
        finally:
            home.dragoman("stop", "--now")


@pytest.fixture
def at_terminal(empty_home: EmptyHome) -> Iterator[Callable[..., Terminal]]:
    """Start commands at a terminal; none outlives the test."""
    started: list[Terminal] = []

    def start(*words: str) -> Terminal:
        started.append(empty_home.terminal(*words))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


@pytest.fixture(name="a_provider")
def provider_fixture() -> type[a_provider]:
    return a_provider


@pytest.fixture
def provider_url() -> Iterator[str]:
    """The address of a provider that plays the shipped demo on all wires."""
    with a_provider("demo") as url:
        yield url


class a_provider:
    """The embedded model in a process of its own, as an ordinary provider."""

    def __init__(self, scenario: str, journal: Path | None = None) -> None:
        argv = [sys.executable, "-m", "dragoman.rehearsal", "--scenario", scenario, "--pace", "0"]
        argv += ["--journal", str(journal)] if journal else []
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()[-1]

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=DEADLINE_S)

"""Small programs to start, find and end; every one of them is ended by its identity afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dragoman.process.identity import ProcessIdentity, identify, send_signal
from dragoman.process.tree import Marker, find_tree, run_marker

DEADLINE_S = 20.0


class Script:
    """A Python program in a session of its own, marked for this test."""

    def __init__(self, process: subprocess.Popen[str], identity: ProcessIdentity) -> None:
        self.process = process
        self.identity = identity

    def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def marker() -> Marker:
    return run_marker(uuid.uuid4().hex)


@pytest.fixture
def run_script(marker: Marker) -> Iterator[Callable[..., Script]]:
    """Start Python source; whatever carries the marker is killed at the end."""
    started: list[Script] = []

    def run(source: str, *, pass_fds: tuple[int, ...] = (), new_session: bool = True) -> Script:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", source],
            env={"PATH": os.environ["PATH"], marker.name: marker.value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=new_session,
            pass_fds=pass_fds,
        )
        identity = identify(process.pid)
        assert identity is not None
        started.append(Script(process, identity))
        return started[-1]

    yield run
    for identity in find_tree(None, marker=marker):
        send_signal(identity, signal.SIGKILL)
    for script in started:
        send_signal(script.identity, signal.SIGKILL)
        script.process.communicate()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait for a condition, with a deadline."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "condition never came true"
            time.sleep(0.01)

    return wait


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "lock"

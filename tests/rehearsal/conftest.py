"""The embedded model in memory and as a process, and the vendors' SDKs as judges of its bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dragoman.rehearsal.app import Rehearsal
from dragoman.rehearsal.load import parse_scenario
from dragoman.rehearsal.scenario import Scenario
from dragoman.rehearsal.server import RehearsalServer, listen

FIXTURES = Path(__file__).parent.parent / "fixtures" / "rehearsal"

MakeScenario = Callable[..., Scenario]
MakeClient = Callable[..., httpx.AsyncClient]
Serve = Callable[..., contextlib.AbstractAsyncContextManager[str]]
StartModel = Callable[..., str]


@pytest.fixture
def scenario() -> MakeScenario:
    """Parse a scenario given without its version line."""

    def make(text: str, source: str = "play.toml") -> Scenario:
        return parse_scenario(("version = 1\n" + textwrap.dedent(text)).encode(), source)

    return make


@pytest.fixture
def recorded() -> Callable[[str], dict[str, Any]]:
    """Read a recorded request's body."""

    def read(name: str) -> dict[str, Any]:
        return json.loads((FIXTURES / name).read_text())

    return read


@pytest.fixture
def in_memory(scenario: MakeScenario) -> MakeClient:
    """An HTTP client whose other end is the app itself, playing the scenario without waiting."""

    def make(text: str) -> httpx.AsyncClient:
        app = Rehearsal([scenario(text)], wait_factor=0)
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://rehearsal")

    return make


@pytest.fixture
def served(scenario: MakeScenario) -> Serve:
    """Serve a scenario on a socket inside the test's own event loop; its address."""

    @contextlib.asynccontextmanager
    async def serve(text: str, **options: Any) -> AsyncIterator[str]:
        listener, url = listen("127.0.0.1", 0)
        server = RehearsalServer(Rehearsal([scenario(text)], **{"wait_factor": 0, **options}))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield url
        finally:
            server.should_exit = server.force_exit = True
            await serving

    return serve


@pytest.fixture
def start_model(tmp_path: Path) -> Iterator[StartModel]:
    """Start the embedded model as a process; its address. Every one started here is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, *arguments: str, pass_fds: tuple[int, ...] = ()) -> str:
        file = tmp_path / "play.toml"
        file.write_text("version = 1\n" + textwrap.dedent(text))
        process = subprocess.Popen(
            [sys.executable, "-m", "dragoman.rehearsal", "--scenario", str(file), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        return line.split()[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()

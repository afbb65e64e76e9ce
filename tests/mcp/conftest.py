"""A desk of the tools over a repository and a scripted runner, spoken to by the official client."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client.stdio import stdio_client
from sqlalchemy.engine import URL

from dragoman.clients.checks import Finding
from dragoman.config.paths import resolve_home
from dragoman.config.schema import Delegation
from dragoman.jobs.service import JobService
from dragoman.jobs.testing import ScriptedLaunch, ThreadEngine
from dragoman.mcp.place import Desk
from dragoman.mcp.server import mcp_server
from dragoman.store.database import Database
from dragoman.workspace import create_workspace, open_repository
from mcp import Client, StdioServerParameters

CONFIG = """
[gateway]
port = 0
[delegation]
allow_roots = ["{root}"]
model = "rehearsal"
worker = "claude"
[rehearsal]
scenario = "demo"
[clients]
claude = "{claude}"
"""
IDENTITY = ("-c", "user.name=u", "-c", "user.email=u@localhost")


class Lead:
    """A lead with the six tools, and the user's repository it works for."""

    def __init__(self, folder: Path) -> None:
        self.home = resolve_home({"DRAGOMAN_HOME": str(folder / "home"), "HOME": str(folder / "user")})
        self.home.ensure()
        self.root = folder / "user" / "projects"
        self.repository = self.root / "app"
        self.repository.mkdir(parents=True)
        (self.repository / "a.txt").write_text("one\n")
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git(*IDENTITY, "commit", "-qm", "first")
        database = Database(URL.create("sqlite", database=str(self.home.state / "dragoman.db")))
        self.jobs = JobService(self.home, database, "here", ScriptedLaunch(self.home))
        self.jobs.open()
        self.engine = ThreadEngine(self.jobs.carry)
        self.jobs.engine = self.engine
        self.settings = Delegation(allow_roots=("~/projects",))
        self.findings: list[Finding] = []
        self.desk = Desk(self.jobs, lambda: self.settings, folder / "user", {})
        self.server = mcp_server(self.desk, lambda: self.findings, "1")

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ("git", *words), cwd=self.repository, check=True, capture_output=True, text=True
        )
        return done.stdout

    def talk(self, conversation: Callable[[Client], Awaitable[Any]]) -> Any:
        """Run a conversation of the official client with the server."""

        async def run() -> Any:
            async with Client(self.server) as client:
                return await conversation(client)

        return asyncio.run(run())

    def call(self, tool: str, **arguments: Any) -> Any:
        """Call one tool and give its result as the client got it."""
        arguments.setdefault("cwd", str(self.repository))

        async def once(client: Client) -> Any:
            return await client.call_tool(tool, arguments)

        return self.talk(once)

    def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call one tool; its structured answer."""
        return self.call(tool, **arguments).structured_content

    def finished_write(self, edit: Callable[[Path], None]) -> str:
        """A workspace in which a worker changed something; its id."""
        name = f"run-{time.monotonic_ns():x}"
        workspace = create_workspace(open_repository(self.repository), self.home.state, id=name)
        edit(workspace.path)
        return name


@pytest.fixture
def lead(tmp_path: Path) -> Iterator[Lead]:
    lead = Lead(tmp_path)
    yield lead
    for job in lead.jobs.under_way():
        lead.jobs.cancel(job.id)
    deadline = time.monotonic() + 20
    while lead.jobs.under_way() and time.monotonic() < deadline:
        lead.jobs.settle()
        time.sleep(0.02)
    lead.engine.close()
    lead.jobs.database.close()


class Station:
    """A client's side: a home, a repository below an allow root, and what starts the server.

    Args:
        folder: a short path, since sockets live below it.
        config: the text of its `dragoman.toml`.
    """

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.repository = folder / "work" / "app"
        self.repository.mkdir(parents=True)
        (self.home / "dragoman.toml").write_text(config)
        (self.repository / "a.txt").write_text("one\n")
        self.commit()
        # The fake worker's interpreter is to be found inside the sandbox too.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "DRAGOMAN_HOME": str(self.home), "PATH": path}
        self.argv = (sys.executable, "-m", "dragoman.cli.main", "mcp")

    def commit(self) -> None:
        """Make everything in the repository its first commit."""
        for words in (("init", "-q", "-b", "main"), ("add", "-A"), (*IDENTITY, "commit", "-qm", "one")):
            subprocess.run(("git", *words), cwd=self.repository, check=True, capture_output=True)

    def open(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv, env=self.env, cwd=self.repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def client(self, argv: tuple[str, ...] = ()) -> Client:
        """The official client, which starts the server by its own command or by another."""
        command, *args = argv or self.argv
        parameters = StdioServerParameters(command=command, args=args, env=self.env, cwd=str(self.repository))
        return Client(stdio_client(parameters))

    def dragoman(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "-m", "dragoman.cli.main", *words),
            env=self.env,
            cwd=self.repository,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def make_station() -> Iterator[Callable[..., Station]]:
    """Stations, each with a daemon of its own that ends with the test."""
    made: list[Station] = []

    def make(config: str = CONFIG, **names: Any) -> Station:
        folder = Path(tempfile.mkdtemp(prefix="dgm-m-"))
        made.append(Station(folder, config.format(root=folder / "work", folder=folder, **names)))
        return made[-1]

    yield make
    for station in made:
        station.dragoman("stop")
        shutil.rmtree(station.folder, ignore_errors=True)


@pytest.fixture
def station(make_station: Callable[..., Station], fake_worker: Any) -> Station:
    """A client's side whose worker is the fake Claude Code."""
    return make_station(claude=fake_worker.path)

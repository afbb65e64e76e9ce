"""A desk of the tools over a repository and a scripted runner, spoken to by the official client."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
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
from mcp import Client

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

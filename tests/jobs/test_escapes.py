"""A worker that tries every way out: stopped where there is a sandbox, told where there is none."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dragoman.clients.claude_code import bundled_binary, find_claude_code
from dragoman.clients.codex_program import bundled_codex, find_codex
from dragoman.config.paths import Home, resolve_home
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.isolation import plan_isolation
from dragoman.jobs.run import Surroundings, carry_out
from dragoman.process.spawn import SpawnPlan
from dragoman.process.tree import run_marker
from dragoman.rehearsal.app import Rehearsal
from dragoman.rehearsal.load import load_scenario
from dragoman.rehearsal.placeholders import fill
from dragoman.rehearsal.server import RehearsalServer
from dragoman.sandbox.level import find_means
from dragoman.workers.base import Confine, OnEvent, Said, Worker, WorkerOutcome, WorkerTask
from dragoman.workers.claude import ClaudeWorker
from dragoman.workers.codex import CodexWorker
from dragoman.workspace import Workspace

FIXTURES = Path(__file__).parents[1] / "fixtures" / "jobs"
SCENARIO = FIXTURES / "escapes.toml"
COMMAND = "python3 -m unittest -q try_to_escape"

bubblewrap = pytest.mark.skipif(find_means().bubblewrap is None, reason=f"NOT RUN: {find_means().why_not}")
landlock = pytest.mark.skipif(find_means().landlock_abi < 6, reason="NOT RUN: Landlock older than 6")

# What a program can still do where there is nothing but Landlock, and what a result says of it.
THROUGH_LANDLOCK = {"read the own .env"}


@dataclass
class World:
    """A home with secrets, a checkout in it, and a run of it."""

    user: Path
    repository: Path
    home: Home
    folder: RunFolder
    other: socket.socket

    def carry_out(
        self,
        level: Any,
        make_worker: Any,
        *,
        scenario: Path = SCENARIO,
        stop_when: Callable[[], bool] | None = None,
        role: str = "worker",
        packet: str | None = None,
    ) -> dict[str, Any]:
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.user), "LANG": "C.UTF-8"}
        opened: dict[str, Workspace] = {}
        isolation = plan_isolation(self.home, env, level=level)
        worker: Worker = make_worker(isolation.confine_worker(opened.__getitem__), env)
        listeners = self._listeners()
        port = listeners[0].getsockname()[1]
        packet = packet or (
            f"Role: {role}\nGoal: try. Main: {self.repository} Home: {self.user}\n"
            f"Allowed files:\n- `a.txt`\nValidation commands:\n- `{COMMAND}`\n"
        )
        request = RunRequest(
            run_id=self.folder.path.name,
            packet=packet,
            repository=str(self.repository),
            state=str(self.home.state),
            model="m",
            gateway_url=f"http://127.0.0.1:{port}",
            dirty="committed",
            timeout_s=100,
        )
        self.folder.create(request)
        around = Surroundings(
            worker=worker, token="token-of-the-run", env=env, isolation=isolation, opened=opened
        )

        async def main() -> dict[str, Any]:
            rehearsal = Rehearsal([load_scenario(str(scenario))], wait_factor=0)

            async def app(scope: Any, receive: Any, send: Any) -> None:
                async def listening() -> Any:
                    message = await receive()
                    self.heard += message.get("body", b"")
                    return message

                await rehearsal(scope, listening, send)

            server = RehearsalServer(app)  # pyright: ignore[reportArgumentType]
            serving = asyncio.create_task(server.serve(sockets=listeners))
            stop = asyncio.Event()

            async def watch() -> None:
                while stop_when is not None and not stop_when():
                    await asyncio.sleep(0.02)
                if stop_when is not None:
                    stop.set()

            watching = asyncio.create_task(watch())
            try:
                return await carry_out(self.folder, request, around, stop=stop)
            finally:
                watching.cancel()
                server.should_exit = server.force_exit = True
                await serving

        return asyncio.run(main())

    heard: bytes = b""

    def _listeners(self) -> list[socket.socket]:
        path = self.home.gateway_socket
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(path))
        unix.listen()
        return [socket.create_server(("127.0.0.1", 0)), unix]

    def listing(self) -> dict[str, bytes]:
        """Everything outside the run's own folders, with its content."""
        found = [path for path in self.user.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.user)): path.read_bytes() for path in found}

    def got_through(self, result: dict[str, Any]) -> set[str]:
        """What the program the worker was allowed to run says it managed."""
        (seen,) = result["evidence"]["after"]
        (line,) = [line for line in seen["tail"].splitlines() if line.startswith("GOT THROUGH:")]
        return set(json.loads(line.removeprefix("GOT THROUGH:")))


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=u", "-c", "user.email=u@localhost"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def world(pytestconfig: pytest.Config) -> Iterator[World]:
    # Not below /tmp, which is a private one inside: there a write would succeed, into nothing. A checkout may
    # be there itself.
    assert pytestconfig.cache is not None
    place = pytestconfig.cache.mkdir("escapes").resolve()
    if any(place.is_relative_to(Path(temporary).resolve()) for temporary in ("/tmp", "/var/tmp")):
        place = Path.home()
    top = Path(tempfile.mkdtemp(prefix=".dragoman-escapes-", dir=place)).resolve()
    user = top / "user"
    repository = user / "repo"
    (user / ".ssh").mkdir(parents=True)
    (user / ".ssh" / "key").write_text("SECRET of the key")
    (user / "notes.txt").write_text("SECRET of the notes")
    repository.mkdir()
    home = resolve_home({"DRAGOMAN_HOME": str(top / "dragoman"), "HOME": str(user)})
    home.state.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        targets = {"main": str(repository), "home": str(user), "pid": os.getpid()}
        targets["port"] = other.getsockname()[1]
        (repository / "targets.json").write_text(json.dumps(targets))
        for name in ("a.txt", "other.txt", "to-delete.txt", "code_under_test.py"):
            (repository / name).write_text(f"{name} as it was")
        (repository / ".env").write_text("TOKEN=SECRET of the repository\n")
        (repository / "link").symlink_to(user)
        shutil.copy(FIXTURES / "try_to_escape.py", repository)
        git(repository, "init", "-q", "-b", "main")
        git(repository, "add", "-A")
        git(repository, "commit", "-q", "-m", "one")
        # A run's processes are ended by its name, so no two tests may share one.
        folder = RunFolder(home.runs / f"run-{uuid.uuid4().hex[:12]}")
        yield World(user, repository, home, folder, other)
    shutil.rmtree(top)
    if home.gateway_socket.is_relative_to(home.short_sockets):
        shutil.rmtree(home.short_sockets)


class Program:
    """A worker that is nothing but a program, confined like any other."""

    def __init__(self, confine: Confine | None, env: dict[str, str]) -> None:
        self._confine, self._env = confine, env

    async def run(self, task: WorkerTask, *, on_event: OnEvent, stop: asyncio.Event) -> WorkerOutcome:
        for part in (task.config_folder, task.config_folder / "home"):
            part.mkdir(parents=True, exist_ok=True)
        marker = run_marker(task.run_id)
        env = {**self._env, "HOME": str(task.config_folder / "home"), marker.name: marker.value}
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        plan = SpawnPlan(argv=tuple(COMMAND.split()), env=env, cwd=task.cwd)
        plan = plan if self._confine is None else self._confine(plan, task)
        process = await asyncio.create_subprocess_exec(
            *plan.argv, env=dict(plan.env), cwd=plan.cwd, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        on_event(Said(text=said.decode()))
        return WorkerOutcome(status="finished", text=said.decode() + "\nSummary: done.")


@bubblewrap
def test_a_program_in_the_sandbox_gets_nothing_through(world: World) -> None:
    before = world.listing()
    result = world.carry_out("bubblewrap", Program)
    assert world.got_through(result) == set()
    assert world.listing() == before
    assert result["status"] == "success", result["error"]
    assert result["isolation"]["level"] == "bubblewrap"


@landlock
def test_landlock_lets_through_what_it_says_it_does(world: World) -> None:
    before = world.listing()
    result = world.carry_out("landlock", Program)
    assert world.got_through(result) == THROUGH_LANDLOCK
    assert world.listing() == before
    assert any("secrets inside the workspace" in limit for limit in result["isolation"]["limits"])


def test_without_a_sandbox_what_got_through_is_told_and_is_no_success(world: World) -> None:
    result = world.carry_out("none", Program)
    assert "write into the checkout" in world.got_through(result)
    assert (result["status"], result["error_code"]) == ("partial", "isolation_violation")
    assert {"config", "hooks"} <= set(result["integrity"]["changed"])
    assert {"code_under_test.py", "through-by-python", "to-delete.txt"} <= set(result["isolation_violations"])
    assert result["isolation"]["network"] == "open"


def claude(world: World) -> Any:
    if not os.environ.get("CLAUDE_BIN") and bundled_binary() is None:
        pytest.skip("no Claude Code: install the `clients` extra")
    client = find_claude_code(os.environ.get("CLAUDE_BIN") or str(bundled_binary()), os.environ)
    return lambda confine, env: ClaudeWorker(client, env, user_home=world.user, confine=confine)


@pytest.mark.real_client
@pytest.mark.parametrize(
    "level",
    [pytest.param("bubblewrap", marks=bubblewrap), pytest.param("landlock", marks=landlock), "none"],
)
def test_the_real_claude_code_gets_nothing_through_by_its_tools(world: World, level: str) -> None:
    before = world.listing()
    result = world.carry_out(level, claude(world))
    for secret in (b"SECRET of the key", b"SECRET of the notes"):
        assert secret not in world.heard, secret
    # What the scenario tries is refused by the rules, whatever the sandbox would say to it.
    denied = {denial["target"] for denial in result["worker"]["permission_denials"]}
    known = {"cwd": ".", "user.main": str(world.repository), "user.home": str(world.user)}
    steps = [step for rule in load_scenario(str(SCENARIO)).rules for step in rule.do]
    calls = [step.call[0].args for step in steps if step.call]
    args = [fill(call, known.get) for call in calls]
    tried = {arg.get("file_path", arg.get("command", "")).removeprefix("./") for arg in args}
    assert len(tried) > 30, result
    # A link that leads out is refused as a rule or, where its end is visible, as a link.
    allowed = {"a.txt", COMMAND, "git status --short", "grep -r SECRET .", ""}
    assert tried - denied - {"link/escaped-by-link"} == allowed, result["worker"]
    assert [file["path"] for file in result["delta"]["files"]] == ["a.txt"]
    if level == "bubblewrap":
        assert world.listing() == before
        assert world.got_through(result) == set()
        # `grep -r` passes the rules; what it finds is masked.
        assert b"SECRET of the repository" not in world.heard
        assert result["status"] == "success", result["error"]
    elif level == "landlock":
        assert world.listing() == before
        assert world.got_through(result) == THROUGH_LANDLOCK
    else:
        # By its tools it got nothing through; by the program it may run it did, and that is told.
        assert not [name for name in world.listing() if "escaped-by" in name]
        assert [name for name in world.listing() if "through-by" in name]
        assert (result["status"], result["error_code"]) == ("partial", "isolation_violation")


@bubblewrap
@pytest.mark.real_client
def test_a07_a08_the_real_claude_code_writes_every_kind_of_name_it_is_allowed_and_no_other(
    world: World,
) -> None:
    """A packet in S0's shape: a folder, a glob, a space, letters beyond ASCII, none of them there yet."""
    packet = "Goal: write.\n\nFiles allowed:\n- `src/`\n- `docs/a b.md`\n- `grün/ü.txt`\n- `conf/*.json`\n"
    result = world.carry_out("bubblewrap", claude(world), scenario=FIXTURES / "scope.toml", packet=packet)
    changed = {file["path"] for file in result["delta"]["files"]}
    assert changed == {"src/deep/new.py", "docs/a b.md", "grün/ü.txt", "conf/x.json"}, result
    denied = {denial["target"] for denial in result["worker"]["permission_denials"]}
    assert denied == {"other.txt", "conf/x.txt"}
    assert not result["scope"]["out_of_scope"]
    assert (result["status"], result["error"]) == ("success", None)


@bubblewrap
@pytest.mark.real_client
def test_the_real_claude_code_reviews_in_a_tree_that_nothing_can_write(world: World) -> None:
    before = world.listing()
    result = world.carry_out("bubblewrap", claude(world), scenario=FIXTURES / "review.toml", role="reviewer")
    assert result["worker"]["status"] == "finished", result["worker"]
    assert world.listing() == before
    assert result["delta"]["files"] == []
    assert b"GOT THROUGH: []" in world.heard


@bubblewrap
@pytest.mark.real_client
def test_the_real_codex_works_inside_and_gets_nothing_through(world: World) -> None:
    if not os.environ.get("CODEX_BIN") and bundled_codex() is None:
        pytest.skip("no Codex: install the `clients` extra")
    client = find_codex(os.environ.get("CODEX_BIN") or str(bundled_codex()), os.environ)
    before = world.listing()
    result = world.carry_out(
        "bubblewrap",
        lambda confine, env: CodexWorker(client, env, confine=confine),
        scenario=FIXTURES / "codex_escapes.toml",
    )
    assert (result["worker"]["status"], result["worker"]["error_code"]) == ("finished", None), result[
        "worker"
    ]
    assert b"GOT THROUGH: []" in world.heard
    assert world.listing() == before
    assert b"SECRET of" not in world.heard
    assert [file["path"] for file in result["delta"]["files"]] == ["a.txt"]
    assert result["status"] == "success", result["error"]


@bubblewrap
@pytest.mark.real_client
def test_a_stop_leaves_nothing_of_a_confined_claude_code(world: World) -> None:
    (world.repository / "try_to_escape.py").write_text(
        "import subprocess, time, sys\nif 'worker' not in open('a.txt').read(): sys.exit()\n"
        "subprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 604; sleep 604'], start_new_session=True)\n"
        "time.sleep(604)\n"
    )
    git(world.repository, "commit", "-q", "-a", "-m", "two")

    def at_work() -> bool:
        return world.folder.events_file.exists() and b'"name":"Bash"' in world.folder.events_file.read_bytes()

    started = time.monotonic()
    result = world.carry_out(
        "bubblewrap", claude(world), scenario=FIXTURES / "wander.toml", stop_when=at_work
    )
    assert result["error_code"] == "worker_cancelled", result["error"]
    assert result["worker"]["survivors"] == 0
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 604" not in listing
    assert str(world.repository) not in listing
    assert time.monotonic() - started < 60

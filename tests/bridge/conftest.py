"""Recordings of the real terminal, played on a clock of their own; real sessions with real clients."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from dragoman.bridge.detector import Round, Seen
from dragoman.bridge.hooks import Hook, read_hook
from dragoman.bridge.launch import RunningBridge
from dragoman.bridge.mailbox import Mailbox, Request, new_request_id
from dragoman.bridge.outcome import Outcome
from dragoman.bridge.reading import find_dialog
from dragoman.bridge.screen import Screen
from dragoman.bridge.session import SessionFolder, bridge_plan, create_session, write_plan
from dragoman.bridge.transcript import Record, read_line
from dragoman.clients.program import file_inside_package
from dragoman.config.paths import resolve_home
from dragoman.config.schema import Bridge as BridgeSettings
from dragoman.process.locks import FileLock

RECORDINGS = Path(__file__).parent.parent / "fixtures" / "bridge" / "terminal"
# A recorded moment is looked at this often, as the bridge would, only coarser.
STEP_S = 0.05


@dataclass
class Player:
    """Plays one recording to the detector and collects how each round ends."""

    name: str
    hooks_work: bool = True
    transcript: bool = True
    timeout_s: float = 120.0
    screen: Screen = field(init=False)
    rounds: list[tuple[str, Outcome | None]] = field(default_factory=list[tuple[str, Outcome | None]])

    def play(self) -> list[tuple[str, Outcome | None]]:
        raw = (RECORDINGS / f"{self.name}.bin").read_bytes()
        rows: list[list[Any]] = [
            json.loads(line) for line in (RECORDINGS / f"{self.name}.jsonl").read_text().splitlines()
        ]
        self.screen = Screen(rows[0][2], rows[0][3])
        self._now = self._printed_at = 0.0
        self._hooks: list[Hook] = []
        self._records: list[Record] = []
        self._round: Round | None = None
        self._exit: int | None = None
        if not any(row[1] == "hook" for row in rows):
            self.hooks_work = False
        for at, kind, *rest in rows[1:]:
            self._until(max(at, self._now))
            match kind:
                case "o":
                    self.screen.feed(raw[rest[0] : rest[0] + rest[1]])
                    self._printed_at = at
                case "hook" if self.hooks_work:
                    hook = read_hook(json.dumps(rest[0]).encode(), at)
                    assert hook is not None
                    self._hooks.append(hook)
                case "line" if self.transcript:
                    self._records += read_line(json.dumps(rest[0]).encode())
                case "m":
                    self._mark(at, rest[0])
                case "i" if self._round is not None and self._round.kind == "key" and not self._key_known:
                    self._key_known = True
                    self._round.stops = bytes.fromhex(rest[0]) in (b"\x1b", b"\x03")
                case _:
                    pass
        self._until(self._now + 20.0)
        if self._round is not None:
            self.rounds.append((self._label, None))
        return self.rounds

    def _mark(self, at: float, mark: str) -> None:
        if mark.startswith("exit"):
            self._exit = int(mark.split()[1])
            return
        is_key = mark == "key" or mark.startswith("key ")
        if mark != "submit" and not is_key:
            return
        if self._round is not None:
            self.rounds.append((self._label, None))
        key = mark[4:].strip("'")
        self._label = f"key {key}".strip() if is_key else "prompt"
        self._hooks, self._records = [], []
        view = self.screen.view()
        self._round = Round(
            at,
            self.timeout_s,
            view,
            "key" if is_key else "prompt",
            answered=find_dialog(view) if is_key else None,
        )
        self._key_known = False

    def _until(self, at: float) -> None:
        while True:
            self._look()
            if self._now + STEP_S >= at:
                break
            self._now += STEP_S
        self._now = at

    def _look(self) -> None:
        if self._round is None:
            return
        seen = Seen(
            self._now,
            self.screen.view(),
            tuple(self._hooks),
            tuple(self._records),
            self._printed_at,
            self._exit,
            self.hooks_work,
        )
        self._hooks, self._records = [], []
        outcome = self._round.observe(seen)
        if outcome is not None:
            self.rounds.append((self._label, outcome))
            self._round = None


@pytest.fixture
def play() -> Callable[..., list[tuple[str, Outcome | None]]]:
    def run(name: str, **how: Any) -> list[tuple[str, Outcome | None]]:
        return Player(name, **how).play()

    return run


# ---------------------------------------------------------------- real clients


@dataclass
class RealSession:
    """A session with the real Claude Code in its terminal and the embedded model behind it.

    Attributes:
        folder: the session's folders.
        bridge: the bridge process.
        mailbox: where requests go.
        project: the scratch project.
        env: what Claude Code runs with.
    """

    folder: SessionFolder
    bridge: RunningBridge
    mailbox: Mailbox
    project: Path
    env: dict[str, str]
    said: list[str]

    def send(self, prompt: str, timeout_s: float = 40.0, **how: Any) -> dict[str, Any]:
        return self._ask("send", timeout_s, prompt=prompt, **how)

    def press(self, key: str, timeout_s: float = 40.0) -> dict[str, Any]:
        return self._ask("input", timeout_s, key=key)

    def _ask(self, kind: Literal["send", "input"], timeout_s: float, **what: Any) -> dict[str, Any]:
        name = new_request_id(time.time_ns(), secrets.token_hex(4))
        return self.mailbox.ask(Request(name, kind, timeout_s=timeout_s, **what))

    def transcript(self) -> str:
        files = Path(self.env["CLAUDE_CONFIG_DIR"]).glob("projects/*/*.jsonl")
        return "".join(file.read_text() for file in files)

    def state(self) -> dict[str, Any]:
        return self.mailbox.read_state() or {}


StartSession = Callable[..., RealSession]


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """The condition's value once it is true; an error when it never is."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {timeout_s:.0f} s")


def processes_in(folder: Path) -> list[int]:
    """Pids of processes that work in a folder."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.path.realpath(entry / "cwd").startswith(str(folder)):
                found.append(int(entry.name))
    return found


def bundled(package: str, *parts: str) -> Path:
    """A program inside the extra `clients`."""
    path = file_inside_package(package, *parts)
    assert path is not None, f"{package} is missing: install the extra `clients`"
    return path


@pytest.fixture(scope="session")
def claude_197() -> Path:
    """Claude Code 2.1.197, installed once from npm into the checkout's cache, checked by npm."""
    root = Path(__file__).parents[2] / ".cache" / "claude-code-2.1.197"
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}[
        platform.machine().lower()
    ]
    program = root / "node_modules" / "@anthropic-ai" / f"claude-code-{sys.platform}-{machine}" / "claude"
    root.parent.mkdir(exist_ok=True)
    (root.parent / ".gitignore").write_text("*\n")
    lock = FileLock(root.parent / "claude-code-2.1.197.lock")
    lock.acquire(timeout_s=110.0)
    with lock:
        if not (root / "whole").exists():
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(RECORDINGS.parent / "npm", root)
            # No install script is needed: the program is the platform's own package.
            install = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            subprocess.run(install, cwd=root, check=True, timeout=100)
            (root / "whole").touch()
    return program


@pytest.fixture(params=["2.1.329", "2.1.197"])
def claude(request: pytest.FixtureRequest) -> Path:
    """Both versions of the real Claude Code that are held."""
    if request.param == "2.1.197":
        return request.getfixturevalue("claude_197")
    return bundled("claude_agent_sdk", "_bundled", "claude")


@pytest.fixture
def claude_329() -> Path:
    """The Claude Code of the extra `clients`."""
    return bundled("claude_agent_sdk", "_bundled", "claude")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder with a short name: sockets and Claude Code's own paths must fit."""
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="dgm-b-")))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def model(scratch: Path) -> Iterator[str]:
    """The address of the embedded model playing the bridge's scenario."""
    scenario = RECORDINGS.parent / "bridge.toml"
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman.rehearsal", "--scenario", str(scenario)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def client_environment(scratch: Path, url: str) -> dict[str, str]:
    """A home of their own for real clients, pointed at the embedded model."""
    home = scratch / "home"
    for folder in (home / ".claude", home / "codex", scratch / "tmp"):
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "CODEX_HOME": str(home / "codex"),
        # Codex refuses a home below the folder for temporary files.
        "TMPDIR": str(scratch / "tmp"),
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": "none",
        "ANTHROPIC_MODEL": "claude-opus-4-6",
        "CLAUDE_CODE_MAX_RETRIES": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def seed_claude(
    env: dict[str, str], project: Path, settings: dict[str, Any], *, trusted: bool = True
) -> None:
    """A Claude Code that asks nothing at its start (2.1.197 and 2.1.329)."""
    trust = {"hasTrustDialogAccepted": trusted, "hasCompletedProjectOnboarding": True}
    state = {
        "hasCompletedOnboarding": True,
        "lastOnboardingVersion": "99.0.0",
        "projects": {str(project): trust | {"projectOnboardingSeenCount": 9, "allowedTools": []}},
    }
    config = Path(env["CLAUDE_CONFIG_DIR"])
    (config / ".claude.json").write_text(json.dumps(state))
    (config / "settings.json").write_text(json.dumps({"theme": "dark", **settings}))


@pytest.fixture
def start_session(scratch: Path, model: str) -> Iterator[StartSession]:
    """Start a real session; it is ended afterwards, and nothing of it may live on."""
    started: list[RealSession] = []

    def start(
        claude: Path, *, settings: dict[str, Any] | None = None, trusted: bool = True, ready: bool = True
    ) -> RealSession:
        project = scratch / "project"
        project.mkdir()
        (project / "e.txt").write_text("one\ntwo\n")
        env = client_environment(scratch, model)
        seed_claude(env, project, settings or {}, trusted=trusted)
        home = resolve_home({**env, "DRAGOMAN_HOME": str(scratch / "state")})
        home.ensure()
        folder = create_session(
            home,
            session_id=f"20260101-000000-{secrets.token_hex(3)}",
            claude_session_id=str(uuid.uuid4()),
            project=project,
            supervisor_home=scratch / "supervisor",
            created_at="2026-01-01T00:00:00+00:00",
            env=env,
        )
        write_plan(folder, bridge_plan(claude, [], BridgeSettings()))
        said: list[str] = []
        bridge = RunningBridge(folder, {**env, "PYTHONWARNINGS": ""}, said.append)
        session = RealSession(folder, bridge, Mailbox(folder.bridge), project, env, said)
        started.append(session)
        state = bridge.wait_ready()
        assert not ready or state["status"] == "ready", state
        return session

    yield start
    for session in started:
        session.bridge.stop()
        left = processes_in(session.project)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "processes live on in the project"
        assert (session.folder.private / "bridge.err").read_text() == ""


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Wait for a condition with a deadline."""
    return wait_for


@pytest.fixture
def alive_in() -> Callable[[Path], list[int]]:
    """Pids of processes that work in a folder."""
    return processes_in


@pytest.fixture
def bundled_program() -> Callable[..., Path]:
    """A program inside the extra `clients`."""
    return bundled


@pytest.fixture
def environment() -> Callable[[Path, str, Path], dict[str, str]]:
    """Homes of their own for real clients, in which nothing is asked at the start."""

    def make(scratch: Path, url: str, project: Path) -> dict[str, str]:
        env = client_environment(scratch, url)
        seed_claude(env, project, {})
        return env

    return make

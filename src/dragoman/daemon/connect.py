"""Find the daemon of a home, or start it in the background and wait until it answers."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dragoman.config.paths import Home
from dragoman.daemon.health import is_healthy
from dragoman.daemon.starting import ServeOptions
from dragoman.daemon.where import read_daemon_json
from dragoman.errors import DragomanError
from dragoman.process.spawn import Spawner, SpawnPlan, daemon_environment, spawn_detached

START_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.02


class DaemonUnavailable(DragomanError):
    """The daemon runs but does not answer, or could not be started."""

    code = "daemon_unavailable"
    http_status = 503


@dataclass(frozen=True, slots=True)
class DaemonHandle:
    """A daemon that answered.

    Attributes:
        url: the data plane's address.
        pid: the parent's process id.
        version: its version.
        started: whether this call started it.
    """

    url: str
    pid: int
    version: str
    started: bool = False


def find_daemon(home: Home) -> DaemonHandle | None:
    """The daemon serving this home, or None; asks no socket and starts nothing."""
    note = read_daemon_json(home)
    return None if note is None else DaemonHandle(note.url, note.pid, note.version)


def ensure_daemon(
    home: Home,
    env: Mapping[str, str] | None = None,
    *,
    options: ServeOptions | None = None,
    say: Callable[[str], None] | None = None,
    spawn: Spawner = spawn_detached,
    timeout_s: float = START_TIMEOUT_S,
) -> DaemonHandle:
    """The daemon of this home, started in the background when there is none.

    Safe with several callers at once: one daemon comes out, and all get it.

    Args:
        home: whose daemon.
        env: environment to start it with; `os.environ` when None. It must lead to the same home.
        options: how to start it; the configuration file of `home` when None.
        say: told in one sentence what happens; stderr when None.
        spawn: starts the process.
        timeout_s: how long to wait until it answers.

    Raises:
        DaemonUnavailable: it could not be started, with its own reason, or does not answer.
    """
    say = say or _to_stderr
    deadline = time.monotonic() + timeout_s
    while True:
        if found := find_daemon(home):
            if _answers(found, home, deadline):
                return found
            continue  # it ended meanwhile
        if time.monotonic() >= deadline:
            raise DaemonUnavailable(
                f"the daemon did not come up within {timeout_s:.0f} s", hint="dragoman logs"
            )
        say("starting the dragoman daemon")
        started = _start(home, os.environ if env is None else env, options, spawn, deadline)
        if started is not None:
            return started
        time.sleep(_LOOK_EVERY_S)  # somebody else was faster, or an old one is still leaving


def _answers(found: DaemonHandle, home: Home, deadline: float) -> bool:
    """Whether it answers in time; False when it ended while we asked.

    Raises:
        DaemonUnavailable: it runs and does not answer.
    """
    while not is_healthy(found.url):
        if find_daemon(home) != found:
            return False
        if time.monotonic() >= deadline:
            raise DaemonUnavailable(
                f"the daemon (pid {found.pid}) runs but {found.url} does not answer",
                hint="dragoman stop, then try again",
            )
        time.sleep(_LOOK_EVERY_S)
    return True


def _start(
    home: Home, env: Mapping[str, str], options: ServeOptions | None, spawn: Spawner, deadline: float
) -> DaemonHandle | None:
    """Start one and wait for its word; None when another daemon was there first."""
    home.ensure()
    config_file = home.config_file if home.config_file.exists() else None
    options = options or ServeOptions(config_file=config_file)
    reader, writer = os.pipe()
    try:
        wanted = replace(options, ready_fd=writer)
        spawn(
            SpawnPlan(
                argv=(sys.executable, "-P", "-m", "dragoman.daemon.starting", *wanted.to_argv()),
                env=daemon_environment(env),
                cwd=home.state,
                log_file=home.logs / "stderr.log",
                pass_fds=(writer,),
            )
        )
    finally:
        os.close(writer)
    try:
        told = _read_line(reader, deadline)
    finally:
        os.close(reader)
    if "url" in told:
        return DaemonHandle(told["url"], told["pid"], told["version"], started=True)
    if told.get("code") == "already_serving":
        return None
    message = told.get("message", "it ended without a word")
    hint = told.get("hint") or "dragoman serve, to see it in the foreground"
    raise DaemonUnavailable(f"the daemon could not be started: {message}", hint=hint)


def _read_line(reader: int, deadline: float) -> dict[str, Any]:
    """The one line of JSON at the pipe; empty when its writers are gone or time is up."""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(reader, 65536) if ready else b""
        if not data:
            break
        line += data
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _to_stderr(text: str) -> None:
    print(f"dragoman: {text}", file=sys.stderr)  # noqa: T201

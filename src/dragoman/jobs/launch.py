"""How a run is started and followed: a detached runner and its folder, whoever asks."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dragoman.config.paths import HOME_VARIABLE, Home
from dragoman.config.schema import Delegation
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.process.identity import ProcessIdentity, is_alive
from dragoman.process.spawn import Spawner, SpawnPlan, base_environment, spawn_detached

TOKEN_VARIABLE = "DRAGOMAN_RUN_TOKEN"  # noqa: S105 - the name of a variable
# Marks the runner itself, so that one whose start nobody could write down is found again.
RUNNER_VARIABLE = "DRAGOMAN_RUNNER"
# The number of a descriptor with what the runner must know and its children must not; see `Inheritance`.
INHERITANCE_VARIABLE = "DRAGOMAN_RUN_INHERITANCE"
# What the user's own toolchain needs to be found and to find itself; never a key or a login.
_TOOLCHAIN_NAMES = ("VIRTUAL_ENV", "CLAUDE_BIN", "NODE_PATH", "GOPATH", "GOROOT", "CARGO_HOME", "JAVA_HOME")
# The user's own login and endpoint, for `worker_login = "own"` alone.
_LOGIN_NAMES = re.compile(r"ANTHROPIC_\w+|CLAUDE_CONFIG_DIR|CLAUDE_CODE_(?:OAUTH_TOKEN|USE_\w+|SKIP_\w+)")
# Names no configuration passes on to a worker; the list codex-claude-delegate 0.1 has.
_SECRET_NAMES = re.compile(
    r"AUTH|COOKIE|SESSION|PRIVATE|KEY|SECRET|TOKEN|CREDENTIAL|PASSWORD|^DATABASE_URL$|DSN", re.IGNORECASE
)
_FOLLOW_EVERY_S = 0.05


class Inheritance(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner gets through a file without a name: what it may hold, nobody else may read.

    Attributes:
        daemon_env: the whole environment its daemon was started with, to start it again if it is killed.
        config_file: the configuration it reads.
    """

    daemon_env: dict[str, str] = {}
    config_file: str | None = None


def with_settings(request: RunRequest, settings: Delegation) -> RunRequest:
    """A request with what the configuration says about every run of a worker; limits only become tighter.

    Parameters:
        request: what was asked.
        settings: the `[delegation]` table.
    """
    setup = settings.setup_command or ()
    timeouts = [request.timeout_s, settings.safety_ceiling_s, settings.timeout_s or request.timeout_s]
    ceilings = [one for one in (request.max_output_tokens, settings.max_output_tokens) if one]
    return msgspec.structs.replace(
        request,
        timeout_s=min(timeouts),
        max_output_tokens=min(ceilings) if ceilings else None,
        setup_command=tuple(shlex.split(setup)) if isinstance(setup, str) else tuple(setup),
        worktree_include=settings.worktree_include,
        worker_login=settings.worker_login,
        env_passthrough=tuple(name for name in settings.env_passthrough if not _SECRET_NAMES.search(name)),
        link_dirs=settings.sandbox.link_dirs,
        sandbox_level=settings.sandbox.level,
        sandbox_read=settings.sandbox.read,
    )


@dataclass(frozen=True)
class StartedRun:
    """A run that was handed to its runner."""

    folder: RunFolder
    runner: ProcessIdentity


def start_run(
    home: Home,
    request: RunRequest,
    *,
    token: str,
    env: Mapping[str, str] = os.environ,
    spawn: Spawner = spawn_detached,
) -> StartedRun:
    """Write the run's folder and start its runner, detached: it outlives whoever asked.

    Parameters:
        home: whose state the run belongs to.
        request: what to do.
        token: the run's own gateway token; it goes through the runner's environment, never through a file
            or an argument.
        env: what the runner's cleaned environment is chosen from.
        spawn: starts the process.

    Raises:
        FileExistsError: a run of this id exists.
        SpawnFailed: the runner cannot be started.
    """
    folder = RunFolder(home.runs / request.run_id)
    folder.create(request)
    return start_runner(folder, token=token, env=env, spawn=spawn, config_file=home.config_file)


def start_runner(
    folder: RunFolder,
    *,
    token: str,
    env: Mapping[str, str] = os.environ,
    spawn: Spawner = spawn_detached,
    config_file: Path | None = None,
) -> StartedRun:
    """Start a runner for a folder that is there; of several, the lock lets one work and the others end.

    Args and errors as `start_run`; `config_file` is what a daemon that must be started again reads.
    """
    request = folder.request()
    # An absolute DRAGOMAN_HOME (or the XDG variables it stands for) leads the runner to the same home.
    own = {name: env[name] for name in (HOME_VARIABLE, "XDG_STATE_HOME", "XDG_CONFIG_HOME") if name in env}
    extra = [*_TOOLCHAIN_NAMES, *request.env_passthrough]
    if request.worker_login == "own":
        extra += [name for name in env if _LOGIN_NAMES.fullmatch(name)]
    kept = {name: value for name, value in env.items() if name not in (TOKEN_VARIABLE, RUNNER_VARIABLE)}
    with tempfile.TemporaryFile() as inheritance:
        # Plain JSON: a variable may hold bytes that are no text.
        known = {"daemon_env": kept, "config_file": None if config_file is None else str(config_file)}
        inheritance.write(json.dumps(known).encode())
        inheritance.flush()
        inheritance.seek(0)
        fd = inheritance.fileno()
        own |= {
            TOKEN_VARIABLE: token,
            RUNNER_VARIABLE: folder.path.name,
            INHERITANCE_VARIABLE: str(fd),
        }
        runner = spawn(
            SpawnPlan(
                argv=(sys.executable, "-m", "dragoman.jobs.runner", str(folder.path)),
                env=base_environment(env, extra=extra, add=own),
                log_file=folder.log_file,
                pass_fds=(fd,),
            )
        )
    return StartedRun(folder, runner)


def take_inheritance(env: Mapping[str, str]) -> Inheritance:
    """What `start_runner` handed on; nothing for a runner that was started by hand. Closes the file."""
    number = env.get(INHERITANCE_VARIABLE, "")
    if not number.isdigit():
        return Inheritance()
    try:
        with os.fdopen(int(number), "rb") as file:
            known = json.loads(file.read())
    except (OSError, ValueError):
        return Inheritance()
    return Inheritance(daemon_env=known["daemon_env"], config_file=known["config_file"])


def follow(
    started: StartedRun,
    *,
    each_look: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """Yield a run's events as they come, until its result is written or its runner is gone.

    Parameters:
        started: the run.
        each_look: called once a look (20 times a second), for what else must be watched meanwhile.
        sleep: waits seconds between two looks.
    """
    offset = 0
    while True:
        # Read the end signs first: what was written before them is then surely seen below.
        ended = started.folder.result_file.exists() or not is_alive(started.runner)
        for behind, event in started.folder.events(offset):
            offset = behind
            yield event
        if ended:
            return
        each_look()
        sleep(_FOLLOW_EVERY_S)

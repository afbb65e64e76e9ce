"""How a run is started and followed: a detached runner and its folder, whoever asks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dragoman.config.paths import HOME_VARIABLE, Home
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.process.identity import ProcessIdentity, is_alive
from dragoman.process.spawn import Spawner, SpawnPlan, base_environment, spawn_detached

TOKEN_VARIABLE = "DRAGOMAN_RUN_TOKEN"  # noqa: S105 - the name of a variable
# Marks the runner itself, so that one whose start nobody could write down is found again.
RUNNER_VARIABLE = "DRAGOMAN_RUNNER"
# What the user's own toolchain needs to be found and to find itself; never a key or a login.
_TOOLCHAIN_NAMES = ("VIRTUAL_ENV", "CLAUDE_BIN", "NODE_PATH", "GOPATH", "GOROOT", "CARGO_HOME", "JAVA_HOME")
_FOLLOW_EVERY_S = 0.05


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
    return start_runner(folder, token=token, env=env, spawn=spawn)


def start_runner(
    folder: RunFolder,
    *,
    token: str,
    env: Mapping[str, str] = os.environ,
    spawn: Spawner = spawn_detached,
) -> StartedRun:
    """Start a runner for a folder that is there; of several, the lock lets one work and the others end.

    Args and errors as `start_run`.
    """
    # An absolute DRAGOMAN_HOME (or the XDG variables it stands for) leads the runner to the same home.
    own = {name: env[name] for name in (HOME_VARIABLE, "XDG_STATE_HOME", "XDG_CONFIG_HOME") if name in env}
    runner = spawn(
        SpawnPlan(
            argv=(sys.executable, "-m", "dragoman.jobs.runner", str(folder.path)),
            env=base_environment(
                env,
                extra=_TOOLCHAIN_NAMES,
                add=own | {TOKEN_VARIABLE: token, RUNNER_VARIABLE: folder.path.name},
            ),
            log_file=folder.log_file,
        )
    )
    return StartedRun(folder, runner)


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

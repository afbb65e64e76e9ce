"""How a run's detached runner is started, whoever asks."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dragoman.config.paths import HOME_VARIABLE
from dragoman.config.schema import Delegation
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.inheritance import INHERITANCE_VARIABLE, TOKEN_VARIABLE
from dragoman.process.identity import ProcessIdentity
from dragoman.process.spawn import Spawner, SpawnPlan, base_environment, spawn_detached

# Marks the runner itself, so that one whose start nobody could write down is found again.
RUNNER_VARIABLE = "DRAGOMAN_RUNNER"
# What the user's own toolchain needs to be found and to find itself; never a key or a login.
_TOOLCHAIN_NAMES = ("VIRTUAL_ENV", "CLAUDE_BIN", "NODE_PATH", "GOPATH", "GOROOT", "CARGO_HOME", "JAVA_HOME")
# The user's own login and endpoint, for `worker_login = "own"` alone.
_LOGIN_NAMES = re.compile(r"ANTHROPIC_\w+|CLAUDE_CONFIG_DIR|CLAUDE_CODE_(?:OAUTH_TOKEN|USE_\w+|SKIP_\w+)")
# Names no configuration passes on to a worker; the list codex-claude-delegate 0.1 has.
_SECRET_NAMES = re.compile(
    r"AUTH|COOKIE|SESSION|PRIVATE|KEY|SECRET|TOKEN|CREDENTIAL|PASSWORD|^DATABASE_URL$|DSN", re.IGNORECASE
)


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


def start_runner(
    folder: RunFolder,
    *,
    token: str,
    env: Mapping[str, str] = os.environ,
    spawn: Spawner = spawn_detached,
    config_file: Path | None = None,
) -> StartedRun:
    """Start a runner for a folder that is there; of several, the lock lets one work and the others end.

    It is detached: it outlives whoever asked.

    Args:
        folder: the run's, with its request.
        token: the run's own gateway token; it goes through the runner's environment, never through a file or
            an argument.
        env: what the runner's cleaned environment is chosen from.
        spawn: starts the process.
        config_file: what a daemon that must be started again reads.

    Raises:
        SpawnFailed: the runner cannot be started.
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

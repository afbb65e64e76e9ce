"""Start processes that live on their own: new session, no terminal, a log file, chosen descriptors."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dragoman.errors import DragomanError
from dragoman.process.identity import ProcessIdentity, identify
from dragoman.process.tree import RUN_MARKER

# What a program needs to find itself, its language, its certificates and its way through a proxy.
_BASE_NAMES = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
})  # fmt: skip


class SpawnFailed(DragomanError):
    """A program could not be started."""

    code = "spawn_failed"


@dataclass(frozen=True, slots=True)
class SpawnPlan:
    """A process to start, complete: nothing is taken from the caller's surroundings.

    Attributes:
        argv: program and arguments; never a shell line.
        env: its whole environment.
        cwd: its working directory, or None for ours.
        log_file: appended to by its stdout and stderr, made 0600; None throws them away.
        pass_fds: descriptors it inherits under the same numbers.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None = None
    log_file: Path | None = None
    pass_fds: tuple[int, ...] = ()


class Spawner(Protocol):
    """Starts a plan; tests pass their own."""

    def __call__(self, plan: SpawnPlan) -> ProcessIdentity: ...


def base_environment(
    env: Mapping[str, str], *, extra: Iterable[str] = (), add: Mapping[str, str] | None = None
) -> dict[str, str]:
    """An environment from an allow-list: no key, token or tool setting of the user's slips through.

    Args:
        env: what to choose from, usually `os.environ`.
        extra: further names to keep.
        add: variables to set.
    """
    names = _BASE_NAMES.union(extra)
    kept = {name: value for name, value in env.items() if name in names or name.startswith("LC_")}
    return kept | dict(add or {})


def daemon_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Everything (provider keys are named freely), but for what ties a process to a run.

    A daemon that a worker or a runner starts must outlive what `end_tree` ends by its marker, and has no
    use for a run's token.
    """
    return {name: value for name, value in env.items() if not name.startswith(RUN_MARKER)}


def spawn_detached(plan: SpawnPlan) -> ProcessIdentity:
    """Start a process in a session of its own that survives us; reaped in the background if it ends first.

    Raises:
        SpawnFailed: the program or its folder is missing or not executable, or the log cannot be opened.
    """
    log = os.devnull if plan.log_file is None else plan.log_file
    try:
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpawnFailed(f"cannot open the log {log}: {error.strerror}") from error
    try:
        process = subprocess.Popen(
            plan.argv,
            env=dict(plan.env),
            cwd=plan.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            start_new_session=True,
            close_fds=True,
            pass_fds=plan.pass_fds,
        )
    except OSError as error:
        raise SpawnFailed(f"cannot start {plan.argv[0]}: {error.strerror}") from error
    finally:
        os.close(log_fd)
    # It may have ended already: then nothing will ever be found alive under this identity.
    identity = identify(process.pid)
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return identity or ProcessIdentity(process.pid, "ended")

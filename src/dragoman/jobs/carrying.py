"""Carrying a run out in its runner: everything joined, done, and swept up, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dragoman.clients.claude_code import find_claude_code
from dragoman.clients.codex_program import find_codex
from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import revoke_secret
from dragoman.errors import DragomanError
from dragoman.jobs.endings import ENDING, hear_signals, no_result
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.inheritance import INHERITANCE_VARIABLE, TOKEN_VARIABLE, Inheritance
from dragoman.jobs.isolation import plan_isolation
from dragoman.jobs.relight import Relight
from dragoman.jobs.run import Surroundings, carry_out
from dragoman.jobs.usage import count_usage
from dragoman.process.locks import FileLock
from dragoman.process.tree import RUN_MARKER, become_subreaper, end_tree, run_marker
from dragoman.workers.base import Confine, Worker
from dragoman.workers.child import Reach
from dragoman.workers.claude import ClaudeWorker
from dragoman.workers.codex import CodexWorker
from dragoman.workspace import Workspace

# A cancel must have everything dead within ten seconds and one; a tenth of a second of that is ours.
_CANCEL_POLL_S = 0.1
# What validation commands left behind gets so long after SIGTERM.
_SWEEP_GRACE_S = 0.5


@dataclass(frozen=True)
class _Run:
    """One run, as its runner knows it."""

    folder: RunFolder
    request: RunRequest
    lock: FileLock
    token: str
    env: Mapping[str, str]
    home: Home
    relight: Relight


def carry_out_run(
    folder: RunFolder,
    request: RunRequest,
    lock: FileLock,
    inheritance: Inheritance,
    env: Mapping[str, str],
    told_to_end: list[int],
) -> dict[str, Any]:
    """Do what was asked and clean up behind it; never raises for what can be told in a result.

    Args:
        folder: the run's, with its lock held.
        request: what is asked.
        lock: what the worker inherits.
        inheritance: what the runner was handed.
        env: the runner's environment, with the run's token.
        told_to_end: fills when a signal to end comes.

    Returns:
        The run's result.
    """
    adopts = become_subreaper()
    run = _prepare(folder, request, lock, inheritance, env)
    try:
        return asyncio.run(_carry_out(run, adopts, told_to_end))
    except DragomanError as error:
        return no_result(request, error.code, error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - the one place where everything must become a result
        traceback.print_exc()  # into the runner's log, which holds no prompt: frames only
        reason = f"the runner failed: {type(error).__name__}"
        return no_result(request, "internal", reason, f"see {folder.log_file}")
    finally:
        hear_signals()  # asyncio has given them their default back, which would keep us from the last line
        with contextlib.suppress(OSError):
            revoke_secret(run.home, run.token)
        _sweep(run, adopts)


def _prepare(
    folder: RunFolder, request: RunRequest, lock: FileLock, inheritance: Inheritance, env: Mapping[str, str]
) -> _Run:
    home = resolve_home(env)
    if inheritance.config_file is not None:
        home = replace(home, config_file=Path(inheritance.config_file))
    return _Run(
        folder=folder,
        request=request,
        lock=lock,
        token=env.get(TOKEN_VARIABLE, ""),
        env=env,
        home=home,
        relight=Relight(home, request.gateway_url, inheritance.daemon_env or env),
    )


async def _carry_out(run: _Run, adopts: bool, told_to_end: list[int]) -> dict[str, Any]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, stop.set)
    if told_to_end:
        stop.set()
    watch = asyncio.create_task(_watch_cancel(run.folder, stop))
    since = time.time()
    isolation = plan_isolation(
        run.home,
        run.env,
        level=run.request.sandbox_level,
        read=run.request.sandbox_read,
        link_dirs=run.request.link_dirs,
        own_login=run.request.worker_login == "own",
    )
    opened: dict[str, Workspace] = {}
    confine = isolation.confine_worker(opened.__getitem__)
    try:
        around = Surroundings(
            worker=_worker(run, adopts, confine),
            token=run.token,
            env=_validation_environment(run),
            inherit_fds=(run.lock.fileno(),),
            usage=lambda: count_usage(run.home.spool, run.request.run_id, since=since),
            isolation=isolation,
            opened=opened,
            beside=run.relight.watch,
        )
        return await carry_out(run.folder, run.request, around, stop=stop)
    finally:
        watch.cancel()


def _worker(run: _Run, adopts: bool, confine: Confine | None) -> Worker:
    request, env = run.request, run.env
    reach = Reach(os.getpid() if adopts else None, run.relight.pids)
    match request.worker:
        case "claude":
            return ClaudeWorker(
                find_claude_code(request.worker_command, env),
                env,
                # The worker's own HOME is private; the user's is where toolchains are looked for.
                user_home=Path(env.get("HOME") or Path.home()),
                confine=confine,
                login=request.worker_login,
                reach=reach,
            )
        case "codex":
            if request.worker_login == "own":
                raise DragomanError(
                    "only Claude Code can work with the user's own login",
                    hint='set worker = "claude" or worker_login = "gateway" under [delegation]',
                    code="config_invalid",
                )
            return CodexWorker(find_codex(request.worker_command, env), env, confine=confine, reach=reach)


async def _watch_cancel(folder: RunFolder, stop: asyncio.Event) -> None:
    while not folder.cancel_file.exists():  # noqa: ASYNC110 - a file has no event to wait for
        await asyncio.sleep(_CANCEL_POLL_S)
    stop.set()


def _sweep(run: _Run, adopts: bool) -> None:
    """End what the run's commands left behind; the lock goes with the last of it."""
    end_tree(
        None,
        grace_s=_SWEEP_GRACE_S,
        marker=run_marker(run.request.run_id),
        adopted_by=os.getpid() if adopts else None,
        spare=tuple(run.relight.pids()),
    )


def _validation_environment(run: _Run) -> dict[str, str]:
    """Our own cleaned environment without the token; no bytecode caches in the user's future delta."""
    ours = (TOKEN_VARIABLE, INHERITANCE_VARIABLE)
    kept = {name: value for name, value in run.env.items() if name not in ours}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", RUN_MARKER: run.request.run_id}

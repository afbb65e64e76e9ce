"""The runner: the detached process that carries one run out and says how it ended, whatever happens.

Started as `python -m dragoman.jobs.runner RUN_FOLDER` with the run's token in its environment. It holds the
run's lock and hands it down to its worker, polls for the cancel file, looks after the gateway, and unlinks
its token at the end. Killed with -9 it leaves a folder that tells what happened (see `folder`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
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
from dragoman.errors import DragomanError, ExitCode
from dragoman.jobs.folder import RESULT_SCHEMA, RunFolder, RunRequest
from dragoman.jobs.isolation import plan_isolation
from dragoman.jobs.launch import INHERITANCE_VARIABLE, TOKEN_VARIABLE, Inheritance, take_inheritance
from dragoman.jobs.orphans import end_orphans
from dragoman.jobs.relight import Relight
from dragoman.jobs.run import Surroundings, carry_out
from dragoman.jobs.usage import count_usage
from dragoman.process.identity import own_identity
from dragoman.process.locks import FileLock, LockHeld
from dragoman.process.prctl import forbid_inspection
from dragoman.process.tree import RUN_MARKER, become_subreaper, end_tree, run_marker
from dragoman.workers.base import Confine, Worker
from dragoman.workers.child import Reach
from dragoman.workers.claude import ClaudeWorker
from dragoman.workers.codex import CodexWorker
from dragoman.workspace import Workspace

# A cancel must have everything dead within ten seconds and one; a tenth of a second of that is ours.
_CANCEL_POLL_S = 0.1
_ENDING = (signal.SIGTERM, signal.SIGINT)
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


def main(argv: list[str], env: Mapping[str, str] = os.environ) -> int:
    """Carry out the run whose folder is the one argument.

    Returns:
        0 when there is a result, 4 when another runner has the run.
    """
    told_to_end = _hear_signals()
    inheritance = take_inheritance(env)
    # Before a worker is there to look: our memory holds the daemon's environment, keys included.
    forbid_inspection()
    folder = RunFolder(Path(argv[0]))
    request = folder.request()
    lock = FileLock(folder.lock_file, note="runner")
    try:
        lock.acquire()
    except LockHeld as held:
        print(f"{held.message}: a run happens once", file=sys.stderr)  # noqa: T201 - the runner's log
        return ExitCode.CONFLICT
    if folder.result() is not None:
        return 0
    if not folder.mark_started(own_identity()):
        # An earlier runner died in the middle. What it did is not done a second time, and not hidden.
        end_orphans(folder)
        folder.finish(_no_result(request, "runner_crashed", "an earlier runner of this run was killed"))
        return 0
    adopts = become_subreaper()
    run = _prepare(folder, request, lock, inheritance, env)
    try:
        result = asyncio.run(_carry_out(run, adopts, told_to_end))
    except DragomanError as error:
        result = _no_result(request, error.code, error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - the one place where everything must become a result
        traceback.print_exc()  # into the runner's log, which holds no prompt: frames only
        reason = f"the runner failed: {type(error).__name__}"
        result = _no_result(request, "internal", reason, f"see {folder.log_file}")
    finally:
        _hear_signals()  # asyncio has given them their default back, which would keep us from the last line
        with contextlib.suppress(OSError):
            revoke_secret(run.home, run.token)
        _sweep(run, adopts)
    folder.finish(result)
    return 0


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


def _hear_signals() -> list[int]:
    """Write down what we are told to do instead of dying of it; the list fills when a signal comes."""
    told: list[int] = []
    for number in _ENDING:
        signal.signal(number, lambda number, frame: told.append(number))
    return told


async def _carry_out(run: _Run, adopts: bool, told_to_end: list[int]) -> dict[str, Any]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
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


def _no_result(request: RunRequest, code: str, message: str, hint: str | None = None) -> dict[str, Any]:
    """A result for a run of which nothing else is known."""
    return {
        "schema": RESULT_SCHEMA,
        "run_id": request.run_id,
        "job_id": request.job_id,
        "status": "failed",
        "error_code": code,
        "error": message,
        "next": hint,
        "retryable": code == "runner_crashed",
        "timed_out": False,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

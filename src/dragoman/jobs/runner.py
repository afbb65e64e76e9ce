"""The runner: the detached process that carries one run out and says how it ended, whatever happens.

Started as `python -m dragoman.jobs.runner RUN_FOLDER` with the run's token in its environment. It holds the
run's lock, polls for the cancel file, and unlinks its token at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from dragoman.clients.claude_code import find_claude_code
from dragoman.config.paths import resolve_home
from dragoman.config.tokens import revoke_secret
from dragoman.jobs.folder import RESULT_SCHEMA, RunFolder, RunRequest
from dragoman.jobs.launch import TOKEN_VARIABLE
from dragoman.jobs.run import Surroundings, carry_out
from dragoman.process.locks import FileLock, LockHeld
from dragoman.process.tree import become_subreaper
from dragoman.workers.claude import ClaudeWorker

# A cancel must have everything dead within ten seconds and one; a tenth of a second of that is ours.
_CANCEL_POLL_S = 0.1


def main(argv: list[str], env: Mapping[str, str] = os.environ) -> int:
    """Carry out the run whose folder is the one argument; 0 when a result was written."""
    folder = RunFolder(Path(argv[0]))
    request = folder.request()
    lock = FileLock(folder.lock_file, note="runner")
    try:
        lock.acquire()
    except LockHeld:
        return 0  # another runner has it: a run happens once
    if folder.result() is not None:
        return 0
    become_subreaper()
    token = env.get(TOKEN_VARIABLE, "")
    try:
        result = asyncio.run(_carry_out(folder, request, token, env))
    except Exception as error:  # noqa: BLE001 - the one place where everything must become a result
        traceback.print_exc()  # into the runner's log, which holds no prompt: frames only
        result = {
            "schema": RESULT_SCHEMA,
            "run_id": request.run_id,
            "status": "failed",
            "error_code": "internal",
            "error": f"the runner failed: {type(error).__name__}",
            "next": f"see {folder.log_file}",
        }
    finally:
        with contextlib.suppress(OSError):
            revoke_secret(resolve_home(env), token)
    folder.finish(result)
    return 0


async def _carry_out(
    folder: RunFolder, request: RunRequest, token: str, env: Mapping[str, str]
) -> dict[str, object]:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watch = asyncio.create_task(_watch_cancel(folder, stop))
    try:
        around = Surroundings(
            # The worker's own HOME is private; the user's is where toolchains are looked for.
            worker=ClaudeWorker(
                find_claude_code(request.worker_command, env),
                env,
                user_home=Path(env.get("HOME") or Path.home()),
            ),
            token=token,
            env=_validation_environment(env),
        )
        return await carry_out(folder, request, around, stop=stop)
    finally:
        watch.cancel()


async def _watch_cancel(folder: RunFolder, stop: asyncio.Event) -> None:
    while not folder.cancel_file.exists():  # noqa: ASYNC110 - a file has no event to wait for
        await asyncio.sleep(_CANCEL_POLL_S)
    stop.set()


def _validation_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Our own cleaned environment without the token; no bytecode caches in the user's future delta."""
    kept = {name: value for name, value in env.items() if name != TOKEN_VARIABLE}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

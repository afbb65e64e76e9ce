"""The runner: the detached process that carries one run out and says how it ended, whatever happens.

Started as `python -m dragoman.jobs.runner RUN_FOLDER` with the run's token in its environment. It holds the
run's lock and hands it down to its worker, polls for the cancel file, looks after the gateway, and unlinks
its token at the end. Killed with -9 it leaves a folder that tells what happened (see `folder`).

The run is taken up before most of the runner is imported (a quarter of a second of a processor): whoever
asked sees it start, and a second runner is refused, that much earlier.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.errors import ExitCode
from dragoman.jobs.endings import hear_signals, no_result
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.inheritance import Inheritance, take_inheritance
from dragoman.process.identity import own_identity
from dragoman.process.locks import FileLock, LockHeld
from dragoman.process.prctl import forbid_inspection


def main(argv: list[str], env: Mapping[str, str] = os.environ) -> int:
    """Carry out the run whose folder is the one argument.

    Returns:
        0 when there is a result, 4 when another runner has the run.
    """
    told_to_end = hear_signals()
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
        from dragoman.jobs.orphans import end_orphans

        # An earlier runner died in the middle. What it did is not done a second time, and not hidden.
        end_orphans(folder)
        folder.finish(no_result(request, "runner_crashed", "an earlier runner of this run was killed"))
        return 0
    folder.finish(_carried_out(folder, request, lock, inheritance, env, told_to_end))
    return 0


def _carried_out(
    folder: RunFolder,
    request: RunRequest,
    lock: FileLock,
    inheritance: Inheritance,
    env: Mapping[str, str],
    told_to_end: list[int],
) -> dict[str, Any]:
    try:
        from dragoman.jobs.carrying import carry_out_run
    except ImportError as error:  # an upgrade that is being installed right now
        reason = f"the runner cannot be loaded: {error.name or type(error).__name__}"
        return no_result(request, "internal", reason, "dragoman restart")
    return carry_out_run(folder, request, lock, inheritance, env, told_to_end)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

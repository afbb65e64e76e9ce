"""What a running job's folder says, and what follows: nothing, a start, an end, or a burial.

The folder is the truth about a run, the kernel's lock on it the truth about its runner. Both are looked at
whenever somebody asks after a job, not only when a process starts: no job stays `running` without a runner.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any, Literal

from dragoman.errors import DragomanError
from dragoman.jobs.folder import RESULT_SCHEMA, RunFolder
from dragoman.jobs.launch import RUNNER_VARIABLE
from dragoman.jobs.orphans import end_orphans
from dragoman.jobs.table import Job
from dragoman.process.identity import ProcessIdentity, is_alive
from dragoman.process.locks import FileLock, LockHeld, is_locked, read_holder
from dragoman.process.tree import Marker, end_tree, find_tree

Step = Literal["follow", "launch", "finish", "bury"]

# An orphan that ignores SIGTERM is gone a second later: a crash is told within five.
_ORPHAN_GRACE_S = 1.0
_LOCK_PATIENCE_S = 1.5
# A runner that has written its result only has to exit.
_EXIT_PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a run, in this order: a lock seen free before a result is missed is a dead runner.

    Attributes:
        locked: whether the run's lock is held, by the runner or by what inherited it.
        holder_alive: whether who wrote itself into the lock still runs; None when nobody did.
        result: how the run ended, None while it has not.
        result_age_s: seconds since that was written, by the wall clock.
        started: whether a runner ever took the run up.
        runner: the runner that was started, when that was written down.
        runner_alive: whether it still runs.
    """

    locked: bool
    holder_alive: bool | None
    result: dict[str, Any] | None
    result_age_s: float
    started: bool
    runner: ProcessIdentity | None
    runner_alive: bool


def look(folder: RunFolder, runner: ProcessIdentity | None, *, now: float | None = None) -> Sight:
    """See how a run stands; changes nothing.

    Args:
        folder: the run's.
        runner: the one that was written down.
        now: seconds since the epoch; the clock when None.
    """
    locked = is_locked(folder.lock_file)
    holder = read_holder(folder.lock_file)
    runner_alive = runner is not None and is_alive(runner)
    result = folder.result()
    age_s = 0.0
    if result is not None:
        with contextlib.suppress(FileNotFoundError):
            age_s = (time.time() if now is None else now) - folder.result_file.stat().st_mtime
    return Sight(
        locked=locked,
        holder_alive=None if holder is None else is_alive(holder.identity),
        runner=runner,
        runner_alive=runner_alive,
        started=folder.started_file.exists() or folder.events_file.exists() or holder is not None,
        result=result,
        result_age_s=age_s,
    )


def plan_step(sight: Sight) -> Step:
    """What follows from what was seen of a job that is `running`."""
    if sight.locked:
        if sight.result is not None and sight.result_age_s > _EXIT_PATIENCE_S:
            return "bury"
        # Its runner is dead and something of it lives on; or it is only just writing its name, or leaving.
        return "bury" if sight.holder_alive is False and not sight.runner_alive else "follow"
    if sight.result is not None:
        return "finish"
    if sight.runner_alive:
        return "follow"  # on its way to the lock, or on its way out
    if sight.started or sight.runner is not None:
        return "bury"
    return "launch"


def runner_of(job: Job) -> ProcessIdentity | None:
    """The runner that was written down for a job."""
    if job.runner_pid is None or job.runner_started_at is None:
        return None
    return ProcessIdentity(job.runner_pid, job.runner_started_at)


def find_runner(job: Job) -> ProcessIdentity | None:
    """A runner that was started and not written down: whoever started it was killed in between."""
    found = find_tree(None, marker=Marker(RUNNER_VARIABLE, job.run_id))
    return found[-1] if found else None


def bury(folder: RunFolder, job: Job) -> dict[str, Any] | None:
    """End what a dead runner left alive and write down how the run ended; blocks for three seconds at most.

    Its work is not lost: the workspace stays, and can be previewed.

    Returns:
        The result, or None when something holds the lock still: look again later.
    """
    end_orphans(folder, grace_s=_ORPHAN_GRACE_S)
    end_tree(None, grace_s=_ORPHAN_GRACE_S, marker=Marker(RUNNER_VARIABLE, job.run_id))
    lock = FileLock(folder.lock_file, note="burial")
    try:
        lock.acquire(timeout_s=_LOCK_PATIENCE_S)
    except LockHeld:
        return None
    except FileNotFoundError:
        return crashed_result(job, None)  # there is no folder, and there will be none
    with lock:
        result = folder.result()
        if result is None:
            result = crashed_result(job, folder)
            folder.finish(result)
        return result


def crashed_result(job: Job, folder: RunFolder | None) -> dict[str, Any]:
    """The result of a run whose runner died without writing one, with what it had told until then."""
    told = _last_told(folder) if folder is not None else {}
    workspace = told.get("workspace")
    return {
        "schema": RESULT_SCHEMA,
        "run_id": job.run_id,
        "status": "failed",
        "error_code": "runner_crashed",
        "error": "the runner ended without a result: it was killed, or the machine went down",
        "retryable": True,
        "next": f"dragoman apply {job.run_id} --preview" if workspace else "ask for the job again",
        "workspace": workspace,
        "phase": told.get("phase"),
    }


def failed_result(job: Job, error: DragomanError) -> dict[str, Any]:
    """The result of a job that could not be started."""
    return {
        "schema": RESULT_SCHEMA,
        "run_id": job.run_id,
        "status": "failed",
        "error_code": error.code,
        "error": error.message,
        "next": error.hint,
    }


def _last_told(folder: RunFolder) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for _, event in folder.events():
        match event.get("kind"):
            case "phase":
                told["phase"] = event.get("phase")
            case "workspace":
                told["workspace"] = {name: event.get(name) for name in ("id", "path", "base")}
            case _:
                pass
    return told

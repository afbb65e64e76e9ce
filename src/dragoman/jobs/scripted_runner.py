"""A runner of scripted behaviour, for tests.

The runner keeps the run folder's rules (lock, events, cancel file, result) and does no work; the task's
first line says how it behaves:

| first line | what happens |
| --- | --- |
| `do: success SECONDS` | a success after so long (0 by default) |
| `do: fail` | a failed result |
| `do: hang` | works until it is cancelled; then `worker_cancelled` |
| `do: orphan` | like `hang`, with a child in a session of its own that ignores SIGTERM and holds the lock |
| `do: die` | ends before it takes the lock |
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dragoman.jobs.folder import RESULT_SCHEMA, EventLog, RunFolder
from dragoman.process.locks import FileLock, LockHeld
from dragoman.process.tree import RUN_MARKER

_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def main(folder: RunFolder) -> None:
    """Be the scripted runner of a folder."""
    behaviour, *words = folder.request().packet.splitlines()[0].removeprefix("do:").split()
    if behaviour == "die":
        os._exit(1)
    lock = FileLock(folder.lock_file, note="runner")
    try:
        lock.acquire()
    except LockHeld:
        return
    log = EventLog(folder, time.time)
    # A note beside the run: how often a runner got as far as working is what "once" is about.
    with (folder.path / "worked").open("a") as file:
        file.write(f"{os.getpid()}\n")
    log.emit("phase", phase="preparing")
    log.emit("phase", phase="working")
    run_id = folder.path.name
    told: dict[str, object] = {"schema": RESULT_SCHEMA, "run_id": run_id, "error_code": None, "error": None}
    if behaviour == "orphan":
        subprocess.Popen(
            (sys.executable, "-c", _STUBBORN),
            env={"PATH": os.environ["PATH"], RUN_MARKER: run_id},
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )
        log.emit("worker", pid=0)
    if behaviour in ("hang", "orphan"):
        _until(folder.cancel_file.exists, 600.0)
        told |= {"status": "failed", "error_code": "worker_cancelled", "error": "cancelled"}
    elif behaviour == "fail":
        told |= {"status": "failed", "error_code": "provider_error", "error": "the provider said 529"}
    else:
        cancelled = _until(folder.cancel_file.exists, float(words[0]) if words else 0.0)
        code = "worker_cancelled" if cancelled else None
        told |= {"status": "failed" if cancelled else "success", "error_code": code}
    log.emit("phase", phase="done")
    folder.finish(told)


def _until(true: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(RunFolder(Path(sys.argv[1])))

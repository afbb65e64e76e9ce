"""What is put in order when a control process starts: rows against folders, tokens against runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from dragoman.config.paths import Home
from dragoman.config.tokens import TokenRecord, list_tokens, revoke
from dragoman.errors import DragomanError
from dragoman.jobs.folder import RunFolder
from dragoman.jobs.service import JobService
from dragoman.jobs.states import JobStatus
from dragoman.process.locks import is_locked

# A token is minted before there is a folder of its run; a younger one is left alone.
_NEWBORN_S = 120.0


def put_in_order(jobs: JobService) -> list[str]:
    """Correct what changed while nobody looked, and take up again what is under way.

    Returns:
        The ids of the jobs that were taken up.

    Raises:
        StoreUnavailable: the database does not answer; try again later.
    """
    jobs.settle()
    taken_up: list[str] = []
    for job in jobs.under_way():
        if job.status is JobStatus.RUNNING and jobs.engine is not None:
            jobs.engine.start(job.id)
            taken_up.append(job.id)
    alive = {job.run_id for job in jobs.under_way()}
    end_stray_tokens(jobs.home, alive, wall=jobs.wall)
    return taken_up


def end_stray_tokens(home: Home, alive: set[str], *, wall: Callable[[], float] = time.time) -> int:
    """End the tokens of runs that are over: their runner could not do it.

    Args:
        home: whose tokens.
        alive: runs that go on or will start.
        wall: seconds since the epoch.

    Returns:
        How many were ended.
    """
    ended = 0
    for record in list_tokens(home):
        if record.run is not None and record.run not in alive and _is_stray(home, record, wall()):
            try:
                revoke(home, record.id)
            except DragomanError:
                continue  # its runner did it in this moment
            ended += 1
    return ended


def _is_stray(home: Home, record: TokenRecord, now: float) -> bool:
    if record.is_expired(now):
        return True
    folder = RunFolder(home.runs / str(record.run))
    if is_locked(folder.lock_file):
        return False
    return folder.result_file.exists() or abs(now - record.created_at) > _NEWBORN_S

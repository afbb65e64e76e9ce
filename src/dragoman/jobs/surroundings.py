"""What a run is given from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from dragoman.jobs.isolation import Isolation
from dragoman.jobs.telling import Emit
from dragoman.workers.base import Worker
from dragoman.workspace import Workspace


@dataclass(frozen=True)
class Surroundings:
    """What a run is given from outside, so that a test can give something else.

    Attributes:
        worker: who works.
        token: the run's own gateway token.
        env: the environment of the validation commands.
        now: wall clock in seconds since 1970.
        inherit_fds: descriptors the worker keeps open: the run's lock.
        usage: what the gateway counted for this run so far, None when nobody knows.
        isolation: confines the validation commands, and says in the result what confines the worker; None
            for no confinement.
        opened: gets the workspace by the run's id, for who confines the worker.
        beside: runs for as long as the run does and may tell events of its own.
    """

    worker: Worker
    token: str
    env: Mapping[str, str]
    now: Callable[[], float] = time.time
    inherit_fds: tuple[int, ...] = ()
    usage: Callable[[], dict[str, Any] | None] | None = None
    isolation: Isolation | None = None
    opened: dict[str, Workspace] = field(default_factory=dict[str, Workspace])
    beside: Callable[[Emit], Coroutine[Any, Any, None]] | None = None

"""What every driver does alike: start a client for a task, hear it out, judge it, and try afresh once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from dragoman.process.identity import ProcessIdentity
from dragoman.process.spawn import SpawnFailed, SpawnPlan
from dragoman.process.tree import run_marker
from dragoman.workers.base import (
    Alive,
    ErrorCode,
    Notice,
    OnEvent,
    Spawned,
    WorkerOutcome,
    WorkerStatus,
    WorkerTask,
)
from dragoman.workers.child import ChildEnd, ChildPatience, Dialogue, Reach, run_child
from dragoman.workers.lines import LINE_LIMIT_BYTES, DroppedLine

# A client that only counts its thoughts is alive; a sign of it now and then is enough.
_ALIVE_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task made ready for one start of a client.

    Attributes:
        plan: the process, the run's marker and descriptors not yet in it.
        dialogue: what is said to it.
        judge: makes the outcome of how it ended.
    """

    plan: SpawnPlan
    dialogue: Dialogue
    judge: Callable[[ChildEnd], WorkerOutcome]


@dataclass(frozen=True, slots=True)
class Driver:
    """Carries tasks out with one client.

    Attributes:
        client: which one.
        version: as the client says.
        prepare: makes a task ready; may raise `WorkerSetupFailed`.
        confine: wraps the process into a sandbox.
        patience: how long each step of an end may take.
        reach: which other processes are ended with the worker's.
        line_limit_bytes: longest line of output that is read.
    """

    client: Literal["claude", "codex"]
    version: str
    prepare: Callable[[WorkerTask, OnEvent], Prepared]
    confine: Callable[[SpawnPlan, WorkerTask], SpawnPlan] | None = None
    patience: ChildPatience | None = None
    reach: Reach | None = None
    line_limit_bytes: int = LINE_LIMIT_BYTES

    async def run(self, task: WorkerTask, *, on_event: OnEvent, stop: asyncio.Event) -> WorkerOutcome:
        """Carry out one task; see `base.Worker.run`.

        A session that cannot be found is told as a notice, and the task is begun afresh once.
        """
        started = time.monotonic()
        outcome = await self._run_once(task, on_event, stop)
        if task.resume and outcome.error_code == "session_not_found" and not stop.is_set():
            on_event(Notice(code="session_not_found", text="the session to resume is gone; starting afresh"))
            left_s = max(1.0, task.timeout_s - (time.monotonic() - started))
            fresh = replace(task, resume=None, fork=False, timeout_s=left_s)
            outcome = await self._run_once(fresh, on_event, stop)
        return outcome

    async def _run_once(self, task: WorkerTask, on_event: OnEvent, stop: asyncio.Event) -> WorkerOutcome:
        if stop.is_set():
            return self._unstarted("stopped", "worker_cancelled", "stopped before it started")
        ready = self.prepare(task, on_event)
        marker = run_marker(task.run_id)
        plan = replace(
            ready.plan,
            env={**ready.plan.env, marker.name: marker.value},
            pass_fds=(*ready.plan.pass_fds, *task.inherit_fds),
        )
        if self.confine is not None:
            plan = self.confine(plan, task)

        def spawned(identity: ProcessIdentity) -> None:
            on_event(Spawned(pid=identity.pid, started_at=identity.started_at))

        try:
            end = await run_child(
                plan,
                _Listening(ready.dialogue, on_event),
                marker=marker,
                stop=stop,
                timeout_s=task.timeout_s,
                patience=self.patience,
                reach=self.reach,
                on_start=spawned,
                line_limit_bytes=self.line_limit_bytes,
            )
        except SpawnFailed as error:
            return self._unstarted("failed", "worker_start_failed", error.message)
        return ready.judge(end)

    def _unstarted(self, status: WorkerStatus, code: ErrorCode, message: str) -> WorkerOutcome:
        return WorkerOutcome(
            status=status,
            error_code=code,
            message=message,
            client=self.client,
            client_version=self.version,
        )


class _Listening:
    """A dialogue that also tells signs of life: lines that make no event of their own."""

    def __init__(self, inner: Dialogue, on_event: OnEvent) -> None:
        self.one_shot = inner.one_shot
        self._inner = inner
        self._tell = on_event
        self._told = time.monotonic()

    def opening(self) -> bytes:
        return self._inner.opening()

    def heard(self, line: bytes | DroppedLine) -> Iterable[bytes]:
        now = time.monotonic()
        if now - self._told >= _ALIVE_EVERY_S:
            self._told = now
            self._tell(Alive())
        return self._inner.heard(line)

    def interrupt(self) -> bytes:
        return self._inner.interrupt()

    @property
    def complete(self) -> bool:
        return self._inner.complete

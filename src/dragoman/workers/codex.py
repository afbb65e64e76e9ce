"""Codex as a worker: headless `codex exec --json`, private in its configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dragoman.clients.codex_program import Codex
from dragoman.process.spawn import SpawnFailed, SpawnPlan
from dragoman.process.tree import run_marker
from dragoman.workers.base import Confine, Notice, OnEvent, WorkerOutcome, WorkerSetupFailed, WorkerTask
from dragoman.workers.child import ChildPatience, run_child
from dragoman.workers.codex_config import (
    plan_command,
    plan_environment,
    sandbox_for,
    unenforced,
    write_private_config,
)
from dragoman.workers.codex_stream import CodexDialogue, judge
from dragoman.workers.lines import LINE_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class CodexWorker:
    """Runs tasks with one Codex; implements `base.Worker`.

    Codex has no rules for single paths and commands: without `confine` its own sandbox opens the whole
    folder (or nothing) for writing, and a notice says what is not enforced.

    Attributes:
        client: which Codex, from `find_codex`.
        env: the surroundings; only what `plan_environment` allows gets through.
        confine: wraps the process into a sandbox of ours and turns Codex's own off.
        patience: how long each step of an end may take.
        line_limit_bytes: longest line of output that is read.
    """

    client: Codex
    env: Mapping[str, str]
    confine: Confine | None = None
    patience: ChildPatience | None = None
    line_limit_bytes: int = LINE_LIMIT_BYTES

    async def run(self, task: WorkerTask, *, on_event: OnEvent, stop: asyncio.Event) -> WorkerOutcome:
        """Carry out one task; see `base.Worker.run`.

        Raises:
            WorkerSetupFailed: the task's folders cannot be used.
        """
        outcome = await self._run_once(task, on_event=on_event, stop=stop)
        if task.resume and outcome.error_code == "session_not_found" and not stop.is_set():
            on_event(Notice(code="session_not_found", text="the session to resume is gone; starting afresh"))
            outcome = await self._run_once(replace(task, resume=None), on_event=on_event, stop=stop)
        return outcome

    async def _run_once(self, task: WorkerTask, *, on_event: OnEvent, stop: asyncio.Event) -> WorkerOutcome:
        version = self.client.version_text
        if stop.is_set():
            return WorkerOutcome(
                status="stopped",
                error_code="worker_cancelled",
                message="stopped before it started",
                client="codex",
                client_version=version,
            )
        confined = self.confine is not None
        plan = self._plan(task, confined)
        for notice in unenforced(task, confined=confined):
            on_event(notice)
        assert plan.cwd is not None
        dialogue = CodexDialogue(task, version=version, cwd=plan.cwd, on_event=on_event)
        if self.confine is not None:
            plan = self.confine(plan, task)
        try:
            end = await run_child(
                plan,
                dialogue,
                marker=run_marker(task.run_id),
                stop=stop,
                timeout_s=task.timeout_s,
                patience=self.patience,
                line_limit_bytes=self.line_limit_bytes,
            )
        except SpawnFailed as error:
            return WorkerOutcome(
                status="failed",
                error_code="worker_start_failed",
                message=error.message,
                client="codex",
                client_version=version,
            )
        return judge(dialogue, end, task, version)

    def _plan(self, task: WorkerTask, confined: bool) -> SpawnPlan:
        try:
            cwd = task.cwd.resolve(strict=True)
            schema_file = write_private_config(task, sandbox_for(task, confined=confined))
        except OSError as error:
            raise WorkerSetupFailed(
                f"cannot prepare the worker in {task.cwd} and {task.config_folder}: {error.strerror}",
                hint="check that both folders exist and are yours",
            ) from error
        marker = run_marker(task.run_id)
        environment = plan_environment(task, self.env) | {marker.name: marker.value}
        return SpawnPlan(argv=plan_command(self.client, task, schema_file), env=environment, cwd=cwd)

"""Codex as a worker: headless `codex exec --json`, private in its configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from dragoman.clients.codex_program import Codex
from dragoman.process.spawn import SpawnPlan
from dragoman.workers.base import Confine, OnEvent, WorkerOutcome, WorkerSetupFailed, WorkerTask
from dragoman.workers.child import ChildPatience, Reach
from dragoman.workers.codex_config import (
    plan_command,
    plan_environment,
    sandbox_for,
    unenforced,
    write_private_config,
)
from dragoman.workers.codex_stream import CodexDialogue, judge
from dragoman.workers.drive import Driver, Prepared
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
        reach: which other processes are ended with the worker's.
        line_limit_bytes: longest line of output that is read.
    """

    client: Codex
    env: Mapping[str, str]
    confine: Confine | None = None
    patience: ChildPatience | None = None
    reach: Reach | None = None
    line_limit_bytes: int = LINE_LIMIT_BYTES

    async def run(self, task: WorkerTask, *, on_event: OnEvent, stop: asyncio.Event) -> WorkerOutcome:
        """Carry out one task; see `base.Worker.run`.

        Raises:
            WorkerSetupFailed: the task's folders cannot be used.
        """
        driver = Driver(
            client="codex",
            version=self.client.version_text,
            prepare=self._prepare,
            confine=self.confine,
            patience=self.patience,
            reach=self.reach,
            line_limit_bytes=self.line_limit_bytes,
        )
        return await driver.run(task, on_event=on_event, stop=stop)

    def _prepare(self, task: WorkerTask, on_event: OnEvent) -> Prepared:
        confined = self.confine is not None
        plan = self._plan(task, confined)
        for notice in unenforced(task, confined=confined):
            on_event(notice)
        assert plan.cwd is not None
        version = self.client.version_text
        dialogue = CodexDialogue(task, version=version, cwd=plan.cwd, on_event=on_event)
        return Prepared(plan, dialogue, lambda end: judge(dialogue, end, task, version))

    def _plan(self, task: WorkerTask, confined: bool) -> SpawnPlan:
        try:
            cwd = task.cwd.resolve(strict=True)
            schema_file = write_private_config(task, sandbox_for(task, confined=confined))
        except OSError as error:
            raise WorkerSetupFailed(
                f"cannot prepare the worker in {task.cwd} and {task.config_folder}: {error.strerror}",
                hint="check that both folders exist and are yours",
            ) from error
        environment = plan_environment(task, self.env)
        return SpawnPlan(argv=plan_command(self.client, task, schema_file), env=environment, cwd=cwd)

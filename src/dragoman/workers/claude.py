"""Claude Code as a worker: headless, confined by permission rules, private in its configuration."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from dragoman.clients.claude_code import ClaudeCode
from dragoman.clients.claude_environment import ClaudeLaunch, plan_worker_environment
from dragoman.process.spawn import SpawnPlan
from dragoman.workers.base import Confine, OnEvent, WorkerOutcome, WorkerSetupFailed, WorkerTask
from dragoman.workers.child import ChildEnd, ChildPatience, Reach
from dragoman.workers.claude_command import plan_command
from dragoman.workers.claude_outcome import ClaudeRun, judge
from dragoman.workers.claude_rules import ClaudeRules, plan_rules, plan_settings
from dragoman.workers.claude_stream import ClaudeDialogue
from dragoman.workers.drive import Driver, Prepared
from dragoman.workers.lines import LINE_LIMIT_BYTES
from dragoman.workers.own_login import open_own_login


@dataclass(frozen=True, slots=True)
class ClaudeWorker:
    """Runs tasks with one Claude Code; implements `base.Worker`.

    Attributes:
        client: which Claude Code, from `find_claude_code`.
        env: the surroundings; only what `plan_worker_environment` allows gets through.
        user_home: where the user's toolchains are looked for, None to look nowhere.
        confine: wraps the process into a sandbox; None starts it as it is.
        login: `gateway`, or `own` for the user's own login and endpoint (see `own_login`).
        scrub: have the client keep its token from the commands it runs. It wraps each of them into
            bubblewrap then, so not inside one of ours.
        patience: how long each step of an end may take.
        reach: which other processes are ended with the worker's.
        line_limit_bytes: longest line of output that is read.
    """

    client: ClaudeCode
    env: Mapping[str, str]
    user_home: Path | None = None
    confine: Confine | None = None
    login: Literal["gateway", "own"] = "gateway"
    scrub: bool = False
    patience: ChildPatience | None = None
    reach: Reach | None = None
    line_limit_bytes: int = LINE_LIMIT_BYTES

    async def run(self, task: WorkerTask, *, on_event: OnEvent, stop: asyncio.Event) -> WorkerOutcome:
        """Carry out one task; see `base.Worker.run`.

        Raises:
            WorkerSetupFailed: the task's folders cannot be used.
            RunIdInvalid: the task's run id cannot travel in a header.
        """
        driver = Driver(
            client="claude",
            version=self.client.version_text,
            prepare=self._prepare,
            confine=self.confine,
            patience=self.patience,
            reach=self.reach,
            line_limit_bytes=self.line_limit_bytes,
        )
        return await driver.run(task, on_event=on_event, stop=stop)

    def _prepare(self, task: WorkerTask, on_event: OnEvent) -> Prepared:
        cwd = _real_folder(task.cwd)
        rules = plan_rules(task, cwd=cwd)
        for notice in rules.notices:
            on_event(notice)
        dialogue = ClaudeDialogue(task, rules, cwd=cwd, on_event=on_event)

        def verdict(end: ChildEnd) -> WorkerOutcome:
            run = ClaudeRun(
                result=dialogue.result,
                api_error=dialogue.api_error,
                last_said=dialogue.last_said,
                session_id=dialogue.session_id,
                denials=dialogue.denials,
                client_version=dialogue.client_version or self.client.version_text,
                schema_asked=task.output_schema is not None,
                token=task.token,
            )
            return judge(run, end)

        return Prepared(self._plan(task, rules, cwd), dialogue, verdict)

    def _plan(self, task: WorkerTask, rules: ClaudeRules, cwd: Path) -> SpawnPlan:
        settings = _write_private_config(task.config_folder, rules)
        launch = ClaudeLaunch(
            gateway_url=task.gateway_url,
            token=task.token,
            run_id=task.run_id,
            model=task.model,
            config_folder=task.config_folder.resolve(),
            context_window=task.context_window,
            max_output_tokens=task.max_output_tokens,
            max_turns=task.max_turns,
            scrub=self.scrub,
            extra=task.environment,
        )
        environment = plan_worker_environment(launch, self.env, user_home=self.user_home)
        if self.login == "own":
            environment = open_own_login(environment, self.env, user_home=self.user_home or Path.home())
        argv = plan_command(self.client, task, rules, settings, user_settings=self.login == "own")
        return SpawnPlan(argv=argv, env=environment, cwd=cwd)


def _real_folder(folder: Path) -> Path:
    try:
        real = folder.resolve(strict=True)
    except OSError as error:
        raise WorkerSetupFailed(f"the folder to work in, {folder}, does not exist") from error
    if not real.is_dir():
        raise WorkerSetupFailed(f"{folder} is not a folder to work in")
    return real


def _write_private_config(folder: Path, rules: ClaudeRules) -> Path:
    """Make the run's private folders and its settings file; returns the file's real path."""
    try:
        for part in (folder, folder / "home", folder / "claude", folder / "tmp"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        settings = folder.resolve() / "settings.json"
        settings.unlink(missing_ok=True)
        descriptor = os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(plan_settings(rules)))
    except OSError as error:
        raise WorkerSetupFailed(
            f"cannot prepare the worker's private folder {folder}: {error.strerror}",
            hint="check that the disk has room and the folder is yours",
        ) from error
    return settings

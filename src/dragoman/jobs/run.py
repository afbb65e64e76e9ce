"""One attempt, from snapshot to result: prepare, observe, let the worker work, observe again, report.

Nothing here decides by what a worker claims. Order matters: the delta is fixed before the validation
commands run again, so that nothing they write can slip into what the user is asked to apply.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from dragoman.errors import DragomanError
from dragoman.jobs.claims import Difference, compare, read_claims
from dragoman.jobs.evidence import Observation, Verdict, observe, plan_command, run_command, verdict
from dragoman.jobs.folder import RESULT_SCHEMA, EventLog, RunFolder, RunRequest
from dragoman.jobs.packet import Packet, parse_packet
from dragoman.workers.base import (
    Alive,
    Denied,
    Notice,
    Retrying,
    Said,
    Spawned,
    Started,
    Thought,
    ToolAnswered,
    ToolCalled,
    Worker,
    WorkerEvent,
    WorkerOutcome,
    WorkerTask,
)
from dragoman.workspace import (
    Change,
    Delta,
    Repository,
    Workspace,
    baseline,
    create_workspace,
    delta,
    open_repository,
    settle,
    worktree_include,
)
from dragoman.workspace.fingerprint import Part, fingerprint

# A user commits, stages and switches branches while a worker works; nobody edits these by accident.
_NEVER_BY_A_USER_MEANWHILE: tuple[Part, ...] = ("config", "hooks")

Status = Literal["success", "partial", "failed", "needs_user"]

INSTRUCTIONS = """\
You carry out one bounded task in an isolated copy of a repository.
Another engineer planned it and will audit it.
Where the repository has a CLAUDE.md or an AGENTS.md, read it first: it is not loaded by itself.
Work only on the files the task allows. Do not commit, push or change configuration.
Run the validation commands exactly as the task spells them.
End with a short report of three parts:
Summary: one or two sentences.
Changed files: one bullet a file.
Commands run: one bullet a command, each with passed or failed.
"""


_SETUP_TIMEOUT_S = 600.0


class SetupFailed(DragomanError):
    """The user's setup command did not end well, so no worker was started."""

    code = "setup_failed"


@dataclass(frozen=True)
class Surroundings:
    """What a run is given from outside, so that a test can give something else.

    Attributes:
        worker: who works.
        token: the run's own gateway token.
        env: the environment of the validation commands.
        now: wall clock in seconds since 1970.
    """

    worker: Worker
    token: str
    env: Mapping[str, str]
    now: Callable[[], float] = time.time


async def carry_out(
    folder: RunFolder, request: RunRequest, around: Surroundings, *, stop: asyncio.Event
) -> dict[str, Any]:
    """Carry out one run and return its result; whatever goes wrong is a result too.

    Parameters:
        folder: where events and evidence go; the caller writes the result.
        request: what to do.
        around: worker, token, environment, clock.
        stop: set it to end the run; everything it started is then gone within eleven seconds.
    """
    log = EventLog(folder, around.now)
    attempt = _Attempt(folder, request, around, log, stop)
    try:
        result = await attempt.run()
    except DragomanError as error:
        result = attempt.failed(error.code, error.message, hint=error.hint)
    finally:
        log.close()
    return result


class _Attempt:
    """The state of one attempt; what is known so far is in the result, however it ends."""

    def __init__(
        self,
        folder: RunFolder,
        request: RunRequest,
        around: Surroundings,
        log: EventLog,
        stop: asyncio.Event,
    ) -> None:
        self._folder = folder
        self._request = request
        self._around = around
        self._log = log
        self._stop = stop
        self._started = time.monotonic()
        self._phases: dict[str, float] = {}
        self._known: dict[str, Any] = {}

    async def run(self) -> dict[str, Any]:
        packet = parse_packet(self._request.packet)
        with self._phase("preparing"):
            repository = await asyncio.to_thread(open_repository, Path(self._request.repository))
            before = await asyncio.to_thread(fingerprint, repository)
            workspace = await asyncio.to_thread(self._create_workspace, repository)
            workspace = await self._set_up(workspace)
        self._known["workspace"] = {
            "id": workspace.id,
            "path": str(workspace.path),
            "base": workspace.base,
            "head": workspace.head,
            "dirty": workspace.dirty,
        }
        self._log.emit("workspace", id=workspace.id, path=str(workspace.path), base=workspace.base)
        with self._phase("observing_before"):
            seen_before = await self._observe_before(packet, workspace)
        with self._phase("working"):
            outcome = await self._work(packet, workspace)
        with self._phase("delta"):
            changes = await asyncio.to_thread(delta, workspace)
            self._tell_delta(changes)
        seen_after: list[Observation] = []
        if not self._stop.is_set():
            with self._phase("observing_after"):
                seen_after = await self._observe(packet, "after", workspace.cwd)
        after = await asyncio.to_thread(fingerprint, repository)
        self._known["integrity"] = {"changed": before.differences(after)}
        return self._compose(outcome, changes, seen_before, seen_after)

    def failed(self, code: str, message: str, *, hint: str | None = None) -> dict[str, Any]:
        """The result of an attempt that could not go on."""
        return self._result("failed", error_code=code, error=message, next=hint)

    def _create_workspace(self, repository: Repository) -> Workspace:
        return create_workspace(
            repository,
            Path(self._request.state),
            id=self._request.run_id,
            dirty="committed" if self._request.dirty == "committed" else "snapshot",
            include=worktree_include(repository) if self._request.worktree_include else (),
        )

    async def _set_up(self, workspace: Workspace) -> Workspace:
        """Run the user's setup command, then take the base again: what it did is not the worker's doing.

        Raises:
            SetupFailed: it did not end well.
        """
        argv = list(self._request.setup_command)
        if not argv:
            return workspace
        seen = await run_command(
            shlex.join(argv),
            argv,
            cwd=workspace.cwd,
            environment=self._around.env,
            evidence=self._folder.evidence,
            name="setup",
            timeout_s=_SETUP_TIMEOUT_S,
            stop=self._stop,
        )
        self._log.emit("setup", observation=msgspec.to_builtins(seen))
        if seen.status != "passed":
            raise SetupFailed(
                f"the setup command `{seen.command}` {seen.reason or seen.status.replace('_', ' ')}",
                hint=f"see {self._folder.evidence / 'setup.txt'}",
            )
        return await asyncio.to_thread(settle, workspace)

    async def _observe_before(self, packet: Packet, workspace: Workspace) -> list[Observation]:
        """Run the validation commands on a throw-away clone of the base, never in the worker's."""
        if not packet.validation or self._stop.is_set():
            return []
        clone = baseline(workspace)
        tree = await asyncio.to_thread(clone.__enter__)
        try:
            return await self._observe(packet, "before", tree / workspace.prefix)
        finally:
            await asyncio.to_thread(clone.__exit__, None, None, None)

    async def _observe(self, packet: Packet, moment: str, cwd: Path) -> list[Observation]:
        seen: list[Observation] = []
        for number, command in enumerate(packet.validation, start=1):
            if self._stop.is_set():
                break
            observation = await observe(
                command,
                cwd=cwd,
                environment=self._around.env,
                evidence=self._folder.evidence,
                name=f"{moment}-{number}",
                stop=self._stop,
            )
            seen.append(observation)
            self._log.emit("evidence", moment=moment, observation=msgspec.to_builtins(observation))
        return seen

    async def _work(self, packet: Packet, workspace: Workspace) -> WorkerOutcome:
        request = self._request
        spent_s = time.monotonic() - self._started
        task = WorkerTask(
            prompt=packet.text,
            cwd=workspace.cwd,
            model=request.model,
            gateway_url=request.gateway_url,
            token=self._around.token,
            run_id=request.run_id,
            config_folder=self._folder.worker_config,
            editable=packet.allowed_files or ("**",),
            read_only=packet.role == "review",
            allowed_commands=tuple(c for c in packet.validation if plan_command(c)[1] is None),
            context_window=request.context_window,
            max_output_tokens=request.max_output_tokens,
            timeout_s=max(1.0, request.timeout_s - spent_s),
            instructions=INSTRUCTIONS,
        )
        return await self._around.worker.run(task, on_event=self._tell_worker, stop=self._stop)

    def _compose(
        self,
        outcome: WorkerOutcome,
        changes: Delta,
        seen_before: list[Observation],
        seen_after: list[Observation],
    ) -> dict[str, Any]:
        proof = verdict(seen_after)
        changed = [change.path for change in changes.changes]
        differences = compare(read_claims(outcome.text), changed, seen_after)
        self._log.emit("claims", differences=[msgspec.to_builtins(item) for item in differences])
        self._known["worker"] = {
            **msgspec.to_builtins(outcome),
            "model": self._request.model,
        }
        self._known["evidence"] = {
            "verdict": proof,
            "before": [msgspec.to_builtins(item) for item in seen_before],
            "after": [msgspec.to_builtins(item) for item in seen_after],
            "differences": [msgspec.to_builtins(item) for item in differences],
        }
        self._known["delta"] = {"files": [_file(change) for change in changes.changes]}
        if outcome.status != "finished":
            return self._result("failed", error_code=outcome.error_code, error=outcome.message)
        moved: tuple[Part, ...] = self._known["integrity"]["changed"]
        self._known["warnings"] = _warnings(proof, differences, changes, moved)
        if broken := [part for part in moved if part in _NEVER_BY_A_USER_MEANWHILE]:
            return self._result(
                "partial",
                error_code="isolation_violation",
                error=f"the repository's {' and '.join(broken)} changed while the worker worked",
                next="look at .git/config and .git/hooks before you use the repository again",
            )
        return self._result(*_judge(proof, differences))

    def _result(
        self,
        status: Status,
        error_code: str | None = None,
        error: str | None = None,
        next: str | None = None,
    ) -> dict[str, Any]:
        return {
            "schema": RESULT_SCHEMA,
            "run_id": self._request.run_id,
            "status": status,
            "error_code": error_code,
            "error": error,
            "next": next,
            "isolation": {"mode": "worktree", "level": "none", "permission_rules": True},
            **self._known,
            "phases_s": {name: round(seconds, 3) for name, seconds in self._phases.items()},
            "wall_s": round(time.monotonic() - self._started, 3),
        }

    def _phase(self, name: str) -> _Phase:
        self._log.emit("phase", phase=name)
        return _Phase(self._phases, name)

    def _tell_delta(self, changes: Delta) -> None:
        self._log.emit("delta", files=[_file(change) for change in changes.changes])

    def _tell_worker(self, event: WorkerEvent) -> None:
        emit = self._log.emit
        match event:
            case Spawned() | Alive():
                pass
            case Started():
                emit("worker_started", client="Claude Code", version=event.client_version, model=event.model)
            case Said():
                emit("said", text=event.text, subagent=event.subagent)
            case Thought():
                emit("thought", text=event.text, subagent=event.subagent)
            case ToolCalled():
                emit("tool", id=event.id, name=event.tool, summary=event.target)
            case ToolAnswered():
                emit("tool_result", id=event.id, name=event.tool, ok=event.ok)
            case Retrying():
                emit("retry", summary=f"{event.attempt} of {event.of}: {event.reason or event.status}")
            case Denied():
                emit("denied", name=event.tool, summary=event.target, reason=event.reason)
            case Notice():
                emit("notice", code=event.code, text=event.text)


class _Phase:
    """Times one phase."""

    def __init__(self, phases: dict[str, float], name: str) -> None:
        self._phases, self._name = phases, name

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._phases[self._name] = time.monotonic() - self._since


def _judge(proof: Verdict, differences: list[Difference]) -> tuple[Status, str | None, str | None]:
    """The status a finished worker's run gets, from evidence alone."""
    if proof == "failed":
        return "partial", "verification_failed", "a validation command fails after the work"
    lies = [item.text for item in differences if item.kind in ("file_not_changed", "command_claimed_passed")]
    if lies:
        return "partial", "claims_disproved", f"the worker's report is wrong: {lies[0]}"
    return "success", None, None


def _warnings(
    proof: Verdict, differences: list[Difference], changes: Delta, moved: tuple[Part, ...]
) -> list[str]:
    """What a reader of a successful result should still know."""
    found = [item.text for item in differences]
    if moved:
        found.append(
            f"the repository moved on while the worker worked ({', '.join(moved)}); apply will merge"
        )
    if not changes.changes:
        found.append("nothing was changed")
    if proof == "unproved":
        found.append("no validation command proves the result; see evidence for what was skipped and why")
    return found


def _file(change: Change) -> dict[str, Any]:
    return {
        "path": change.path,
        "status": change.status,
        "old_path": change.old_path,
        "added": change.added_lines,
        "removed": change.deleted_lines,
    }

"""One attempt, from snapshot to result: prepare, observe, let the worker work, observe again, report.

Nothing here decides by what a worker claims. Order matters: the delta is fixed before the validation
commands run again, so that nothing they write can slip into what the user is asked to apply.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from dragoman.errors import DragomanError
from dragoman.jobs.claims import CommandsSeen, compare
from dragoman.jobs.evidence import Observation, plan_command, verdict
from dragoman.jobs.folder import RESULT_SCHEMA, EventLog, RunFolder, RunRequest
from dragoman.jobs.guards import passable, worker_depth
from dragoman.jobs.isolation import UNCONFINED
from dragoman.jobs.lint import lint_run
from dragoman.jobs.packet import Packet, parse_packet
from dragoman.jobs.prepare import Preparation
from dragoman.jobs.proof import Proof
from dragoman.jobs.report import SCHEMAS, Kind, read_report
from dragoman.jobs.result import (
    Judgement,
    Observed,
    describe_change,
    describe_report,
    describe_usage,
    describe_worker,
    judge,
    warnings_of,
)
from dragoman.jobs.scope import changed_between, checkout_tree, outside_scope, plan_scope
from dragoman.jobs.surroundings import Surroundings as Surroundings
from dragoman.jobs.telling import tell
from dragoman.jobs.watch import Busy, EndReason, Watch, WatchPolicy
from dragoman.process.identity import ProcessIdentity
from dragoman.workers.base import Spawned, WorkerEvent, WorkerOutcome, WorkerTask
from dragoman.workspace import (
    Delta,
    Repository,
    Workspace,
    delta,
    open_repository,
)
from dragoman.workspace.fingerprint import Fingerprint, fingerprint

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

# A silent worker's job still shows that somebody looks after it.
_HEARTBEAT_S = 15.0
_WATCH_EVERY_S = 0.25
# The gateway's promise: a request's usage is on disk so long after its end; and a little more.
_USAGE_ON_DISK_S = 0.3

# What a job is said to be busy with while each part of a run is done; `working` says more by itself.
_PHASES = {
    "preparing": "preparing",
    "observing_before": "verifying",
    "delta": "observing",
    "observing_after": "verifying",
}


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
    beside = [asyncio.create_task(attempt.beat())]
    if around.beside is not None:
        beside.append(asyncio.create_task(around.beside(log.emit)))
    try:
        result = await attempt.run()
    except DragomanError as error:
        result = attempt.failed(error.code, error.message, hint=error.hint)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        attempt.close()
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
        self._seconds: dict[str, float] = {}
        self._phase = "preparing"
        self._known: dict[str, Any] = {}
        self._warnings: list[str] = []
        self._watch: Watch | None = None
        self._commands = CommandsSeen()
        self._preparation = Preparation(folder, request, around.env, log.emit, stop)

    async def run(self) -> dict[str, Any]:
        packet = parse_packet(self._request.packet)
        kind: Kind = self._request.kind or ("review" if packet.role == "review" else "implement")
        around, validation = self._around, self._validation(packet)
        proof = Proof(self._folder, validation, around.env, around.isolation, self._log.emit, self._stop)
        with self._part("preparing"):
            repository = await asyncio.to_thread(open_repository, Path(self._request.repository))
            before = await asyncio.to_thread(fingerprint, repository)
            workspace = await self._preparation.workspace(repository)
            if (isolation := self._around.isolation) is not None:
                await asyncio.to_thread(isolation.prepare, workspace)
                self._warnings += [isolation.protection.warning] if isolation.protection.warning else []
            patterns = self._request.allowed_files or packet.allowed_files or ("**",)
            scope = plan_scope(patterns, workspace.path, workspace.prefix) if kind == "implement" else ()
            unconfined = isolation is None or isolation.protection.level == "none"
            checkout = await asyncio.to_thread(checkout_tree, repository, workspace) if unconfined else None
            resume = await self._preparation.session(workspace)
            self._warnings += self._preparation.warnings
        self._tell_workspace(workspace)
        self._tell_lint(packet, kind, scope, workspace)
        with self._part("observing_before"):
            seen_before = await proof.before(workspace)
        with self._part("working"):
            outcome, ended_for = await self._work(packet, kind, workspace, scope, resume)
        worked_until = time.monotonic()
        report = read_report(kind, outcome.text, outcome.structured_output)
        self._folder.keep_report(outcome.text)
        self._known["worker"] = describe_worker(outcome, self._request.model)
        self._known["report"] = describe_report(report, outcome.text, self._folder.report_file.name)
        self._known["session"] = self._session(outcome, resume)
        with self._part("delta"):
            changes = await asyncio.to_thread(delta, workspace)
            self._tell_delta(changes)
            strayed = outside_scope(changes.changes, scope)
            trespassed = await asyncio.to_thread(self._trespassed, repository, workspace, checkout)
        self._known["scope"] = {"allowed": scope, "out_of_scope": strayed}
        self._known["isolation_violations"] = trespassed
        with self._part("observing_after"):
            seen_after = await proof.after(workspace)
        await self._tell_usage(outcome, worked_until)
        seen = Observed(
            writes=kind == "implement",
            outcome=outcome,
            ended_for=ended_for,
            report=report,
            changes=changes,
            proof=verdict(seen_after),
            differences=compare(
                report.claims,
                [change.path for change in changes.changes],
                seen_after,
                seen_commands=self._commands,
            ),
            moved=await asyncio.to_thread(self._moved, repository, before),
            max_changed_files=self._request.max_changed_files,
            out_of_scope=strayed,
            trespassed=trespassed,
        )
        self._tell_evidence(seen, seen_before, seen_after)
        self._warnings += warnings_of(seen, asked_for_form=self._request.structured)
        return self._result(judge(seen))

    async def beat(self) -> None:
        """Tell every few seconds that the run is looked after, and how long the worker has been silent."""
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            watch = self._watch
            self._log.emit(
                "heartbeat",
                phase=self._phase,
                quiet_s=None if watch is None else round(watch.quiet_s, 1),
                tool=None if watch is None else watch.tool,
            )

    def failed(self, code: str, message: str, *, hint: str | None = None) -> dict[str, Any]:
        """The result of an attempt that could not go on."""
        return self._result(Judgement("failed", code, message, hint))

    def close(self) -> None:
        """Let go of the run this one went on from."""
        self._preparation.close()

    def _validation(self, packet: Packet) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*packet.validation, *self._request.validation)))

    async def _work(
        self,
        packet: Packet,
        kind: Kind,
        workspace: Workspace,
        scope: tuple[str, ...],
        resume: str | None,
    ) -> tuple[WorkerOutcome, EndReason | None]:
        """Let the worker work under watch; how it ended, and for what the watch ended it."""
        request = self._request
        self._around.opened[request.run_id] = workspace
        spent_s = time.monotonic() - self._started
        any_command = self._around.isolation is not None and self._around.isolation.any_command
        task = WorkerTask(
            prompt=packet.text,
            cwd=workspace.cwd,
            model=request.model,
            gateway_url=request.gateway_url,
            token=self._around.token,
            run_id=request.run_id,
            config_folder=self._folder.worker_config,
            editable=scope,
            scope_root=workspace.path,
            read_only=kind != "implement",
            readable_dirs=tuple(Path(root) for root in request.context_roots),
            allowed_commands=tuple(
                command
                for command in self._validation(packet)
                if plan_command(command, any_command=any_command)[1] is None
            ),
            context_window=request.context_window,
            max_output_tokens=request.max_output_tokens,
            max_turns=request.max_turns,
            timeout_s=max(1.0, request.timeout_s - spent_s),
            resume=resume,
            fork=resume is not None and request.fork_session,
            instructions=INSTRUCTIONS,
            output_schema=SCHEMAS[kind] if request.structured else None,
            environment=self._passed_on() | worker_depth(),
            inherit_fds=(*self._around.inherit_fds, *self._preparation.held_fds),
        )
        watch = self._watch = Watch(
            WatchPolicy(stall_warning_s=request.stall_warning_s, stall_end_s=request.stall_end_s),
            on_busy=self._turn_to,
        )
        enough = asyncio.Event()
        if self._stop.is_set():
            enough.set()
        watching = asyncio.create_task(self._watch_worker(watch, enough))
        try:
            outcome = await self._around.worker.run(task, on_event=self._tell_worker, stop=enough)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            self._watch = None
        # A worker that ended by itself in the same moment ended by itself.
        return outcome, watch.end_reason if outcome.status == "stopped" and not self._stop.is_set() else None

    def _passed_on(self) -> dict[str, str]:
        """What of our surroundings the configuration passes on to the worker."""
        env = self._around.env
        passed, held = passable(self._request.env_passthrough)
        if held:
            self._warnings.append(f"not passed on to the worker, for their names: {', '.join(held)}")
        return {name: env[name] for name in passed if name in env}

    async def _watch_worker(self, watch: Watch, enough: asyncio.Event) -> None:
        """Set `enough` when the run is to stop or the watch has seen enough."""
        while not self._stop.is_set():
            match watch.look():
                case "warn":
                    self._log.emit("stalled", quiet_s=round(watch.quiet_s, 1))
                case "end":
                    self._log.emit("ended", reason=watch.end_reason, quiet_s=round(watch.quiet_s, 1))
                    break
                case None:
                    pass
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _WATCH_EVERY_S)
        enough.set()

    def _trespassed(
        self, repository: Repository, workspace: Workspace, before: str | None
    ) -> tuple[str, ...]:
        """Files of the user's checkout that changed meanwhile; not looked for where nobody could."""
        if before is None:
            return ()
        after = checkout_tree(repository, workspace)
        return changed_between(workspace, before, after, git=repository.git)

    def _moved(self, repository: Repository, before: Fingerprint) -> Any:
        moved = before.differences(fingerprint(repository))
        self._known["integrity"] = {"changed": moved}
        return moved

    def _session(self, outcome: WorkerOutcome, resume: str | None) -> dict[str, Any]:
        return {
            "id": outcome.session_id,
            "resumed_run": self._request.resume_run,
            "requested_id": resume,
            "resumed": resume is not None and outcome.session_id == resume,
            "forked": resume is not None and self._request.fork_session and outcome.session_id != resume,
        }

    def _result(self, judgement: Judgement) -> dict[str, Any]:
        return {
            "schema": RESULT_SCHEMA,
            "run_id": self._request.run_id,
            "job_id": self._request.job_id,
            "status": judgement.status,
            "error_code": judgement.error_code,
            "error": judgement.error,
            "next": judgement.next,
            "retryable": judgement.retryable,
            "timed_out": judgement.error_code == "worker_timeout",
            "isolation": self._around.isolation.told() if self._around.isolation else dict(UNCONFINED),
            **self._known,
            "warnings": self._warnings,
            "phases_s": {name: round(seconds, 3) for name, seconds in self._seconds.items()},
            "wall_s": round(time.monotonic() - self._started, 3),
        }

    @contextlib.contextmanager
    def _part(self, name: str) -> Generator[None]:
        """Tell and time one part of the run."""
        self._phase = _PHASES.get(name, "model")
        self._log.emit("phase", phase=self._phase, part=name)
        since = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = time.monotonic() - since

    def _turn_to(self, busy: Busy) -> None:
        if busy != self._phase:
            self._phase = busy
            self._log.emit("phase", phase=busy, part="working")

    def _tell_workspace(self, workspace: Workspace) -> None:
        self._known["workspace"] = {
            "id": workspace.id,
            "path": str(workspace.path),
            "base": workspace.base,
            "head": workspace.head,
            "dirty": workspace.dirty,
        }
        self._log.emit("workspace", id=workspace.id, path=str(workspace.path), base=workspace.base)

    def _tell_lint(self, packet: Packet, kind: Kind, scope: tuple[str, ...], workspace: Workspace) -> None:
        isolation = self._around.isolation
        self._known["lint"] = lint_run(
            replace(packet, validation=self._validation(packet)),
            scope if self._request.allowed_files or packet.allowed_files else (),
            tree=workspace.path,
            writes=kind == "implement",
            any_command=isolation is not None and isolation.any_command,
        )
        if self._known["lint"]:
            self._log.emit("lint", remarks=self._known["lint"])

    def _tell_delta(self, changes: Delta) -> None:
        files = [describe_change(change) for change in changes.changes]
        self._known["delta"] = {"files": files}
        self._log.emit("delta", files=files)

    def _tell_evidence(self, seen: Observed, before: list[Observation], after: list[Observation]) -> None:
        differences = [msgspec.to_builtins(item) for item in seen.differences]
        self._log.emit("claims", differences=differences)
        self._known["evidence"] = {
            "verdict": seen.proof,
            "before": [msgspec.to_builtins(item) for item in before],
            "after": [msgspec.to_builtins(item) for item in after],
            "differences": differences,
        }

    async def _tell_usage(self, outcome: WorkerOutcome, worked_until: float) -> None:
        counted = None
        if self._around.usage is not None:
            await asyncio.sleep(max(0.0, worked_until + _USAGE_ON_DISK_S - time.monotonic()))
            counted = await asyncio.to_thread(self._around.usage)
        self._known["gateway_usage"] = counted
        self._known["usage"] = describe_usage(outcome, counted)

    def _tell_worker(self, event: WorkerEvent) -> None:
        if isinstance(event, Spawned):
            self._folder.note_worker(ProcessIdentity(event.pid, event.started_at))
        if self._watch is not None:
            self._watch.heard(event)
        self._commands.heard(event)
        tell(event, self._log.emit, client=self._request.worker)

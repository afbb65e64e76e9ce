"""What every worker is given, what it says while it works, and what it gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from dragoman.errors import DragomanError
from dragoman.process.spawn import SpawnPlan

# Names a worker may never read, wherever they lie; a workspace leaves them out anyway.
DENIED_READS = (".env", ".env.local", ".env.*.local", ".env.production", ".env.development")


@dataclass(frozen=True, slots=True)
class WorkerTask:
    """One task for one worker.

    Attributes:
        prompt: what to do, as the worker reads it.
        cwd: the folder to work in, normally a workspace.
        model: model name as the gateway knows it.
        gateway_url: `http://127.0.0.1:PORT`.
        token: the run's own token.
        run_id: names the run to the gateway and marks every process of it.
        config_folder: private folder of this run; made 0700 when it is missing. A session can be resumed
            only with the same folder and the same cwd.
        editable: what may be written, relative to `scope_root`: a file (which need not exist yet), a folder,
            or a glob in gitignore's language (`src/**`, `*.json`). Empty: nothing.
        scope_root: the folder `editable` is relative to, which may be read whole; `cwd` when None.
        read_only: nothing may be written, whatever `editable` says.
        readable_dirs: folders outside `cwd` that may be read.
        allowed_commands: exact command lines the worker may run besides the client's read-only ones.
        denied_reads: names or globs that may not be read, in gitignore's language.
        context_window: tokens the model can hold, None when unknown.
        max_output_tokens: ceiling of one answer in tokens, None when unknown.
        max_turns: model calls allowed, None for no limit.
        timeout_s: wall-clock limit in seconds.
        resume: id of a session to go on with.
        fork: go on in a copy of that session, under a new id.
        instructions: added to the client's own system prompt.
        output_schema: JSON Schema the final answer must fit, or None.
        environment: further variables of the worker's environment.
        inherit_fds: descriptors the worker and all it starts keep open, such as the run's lock.
    """

    prompt: str
    cwd: Path
    model: str
    gateway_url: str
    token: str = field(repr=False)
    run_id: str
    config_folder: Path
    editable: tuple[str, ...] = ("**",)
    scope_root: Path | None = None
    read_only: bool = False
    readable_dirs: tuple[Path, ...] = ()
    allowed_commands: tuple[str, ...] = ()
    denied_reads: tuple[str, ...] = DENIED_READS
    context_window: int | None = None
    max_output_tokens: int | None = None
    max_turns: int | None = None
    timeout_s: float = 1800.0
    resume: str | None = None
    fork: bool = False
    instructions: str | None = None
    output_schema: Mapping[str, Any] | None = None
    environment: Mapping[str, str] | None = None
    inherit_fds: tuple[int, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something a worker did; texts are cut to a few kilobytes."""


class Spawned(Event, frozen=True, kw_only=True, tag="spawned"):
    """The client's process is there; with these two it can be found again (see `process.identity`)."""

    pid: int
    started_at: str


class Alive(Event, frozen=True, kw_only=True, tag="alive"):
    """The client printed something that is no event of its own; told every few seconds at most."""


class Started(Event, frozen=True, kw_only=True, tag="started"):
    """The client is up and has a session."""

    session_id: str
    model: str
    tools: tuple[str, ...] = ()
    client_version: str = ""


class Said(Event, frozen=True, kw_only=True, tag="said"):
    """Text of the worker; `subagent` tells that it is not the main worker's."""

    text: str
    subagent: bool = False


class Thought(Event, frozen=True, kw_only=True, tag="thought"):
    """Reasoning the client shows."""

    text: str
    subagent: bool = False


class ToolCalled(Event, frozen=True, kw_only=True, tag="tool_called"):
    """The worker calls a tool; `target` is its path (relative to the cwd when inside), command or pattern."""

    id: str
    tool: str
    target: str = ""
    subagent: bool = False


class ToolAnswered(Event, frozen=True, kw_only=True, tag="tool_answered"):
    """A tool has answered the call `id`."""

    id: str
    tool: str = ""
    ok: bool = True
    text: str = ""


class Retrying(Event, frozen=True, kw_only=True, tag="retrying"):
    """The client asks the model again after a failure."""

    attempt: int
    of: int
    delay_ms: int
    status: int | None = None
    reason: str = ""


class Denied(Event, frozen=True, kw_only=True, tag="denied"):
    """A tool call was refused by the permission rules."""

    id: str
    tool: str
    target: str = ""
    reason: str = ""


class Notice(Event, frozen=True, kw_only=True, tag="notice"):
    """Something about the run itself worth telling; `code` is stable."""

    code: str
    text: str


WorkerEvent = (
    Spawned | Alive | Started | Said | Thought | ToolCalled | ToolAnswered | Retrying | Denied | Notice
)

WorkerStatus = Literal["finished", "failed", "stopped", "timed_out"]

ErrorCode = Literal[
    "provider_error",
    "session_not_found",
    "worker_auth",
    "worker_budget",
    "worker_cancelled",
    "worker_context_exceeded",
    "worker_crashed",
    "worker_max_turns",
    "worker_no_output",
    "worker_refused",
    "worker_start_failed",
    "worker_timeout",
    "worker_truncated",
]


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one model as the client counts them; the gateway's ledger is the truth."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    context_window: int | None = None


class PermissionDenial(msgspec.Struct, frozen=True, kw_only=True):
    """One refused tool call."""

    id: str
    tool: str
    target: str = ""


class WorkerOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended, by what was observed and not by what the worker claims.

    Attributes:
        status: `finished` means a complete, non-empty answer and a clean exit, nothing less.
        text: the worker's final words, whole; with a failure, whatever it said last.
        error_code: why it is not finished.
        message: the same as a sentence for the user.
        provider_status: HTTP status behind a `provider_error`, when known.
        retryable: whether the same task may well succeed later.
        session_id: to resume it.
        turns: turns as the client counts them.
        usage: by model name; empty when the client reported none.
        permission_denials: every refused call that was seen (the first hundreds).
        structured_output: the answer that fits `output_schema`, or None.
        duration_ms: wall clock from start to the last process gone.
        exit_code: of the client; negative for a signal; None when it never started.
        client: `claude` or `codex`.
        client_version: as the client says.
        survivors: processes that could not be ended (normally 0).
    """

    status: WorkerStatus
    text: str = ""
    error_code: ErrorCode | None = None
    message: str = ""
    provider_status: int | None = None
    retryable: bool = False
    session_id: str | None = None
    turns: int = 0
    usage: dict[str, ModelUsage] = {}
    permission_denials: tuple[PermissionDenial, ...] = ()
    structured_output: Any = None
    duration_ms: int = 0
    exit_code: int | None = None
    client: str = ""
    client_version: str = ""
    survivors: int = 0


OnEvent = Callable[[WorkerEvent], None]

# Wraps a worker's process into a sandbox.
Confine = Callable[[SpawnPlan, WorkerTask], SpawnPlan]


class WorkerSetupFailed(DragomanError):
    """A worker's private folder or its workspace cannot be used."""

    code = "worker_start_failed"


class Worker(Protocol):
    """An agent that carries out one task at a time."""

    async def run(self, task: WorkerTask, *, on_event: OnEvent, stop: asyncio.Event) -> WorkerOutcome:
        """Carry the task out to its end, whatever the end.

        Args:
            task: what to do.
            on_event: called for everything worth showing, in order, from the event loop's thread.
            stop: set it to have the worker and everything it started gone within eleven seconds.

        Returns:
            The outcome; a worker that fails, hangs, floods or dies is an outcome, not an exception.
        """
        ...

"""The run folder: what one run leaves on disk, and the only truth about what happened in it.

| file | written by | holds |
| --- | --- | --- |
| `request.json` | whoever starts the run | what was asked: packet, repository, model, gateway address |
| `lock` | the runner | held while the runner or a child of it lives |
| `events.jsonl` | the runner | one JSON object a line, in order |
| `cancel` | whoever wants it ended | empty; the runner polls for it |
| `evidence/` | the runner | whole outputs of the validation commands |
| `worker/` | the worker | its private client configuration |
| `result.json` | the runner, once, by rename | how it ended |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from dragoman.errors import DragomanError

RESULT_SCHEMA = "dragoman.run.v1"


class RunFolderInvalid(DragomanError):
    """A run folder that cannot be read."""

    code = "run_not_found"
    http_status = 404


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a runner is asked to do; `request.json`.

    Attributes:
        run_id: the run's name, also the workspace's id.
        packet: the task packet as text.
        repository: absolute path of the user's repository.
        state: absolute path of the state folder that holds workspaces and trash.
        model: the model name the worker asks the gateway for.
        gateway_url: base address of the gateway, such as `http://127.0.0.1:4891`.
        worker_command: path of the client to run, or None to look for it.
        dirty: what uncommitted changes of the user mean for the base.
        timeout_s: the whole run's time.
        context_window, max_output_tokens: of the model, when known.
        worktree_include: copy what the repository's `.worktreeinclude` names.
        setup_command: arguments of a command run in the new workspace before its base is taken.
        job_id: the job this is an attempt of.
        kind: what the worker is: `implement` may write, `query` and `review` may not; None follows the
            packet's role.
        worker: which client works.
        allowed_files: what may be written, relative to the repository's top; empty follows the packet.
        validation: command lines that prove the result, besides the packet's own.
        context_roots: absolute folders outside the repository that may be read.
        max_turns: model calls allowed, None for no limit.
        max_cost_usd: money the run may spend, None for no limit.
        max_changed_files: changed files above which the result is `partial`; None for no limit.
        resume_run: the earlier run whose session is gone on with.
        fork_session: go on in a copy of that session and leave it as it was.
        security_profile: how much the worker may run besides the client's read-only commands.
    """

    run_id: str
    packet: str
    repository: str
    state: str
    model: str
    gateway_url: str
    worker_command: str | None = None
    dirty: str = "snapshot"
    timeout_s: float = 900.0
    context_window: int | None = None
    max_output_tokens: int | None = None
    worktree_include: bool = False
    setup_command: tuple[str, ...] = ()
    job_id: str | None = None
    kind: Literal["query", "review", "implement"] | None = None
    worker: Literal["claude", "codex"] = "claude"
    allowed_files: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    context_roots: tuple[str, ...] = ()
    max_turns: int | None = None
    max_cost_usd: float | None = None
    max_changed_files: int | None = None
    resume_run: str | None = None
    fork_session: bool = False
    security_profile: Literal["strict", "default", "permissive"] = "default"


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def request_file(self) -> Path:
        return self.path / "request.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def cancel_file(self) -> Path:
        return self.path / "cancel"

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    @property
    def evidence(self) -> Path:
        return self.path / "evidence"

    @property
    def worker_config(self) -> Path:
        return self.path / "worker"

    @property
    def log_file(self) -> Path:
        return self.path / "runner.log"

    def create(self, request: RunRequest) -> None:
        """Make the folder (0700) and write the request.

        Raises:
            FileExistsError: a run of this name exists.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)
        _write_private(self.request_file, msgspec.json.format(msgspec.json.encode(request)))

    def request(self) -> RunRequest:
        """Read what was asked.

        Raises:
            RunFolderInvalid: there is no such run, or its request cannot be read.
        """
        try:
            return msgspec.json.decode(self.request_file.read_bytes(), type=RunRequest)
        except (OSError, msgspec.MsgspecError) as error:
            raise RunFolderInvalid(
                f"the run {self.path.name} cannot be read: {type(error).__name__}",
                hint="dragoman jobs list",
            ) from error

    def cancel(self) -> None:
        """Ask the runner to end; harmless when it has ended."""
        self.cancel_file.touch(mode=0o600, exist_ok=True)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, all or nothing: a reader never sees half of it."""
        temporary = self.path / f".result-{os.getpid()}"
        _write_private(temporary, msgspec.json.format(msgspec.json.encode(result)))
        temporary.replace(self.result_file)

    def result(self) -> dict[str, Any] | None:
        """How the run ended, or None while it has not."""
        try:
            return msgspec.json.decode(self.result_file.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            return None

    def events(self, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Events from a byte offset on, each with the offset behind it; a torn last line waits."""
        try:
            stream = self.events_file.open("rb")
        except FileNotFoundError:
            return
        with stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield offset, msgspec.json.decode(line, type=dict[str, Any])


class EventLog:
    """Appends events to `events.jsonl`, one write a line, numbered and timed.

    Parameters:
        folder: where to write.
        now: wall clock in seconds since 1970.
    """

    def __init__(self, folder: RunFolder, now: Callable[[], float]) -> None:
        self._descriptor = os.open(folder.events_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._now = now
        self._number = 0

    def emit(self, kind: str, **fields: Any) -> None:
        """Append one event of this kind."""
        self._number += 1
        event = {"n": self._number, "at": round(self._now(), 3), "kind": kind, **fields}
        os.write(self._descriptor, msgspec.json.encode(event) + b"\n")

    def close(self) -> None:
        os.close(self._descriptor)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())

"""The run folder: what one run leaves on disk, and the only truth about what happened in it.

| file | written by | holds |
| --- | --- | --- |
| `request.json` | whoever starts the run | what was asked: packet, repository, model, gateway address |
| `lock` | the runner | locked while the runner or anything it started lives: its worker inherits the lock |
| `started` | the runner, once | who it is; with no result and a free lock it says that the runner has died |
| `worker.json` | the runner | the process of the worker: pid and start time, to find it without its runner |
| `events.jsonl` | the runner | one JSON object a line, in order; `heartbeat` comes when nothing else does |
| `cancel` | whoever wants it ended | empty; the runner polls for it |
| `evidence/` | the runner | whole outputs of the validation commands |
| `worker/` | the worker | its private client configuration and its sessions |
| `report.md` | the runner | the worker's final words, whole |
| `result.json` | the runner, once, by rename | how it ended |
| `runner.log` | the runner | what it printed; normally nothing |

Whoever finds a run again (see `reconcile`) reads them in this order: the lock (held: it runs, or an orphan of
it does), then `result.json` (there: it has ended), then `started` (there: its runner died; never start a
worker a second time). Orphans are ended by `orphans.end_orphans`, which frees the lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from dragoman.errors import DragomanError
from dragoman.process.identity import ProcessIdentity

RESULT_SCHEMA = "dragoman.run.v1"

# A worker that never stops talking fills no disk: beyond this its words are no longer written down, and
# beyond twice this nothing of it is.
EVENTS_LIMIT_BYTES = 32 * 1024 * 1024
_WORDY = frozenset({"said", "thought"})
_OF_THE_WORKER = frozenset({"said", "thought", "tool", "tool_result", "retry", "denied", "notice", "phase"})


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
        structured: ask for the final report in the form of the worker's role, too (see `report`).
        stall_warning_s: silence of a worker with no tool at work after which it is told; 0 for never.
        stall_end_s: such a silence after which the worker is ended; 0 for never.
        worker_login: `gateway`, or `own` for the user's own login and endpoint, network open.
        env_passthrough, link_dirs, sandbox_level, sandbox_read: as the configuration says.
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
    structured: bool = False
    stall_warning_s: float = 120.0
    stall_end_s: float = 1200.0
    worker_login: Literal["gateway", "own"] = "gateway"
    env_passthrough: tuple[str, ...] = ()
    link_dirs: tuple[str, ...] = ()
    sandbox_level: Literal["best", "bubblewrap", "landlock", "none"] = "best"
    sandbox_read: tuple[str, ...] = ()


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
    def started_file(self) -> Path:
        return self.path / "started"

    @property
    def worker_file(self) -> Path:
        return self.path / "worker.json"

    @property
    def report_file(self) -> Path:
        return self.path / "report.md"

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

    def mark_started(self, runner: ProcessIdentity) -> bool:
        """Write down that a runner took the run up; False when one had done so before."""
        try:
            descriptor = os.open(self.started_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.encode(runner))
        return True

    def note_worker(self, worker: ProcessIdentity) -> None:
        """Write down which process the worker is, all or nothing."""
        self._replace(self.worker_file, msgspec.json.encode(worker))

    def worker(self) -> ProcessIdentity | None:
        """The process of the worker started last, whether it lives or not; None when none was started."""
        try:
            return msgspec.json.decode(self.worker_file.read_bytes(), type=ProcessIdentity)
        except (OSError, msgspec.MsgspecError):
            return None

    def keep_report(self, text: str) -> None:
        """Keep the worker's final words, whole."""
        _write_private(self.report_file, text.encode("utf-8", "replace"))

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, all or nothing: a reader never sees half of it."""
        self._replace(self.result_file, msgspec.json.format(msgspec.json.encode(result)))

    def _replace(self, path: Path, content: bytes) -> None:
        temporary = self.path / f".{path.name}-{os.getpid()}"
        _write_private(temporary, content)
        temporary.replace(path)

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
        limit_bytes: from there on the worker's words are left out.
    """

    def __init__(
        self, folder: RunFolder, now: Callable[[], float], *, limit_bytes: int = EVENTS_LIMIT_BYTES
    ) -> None:
        self._descriptor = os.open(folder.events_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._now = now
        self._limit_bytes = limit_bytes
        self._number = 0
        self._size_bytes = 0
        self._limited = False

    def emit(self, kind: str, **fields: Any) -> None:
        """Append one event of this kind; much too many of them are left out, which is told once."""
        if self._size_bytes >= self._limit_bytes and kind in _WORDY:
            if not self._limited:
                self._limited = True
                megabytes = self._limit_bytes / 1e6
                self._write(
                    "events_limited", {"text": f"after {megabytes:.0f} MB its words are left out here"}
                )
            return
        if self._size_bytes >= 2 * self._limit_bytes and kind in _OF_THE_WORKER:
            return
        self._write(kind, fields)

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        self._number += 1
        event = {"n": self._number, "at": round(self._now(), 3), "kind": kind, **fields}
        line = msgspec.json.encode(event) + b"\n"
        self._size_bytes += len(line)
        os.write(self._descriptor, line)

    def close(self) -> None:
        os.close(self._descriptor)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())

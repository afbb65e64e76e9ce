"""What a client asks for when it asks for a job."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from dragoman.jobs.states import JobKind

Text = Annotated[str, msgspec.Meta(max_length=4096)]
Priority = Annotated[int, msgspec.Meta(ge=0, le=9)]


class Asker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asked.

    Attributes:
        client: such as `codex`, `claude`, `cli`.
        thread: the client's own conversation.
    """

    client: Text | None = None
    thread: Text | None = None


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job as a client asks for it; everything but `task` and `cwd` may be left out.

    Attributes:
        task: the packet, or plain words.
        cwd: absolute path of a folder in the repository; a symlink or a subfolder is the same repository.
        kind: `implement` may write, `query` and `review` may not.
        allowed_files: what may be written, relative to the repository's top; empty follows the packet.
        files: files the worker should look at first.
        instruction_files: files of the repository whose text the worker must follow.
        constraints: rules the worker must keep.
        diff: a patch to review.
        context_roots: absolute folders outside the repository that may be read.
        model: the model to work with; the configuration's when None.
        worker: which client works; the configuration's when None.
        dirty_policy: what uncommitted changes of the user mean for the base.
        timeout_s: the longest the run may take; the configuration's when None.
        max_turns, max_cost_usd, max_changed_files: limits; None for none.
        verification_commands: command lines that prove the result, besides the packet's own.
        resume_job: id of an earlier job whose session is gone on with.
        fork_session: go on in a copy of that session and leave it as it was.
        security_profile: how much the worker may run besides the client's read-only commands.
        priority: 0 is first, 9 last.
        when_busy: what to do when the repository has its full number of writes: wait in the queue, or tell
            which job is in the way and make none.
        side_by_side: neither counts for nor waits for the repository's write limit (batch, best-of-N).
        goal_item_id, supersedes_run_id: names of the lead's own, kept with the job.
        nonce: makes a job different from an equal one that is queued or running.
        asker: who asked; equal jobs of two askers are one.
    """

    task: str
    cwd: Text
    kind: JobKind = "implement"
    allowed_files: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    instruction_files: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    diff: str | None = None
    context_roots: tuple[str, ...] = ()
    model: Text | None = None
    worker: Literal["claude", "codex"] | None = None
    dirty_policy: Literal["committed", "snapshot"] = "snapshot"
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    max_turns: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_cost_usd: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_changed_files: Annotated[int, msgspec.Meta(ge=0)] | None = None
    verification_commands: tuple[str, ...] = ()
    resume_job: Text | None = None
    fork_session: bool = False
    security_profile: Literal["strict", "default", "permissive"] = "default"
    priority: Priority = 5
    when_busy: Literal["queue", "tell"] = "queue"
    side_by_side: bool = False
    goal_item_id: Text | None = None
    supersedes_run_id: Text | None = None
    nonce: Text | None = None
    asker: Asker = Asker()

    @property
    def writes(self) -> bool:
        """Whether the worker may change files."""
        return self.kind == "implement"

    @property
    def limited(self) -> bool:
        """Whether the repository's write limit is for this job."""
        return self.writes and not self.side_by_side


def packet_of(request: JobRequest) -> str:
    """The packet as the worker reads it: the task, then what was asked for beside it, as sections."""
    parts = [request.task.rstrip()]
    parts += _section("Allowed files", [f"`{path}`" for path in request.allowed_files])
    parts += _section("Relevant files", [f"`{path}`" for path in request.files])
    parts += _section("Instructions to read first", [f"`{path}`" for path in request.instruction_files])
    parts += _section("Constraints", list(request.constraints))
    parts += _section("Validation commands", [f"`{line}`" for line in request.verification_commands])
    if request.diff:
        # A fence no line of the diff can close: what it quotes must open no section of its own.
        longest = max((len(run) for run in re.findall("`+", request.diff)), default=0)
        fence = "`" * max(3, longest + 1)
        parts.append(f"## Diff to look at\n\n{fence}diff\n{request.diff.rstrip()}\n{fence}")
    return "\n\n".join(parts) + "\n"


def _section(title: str, items: list[str]) -> list[str]:
    return [f"## {title}\n\n" + "\n".join(f"- {item}" for item in items)] if items else []

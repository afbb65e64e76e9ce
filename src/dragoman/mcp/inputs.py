"""The tools' arguments as data, checked by their names and types before anything is looked at."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from dragoman.errors import DragomanError
from dragoman.mcp.modes import Requested

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
DirtyPolicy = Literal["ask", "committed", "snapshot"]
# The most that may be asked for in one blocking call, as the seed has it.
LONGEST_WAIT_S = 540
# Below every client's own limit for one call (Codex 0.163: 300 s; others 60 s), with room to answer.
DEFAULT_WAIT_S = 25


class InvalidInput(DragomanError):
    """An argument that is not known, missing or of the wrong type."""

    code = "invalid_input"
    http_status = 400


class _Input(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    cwd: str | None = None


class SetupInput(_Input, kw_only=True):
    """`claude_setup`."""

    configure_allow_root: bool = False


class ContextRoot(msgspec.Struct, forbid_unknown_fields=True):
    """A folder beside the repository that may be read."""

    cwd: str
    alias: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")] = ""


class TaskInput(_Input, kw_only=True):
    """`claude_task`; `files` and `background` are old names for `allowed_files` and `wait_strategy`."""

    task: str | None = None
    mode: Requested = "auto"
    allowed_files: tuple[str, ...] | None = None
    files: tuple[str, ...] = ()
    constraints: str | tuple[str, ...] | None = None
    diff: str | None = None
    verification_commands: Annotated[tuple[str, ...], msgspec.Meta(max_length=10)] = ()
    instruction_files: tuple[str, ...] = ()
    context_roots: tuple[ContextRoot, ...] = ()
    model: Name | None = None
    dirty_policy: DirtyPolicy = "ask"
    max_changed_files: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    resume_latest: bool = False
    wait_strategy: Literal["block", "background"] | None = None
    wait_timeout_sec: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_WAIT_S)] | None = None
    timeout_sec: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    job_id: Name | None = None
    reviewed_run_id: Name | None = None
    reviewed_worktree_path: Name | None = None
    security_profile: Literal["strict", "default", "permissive"] = "default"
    sensitive_file_policy: Literal["default", "strict", "off"] = "default"
    goal_item_id: Name | None = None
    supersedes_run_id: Name | None = None
    background: bool | None = None

    @property
    def blocks(self) -> bool:
        """Whether the caller wants to be answered only when the job is over."""
        return self.wait_strategy == "block" or (self.wait_strategy is None and self.background is False)


class JobWaitInput(_Input, kw_only=True):
    """`claude_job_wait`; `not_before` only repeats what an earlier answer recommended."""

    job_id: Name
    wait_timeout_sec: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_WAIT_S)] = DEFAULT_WAIT_S
    not_before: Any = None


class ResultInput(_Input, kw_only=True):
    """`claude_result`."""

    job_id: Name | None = None
    run_id: Name | None = None
    prefer: Literal["latest-job", "latest-run", "latest-implement", "latest-review"] = "latest-job"


class ApplyInput(_Input, kw_only=True):
    """`claude_apply`."""

    worktree_path: Name
    preview: bool = False
    preview_token: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")] | None = None
    confirmed_by_user: bool = False
    paths: tuple[str, ...] = ()
    cleanup: bool = False
    include_patch: bool = False
    patch_max_bytes: Annotated[int, msgspec.Meta(ge=1024, le=500_000)] = 60_000
    background: bool | None = None


class CleanupInput(_Input, kw_only=True):
    """`claude_cleanup`."""

    older_than_hours: Annotated[float, msgspec.Meta(ge=0)] = 24.0
    dry_run: bool = True
    background: bool | None = None


Input = TypeVar("Input", bound=_Input)


def read_input(kind: type[Input], tool: str, arguments: dict[str, Any] | None) -> Input:
    """Check arguments and give them their types.

    Raises:
        InvalidInput: says which argument, and for an unknown one which there are.
    """
    try:
        return msgspec.convert(arguments or {}, kind)
    except msgspec.ValidationError as error:
        text = str(error)
    known = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
    if found := re.search(r"unknown field `(.+?)`", text):
        raise InvalidInput(f"{tool} has no argument {found.group(1)[:80]!r}; it takes {known}")
    if found := re.search(r"missing required field `(.+?)`", text):
        raise InvalidInput(f"{tool} needs the argument {found.group(1)!r}; it takes {known}")
    raise InvalidInput(f"{tool}: {text[:300].replace('`$.', '`').replace('`$`', 'the arguments')}")

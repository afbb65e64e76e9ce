"""What the tools are: names, inputs, and what is true of each.

Every word here is paid for by the lead in every conversation, so descriptions say only what a model could not
guess from a name. The inputs are those of `codex-claude` 0.1.18 and of its 0.1.3, so that instructions
written for either still work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

SERVER_NAME = "claude_delegate"
INSTRUCTIONS = (
    "Delegate bounded tasks to Claude Code. Writes happen in an isolated copy: claude_task, claude_job_wait, "
    "then claude_apply preview=true, show the user, claude_apply with preview_token and confirmed_by_user. "
    "While a job runs, wait for it; never start it twice."
)

TOOLS_FILE = Path(__file__).with_name("tools.json")

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}


class Tool(NamedTuple):
    """One tool.

    Attributes:
        name: as a client calls it.
        description: for the model.
        properties: its inputs but for `cwd`, which every tool takes: the client's own when left out.
        read_only: it changes nothing.
        destructive: it may remove or overwrite what a user has.
        idempotent: asked twice is asked once.
        open_world: a model provider is asked.
        required: inputs it cannot do without.
    """

    name: str
    description: str
    properties: dict[str, Schema]
    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool
    required: tuple[str, ...] = ()

    def input_schema(self) -> Schema:
        """JSON Schema of its arguments."""
        required = {"required": list(self.required)} if self.required else {}
        return {
            "type": "object",
            "properties": {"cwd": _TEXT, **self.properties},
            **required,
            "additionalProperties": False,
        }

    def as_listed(self) -> dict[str, Any]:
        """The tool as `tools/list` names it."""
        return {
            "name": self.name,
            "description": self.description,
            "inputSchema": self.input_schema(),
            "annotations": {
                "readOnlyHint": self.read_only,
                "destructiveHint": self.destructive,
                "idempotentHint": self.idempotent,
                "openWorldHint": self.open_world,
            },
        }


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _number(minimum: int, maximum: int) -> Schema:
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


DEFAULT_TOOLS: tuple[Tool, ...] = (
    Tool(
        name="claude_setup",
        description="Check that delegation works here; each problem comes with its fix.",
        properties={"configure_allow_root": _FLAG},
        # With configure_allow_root it adds a line to the user's own configuration.
        read_only=False,
        destructive=False,
        idempotent=True,
        open_world=False,
    ),
    Tool(
        name="claude_task",
        description=(
            "Give Claude Code one bounded task. auto picks read, review or write and says why. Returns at "
            "once; follow with claude_job_wait. With job_id: the state of that job. Writes need "
            "allowed_files or name their files in the task."
        ),
        properties={
            "task": _TEXT,
            "mode": _one_of("auto", "read", "review", "write"),
            "allowed_files": _TEXTS,
            "constraints": _TEXT,
            "diff": _TEXT,
            "verification_commands": _TEXTS,
            "instruction_files": _TEXTS,
            "context_roots": {
                "type": "array",
                "items": {"type": "object", "properties": {"alias": _TEXT, "cwd": _TEXT}},
            },
            "model": _TEXT,
            "dirty_policy": _one_of("ask", "committed", "snapshot"),
            "max_changed_files": {"type": "integer"},
            "resume_latest": _FLAG,
            "wait_strategy": _one_of("block", "background"),
            "wait_timeout_sec": {"type": "integer"},
            "timeout_sec": {"type": "integer"},
            "job_id": _TEXT,
            "reviewed_run_id": _TEXT,
            "reviewed_worktree_path": _TEXT,
            "security_profile": _one_of("strict", "default", "permissive"),
            "sensitive_file_policy": _one_of("default", "strict", "off"),
            "goal_item_id": _TEXT,
            "supersedes_run_id": _TEXT,
            "background": _FLAG,
            "files": _TEXTS,
        },
        # The user's own files are untouched until claude_apply, whatever the worker does in its copy.
        read_only=False,
        destructive=False,
        idempotent=True,
        open_world=True,
    ),
    Tool(
        name="claude_job_wait",
        description="Wait for a job, 25 s at most; 0 asks without blocking. Call again while it runs.",
        properties={"job_id": _TEXT, "wait_timeout_sec": _number(0, 540), "not_before": _TEXT},
        read_only=True,
        destructive=False,
        idempotent=True,
        open_world=False,
        required=("job_id",),
    ),
    Tool(
        name="claude_result",
        description="The result of a job or run; the latest by default.",
        properties={
            "job_id": _TEXT,
            "run_id": _TEXT,
            "prefer": _one_of("latest-job", "latest-run", "latest-implement", "latest-review"),
        },
        read_only=True,
        destructive=False,
        idempotent=True,
        open_world=False,
    ),
    Tool(
        name="claude_apply",
        description=(
            "preview=true shows the three-way merge and gives preview_token; then, once the user agreed, "
            "apply it with that token. All or nothing."
        ),
        properties={
            "worktree_path": _TEXT,
            "preview": _FLAG,
            "preview_token": _TEXT,
            "confirmed_by_user": _FLAG,
            "paths": _TEXTS,
            "cleanup": _FLAG,
            "include_patch": _FLAG,
            "patch_max_bytes": _number(1024, 500000),
            "background": _FLAG,
        },
        read_only=False,
        destructive=True,
        idempotent=True,
        open_world=False,
        required=("worktree_path",),
    ),
    Tool(
        name="claude_cleanup",
        description="Move worktrees that are no longer needed to the trash; unapplied work is kept.",
        properties={
            "older_than_hours": {"type": "number"},
            "dry_run": {"type": "boolean", "default": True},
            "background": _FLAG,
        },
        read_only=False,
        destructive=True,
        idempotent=True,
        open_world=False,
    ),
)


def tools_document(tools: tuple[Tool, ...] = DEFAULT_TOOLS) -> str:
    """The content of `tools.json`: what the shim answers to `initialize` and `tools/list` with."""
    document = {
        "server": SERVER_NAME,
        "instructions": INSTRUCTIONS,
        "tools": [tool.as_listed() for tool in tools],
    }
    return json.dumps(document, indent=1) + "\n"


def tool_named(name: str) -> Tool | None:
    """The tool of this name, or None."""
    return next((tool for tool in DEFAULT_TOOLS if tool.name == name), None)


if __name__ == "__main__":
    TOOLS_FILE.write_text(tools_document())

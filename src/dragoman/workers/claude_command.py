"""The command line of a headless Claude Code and the first thing it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from dragoman.clients.claude_code import ClaudeCode
from dragoman.workers.base import WorkerTask
from dragoman.workers.claude_rules import COMMAND_TOOL, ClaudeRules

HOOK_ID = "exact_commands"

# The client expands `@path` (reading any file of the disk, whatever the rules say) and runs `/commands` in
# the last text block of a message only (2.1.197, 2.1.329), so the task is never the last one.
LAST_WORDS = "Carry out the task above and finish with your report."


def plan_command(
    client: ClaudeCode, task: WorkerTask, rules: ClaudeRules, settings: Path, *, user_settings: bool = False
) -> tuple[str, ...]:
    """The argument list; the task itself goes through standard input.

    Args:
        client: which Claude Code.
        task: `model`, `resume`, `fork`, `instructions`, `output_schema` are used.
        rules: what it may do.
        settings: the run's own settings file, already written.
        user_settings: read the user's own settings too: their endpoint may stand there.
    """
    argv = [
        str(client.path),
        "-p",
        "--verbose",
        "--input-format=stream-json",
        "--output-format=stream-json",
        f"--model={task.model}",
        f"--tools={','.join(rules.tools)}",
        # `default` would ask and wait; dontAsk denies at once and exists in every measured version.
        "--permission-mode=dontAsk",
        f"--settings={settings}",
        # No source but ours: neither the user's nor the repository's settings, hooks and servers run.
        f"--setting-sources={'user' if user_settings else ''}",
        "--strict-mcp-config",
        "--disable-slash-commands",
    ]
    if client.features.safe_mode and not user_settings:
        argv.append("--safe-mode")
    if client.features.permission_prompts and not rules.commands_by_hook:
        argv.append("--permission-prompts=none")
    if task.resume:
        argv.append(f"--resume={task.resume}")
        if task.fork:
            argv.append("--fork-session")
    if task.instructions:
        argv.append(f"--append-system-prompt={task.instructions}")
    if task.output_schema is not None:
        argv.append(f"--json-schema={msgspec.json.encode(task.output_schema).decode()}")
    return tuple(argv)


def opening_lines(task: WorkerTask, rules: ClaudeRules) -> bytes:
    """What standard input gets first: a hook if one is needed, then the task."""
    lines: list[dict[str, Any]] = []
    if rules.commands_by_hook:
        hook = {"matcher": COMMAND_TOOL, "hookCallbackIds": [HOOK_ID]}
        lines.append(control_request("initialize", subtype="initialize", hooks={"PreToolUse": [hook]}))
    content = [{"type": "text", "text": task.prompt}, {"type": "text", "text": LAST_WORDS}]
    lines.append({"type": "user", "message": {"role": "user", "content": content}})
    return b"".join(encode_line(line) for line in lines)


def control_request(request_id: str, **request: Any) -> dict[str, Any]:
    """A request of ours in the client's control protocol."""
    return {"type": "control_request", "request_id": request_id, "request": request}


def encode_line(message: dict[str, Any]) -> bytes:
    """One message as one line."""
    return msgspec.json.encode(message) + b"\n"

"""What Claude Code tells by itself: hooks that drop one file an event into a private folder.

A file an event, moved into place whole: two hooks at once cannot mix their bytes, whatever their size, and
what was read is deleted, so nothing grows. The folder is not the session folder: the lead's sandbox may
write there, and must not be able to tell us that a turn has ended.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import msgspec

from dragoman.config.files import ensure_private_folder, write_private_file

# Measured in 2.1.329 and 2.1.197; unknown names are ignored by Claude Code. Notification comes 6 s late.
EVENTS = (
    "SessionStart",
    "SessionEnd",
    "UserPromptSubmit",
    "PermissionRequest",
    "PostToolUse",
    "Stop",
    "StopFailure",
    "SubagentStart",
    "SubagentStop",
    "PostCompact",
)
# The tool's whole answer is of no use to us, and may be large.
_MAX_BYTES = 8 << 20
# Seconds Claude Code lets a hook run; ours takes milliseconds.
_HOOK_TIMEOUT = 10

_DROP = """\
#!/bin/sh
# Moves what Claude Code says about a turn into place, whole.
cat >"$1/.$$" && exec mv "$1/.$$" "$1/$$.json"
exit 0
"""


class BackgroundTask(msgspec.Struct, frozen=True):
    """Something that runs on after a turn."""

    id: str = ""
    type: str = ""
    status: str = ""
    description: str = ""


class Hook(msgspec.Struct, frozen=True):
    """One event.

    Attributes:
        at: when its file was written, seconds since the epoch.
    """

    hook_event_name: str
    session_id: str = ""
    transcript_path: str | None = None
    prompt_id: str | None = None
    prompt: str | None = None
    source: str | None = None
    reason: str | None = None
    agent_id: str | None = None
    tool_name: str | None = None
    tool_input: dict[str, Any] | None = None
    last_assistant_message: str | None = None
    background_tasks: tuple[BackgroundTask, ...] | None = None
    error: str | None = None
    at: float = 0.0

    @property
    def live_agents(self) -> bool:
        """Whether subagents run on: then this Stop is not the end, Claude Code goes on by itself.

        2.1.329 runs subagents in the background. A shell (a development server) is not waited for.
        """
        tasks = self.background_tasks or ()
        return any(task.type != "shell" and task.status in ("running", "pending") for task in tasks)

    @property
    def self_started(self) -> bool:
        """Whether this prompt came from Claude Code itself, because something in the background ended."""
        return (self.prompt or "").lstrip().startswith("<task-notification>")


def install_hooks(folder: Path) -> dict[str, Any]:
    """Make the folder events are dropped into; return the settings that make Claude Code do so.

    Args:
        folder: private to the bridge.

    Returns:
        A value for `--settings`: our hooks beside the user's own, and no mode in which a classifier instead
        of the human allows tools (2.1.329 starts in it when the user has chosen none).
    """
    events = folder / "events"
    ensure_private_folder(events)
    script = folder / "drop-event"
    write_private_file(script, _DROP.encode())
    command = f"/bin/sh {shlex.quote(str(script))} {shlex.quote(str(events))}"
    hook = {"type": "command", "command": command, "timeout": _HOOK_TIMEOUT}
    return {
        "hooks": {name: [{"hooks": [hook]}] for name in EVENTS},
        "permissions": {"disableAutoMode": "disable"},
    }


class HookInbox:
    """Reads and removes what hooks dropped.

    Args:
        folder: the folder given to `install_hooks`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "events"
        self.seen_any = False

    def take(self) -> list[Hook]:
        """What was dropped since the last time, oldest first."""
        found: list[tuple[int, Path]] = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".json"):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)))
        except OSError:
            return []
        hooks: list[Hook] = []
        for at, path in sorted(found):
            hook = _read(path, at / 1e9)
            if hook is not None:
                hooks.append(hook)
                self.seen_any = True
        return hooks


def read_hook(content: bytes, at: float) -> Hook | None:
    """One event from what Claude Code wrote; None when it is not one."""
    try:
        return msgspec.structs.replace(msgspec.json.decode(content, type=Hook), at=at)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        # A field changed its type: keep the name of the event, which matters most.
        raw: dict[str, Any] = json.loads(content)
        return Hook(str(raw["hook_event_name"]), at=at, prompt_id=str(raw.get("prompt_id") or "") or None)
    except (ValueError, KeyError, TypeError):
        return None


def _read(path: Path, at: float) -> Hook | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        content = file.read(_MAX_BYTES)
    path.unlink(missing_ok=True)
    return read_hook(content, at)

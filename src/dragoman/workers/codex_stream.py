"""Read what `codex exec --json` prints, tell it as events, and judge how it ended.

Learned from Codex 0.163.0 and 0.169.0: an `error` item is a warning; an `error` line is a retry or the
reason of the `turn.failed` that follows; a tool call that could not be routed and now and then a quick one
give no line at all; exit 0 comes with an empty answer too; the counted tokens are the whole thread's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from dragoman.workers.base import (
    ErrorCode,
    ModelUsage,
    Notice,
    OnEvent,
    Retrying,
    Said,
    Started,
    Thought,
    ToolAnswered,
    ToolCalled,
    WorkerOutcome,
    WorkerTask,
)
from dragoman.workers.child import ChildEnd
from dragoman.workers.lines import DroppedLine
from dragoman.workers.loose import (
    ANSWER_LIMIT,
    SAID_LIMIT,
    TARGET_LIMIT,
    Json,
    count_of,
    object_of,
    objects_of,
    one_sentence,
    parse_line,
    shorten,
    text_of,
)

_RECONNECTING = re.compile(r"Reconnecting\.\.\. (\d+)/(\d+) \((.*)\)", re.DOTALL)
_STATUS = re.compile(r"(?:unexpected|last) status:? (\d{3})\b")
_RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# Codex's own sentences about failures that pass.
_PASSING = ("stream disconnected", "high demand", "at capacity", "rate limit exceeded")
_STARTUP_ERROR = re.compile(r"^(?:Error|error)[: ].{1,300}", re.MULTILINE)


class CodexDialogue:
    """One conversation with a headless Codex; see `child.Dialogue`.

    Args:
        task: what it is told.
        version: told with the start, because Codex does not tell its own.
        cwd: the real path it works in.
        on_event: gets the events.
    """

    one_shot = True

    def __init__(self, task: WorkerTask, *, version: str, cwd: Path, on_event: OnEvent) -> None:
        self._task = task
        self._version = version
        self._cwd = cwd
        self._tell = on_event
        self._noticed: set[str] = set()
        self.session_id: str | None = None
        self.last_said = ""
        self.usage: Json | None = None
        self.failure: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the turn has ended, one way or the other."""
        return self.usage is not None or self.failure is not None

    def opening(self) -> bytes:
        """The task."""
        return self._task.prompt.encode()

    def interrupt(self) -> bytes:
        """There is none: Codex ends at once on SIGTERM."""
        return b""

    def heard(self, line: bytes | DroppedLine) -> Iterable[bytes]:
        """Take one line; Codex never asks anything."""
        if isinstance(line, DroppedLine):
            self._notice_once("line_dropped", f"a line of {line.size_bytes / 1e6:.1f} MB was not read")
            return ()
        if not line.strip():
            return ()
        try:
            self._take(parse_line(line) or {})
        except ValueError:
            self._notice_once("line_not_json", "the client printed something that is not JSON")
        return ()

    def _take(self, message: Json) -> None:
        match message.get("type"):
            case "thread.started":
                self.session_id = text_of(message, "thread_id")
                self._tell(
                    Started(session_id=self.session_id, model=self._task.model, client_version=self._version)
                )
            case "item.started":
                self._item_started(object_of(message, "item"))
            case "item.completed":
                self._item_completed(object_of(message, "item"))
            case "error":
                self._error(text_of(message, "message"))
            case "turn.completed":
                self.usage = object_of(message, "usage")
                self.failure = None
            case "turn.failed":
                self.failure = text_of(object_of(message, "error"), "message") or "the turn failed"
            case _:
                pass

    def _item_started(self, item: Json) -> None:
        called = self._call(item)
        if called is not None:
            self._tell(called)

    def _item_completed(self, item: Json) -> None:
        text = text_of(item, "text")
        match item.get("type"):
            case "agent_message":
                if text.strip():
                    self._tell(Said(text=shorten(text, SAID_LIMIT)))
                self.last_said = text
            case "reasoning":
                if text.strip():
                    self._tell(Thought(text=shorten(text, SAID_LIMIT)))
            case "error":
                self._notice_once("client_warning", shorten(text_of(item, "message"), TARGET_LIMIT))
            case _:
                called = self._call(item)
                if called is not None:
                    self._tell(
                        ToolAnswered(
                            id=called.id,
                            tool=called.tool,
                            ok=item.get("status") == "completed",
                            text=shorten(_answer(item), ANSWER_LIMIT),
                        )
                    )

    def _call(self, item: Json) -> ToolCalled | None:
        match item.get("type"):
            case "command_execution":
                tool, target = "command", _inner_command(text_of(item, "command"))
            case "file_change":
                tool, target = "file_change", ", ".join(self._changed_paths(item))
            case "mcp_tool_call":
                tool, target = "mcp", f"{text_of(item, 'server')}.{text_of(item, 'tool')}"
            case "web_search":
                tool, target = "web_search", text_of(item, "query")
            case _:
                return None
        return ToolCalled(id=text_of(item, "id"), tool=tool, target=shorten(target, TARGET_LIMIT))

    def _changed_paths(self, item: Json) -> list[str]:
        inside = f"{self._cwd}/"
        return [text_of(change, "path").removeprefix(inside) for change in objects_of(item, "changes")]

    def _error(self, message: str) -> None:
        retry = _RECONNECTING.search(message)
        if retry is not None:
            self._tell(
                Retrying(
                    attempt=int(retry[1]),
                    of=int(retry[2]),
                    delay_ms=0,
                    status=_status(retry[3]),
                    reason=shorten(retry[3], TARGET_LIMIT),
                )
            )

    def _notice_once(self, code: str, text: str) -> None:
        if text not in self._noticed:
            self._noticed.add(text)
            self._tell(Notice(code=code, text=text))


def judge(dialogue: CodexDialogue, end: ChildEnd, task: WorkerTask, version: str) -> WorkerOutcome:
    """Decide how a run ended."""
    structured = _structured(dialogue, task)

    def outcome(status: Any, code: ErrorCode | None = None, message: str = "", **more: Any) -> WorkerOutcome:
        return WorkerOutcome(
            status=status,
            error_code=code,
            message=one_sentence(message, secret=task.token),
            text=dialogue.last_said,
            session_id=dialogue.session_id,
            turns=int(dialogue.usage is not None),
            usage=_usage(dialogue, task),
            structured_output=structured,
            duration_ms=end.duration_ms,
            exit_code=end.exit_code,
            client="codex",
            client_version=version,
            survivors=end.survivors,
            **more,
        )

    match end.ending:
        case "stopped":
            return outcome("stopped", "worker_cancelled", "stopped on request")
        case "timed_out":
            seconds = end.duration_ms / 1000
            return outcome("timed_out", "worker_timeout", f"stopped after {seconds:.0f} s: its time was up")
        case "own":
            pass
    if dialogue.failure is not None:
        code, status, retryable = _classify(dialogue.failure)
        return outcome("failed", code, dialogue.failure, provider_status=status, retryable=retryable)
    if dialogue.usage is None:
        if "no rollout found for thread id" in end.stderr or "thread not found" in end.stderr:
            return outcome("failed", "session_not_found", "the session to resume does not exist")
        if dialogue.session_id is None and (said := _STARTUP_ERROR.search(end.stderr)):
            return outcome("failed", "worker_start_failed", said.group())
        return outcome("failed", "worker_crashed", "Codex ended before its turn did", retryable=True)
    if end.exit_code != 0 and not end.ended_by_us:
        return outcome("failed", "worker_crashed", f"Codex reported success but exited with {end.exit_code}")
    if not dialogue.last_said.strip():
        return outcome("failed", "worker_no_output", "the worker gave an empty answer", retryable=True)
    if task.output_schema is not None and structured is None:
        return outcome("finished", message="the answer does not have the form that was asked for")
    return outcome("finished")


def _classify(message: str) -> tuple[ErrorCode, int | None, bool]:
    status = _status(message)
    if "ran out of room in the model's context window" in message or "context_length_exceeded" in message:
        return "worker_context_exceeded", 400, False
    if "Incomplete response returned" in message:
        return "worker_truncated", None, True
    if status in (401, 403):
        return "worker_auth", status, False
    if message.startswith(("Quota exceeded", "You've hit your usage limit")):
        return "provider_error", 429, False
    if status is not None:
        return "provider_error", status, status in _RETRYABLE
    return "provider_error", None, any(sign in message for sign in _PASSING)


def _status(message: str) -> int | None:
    found = _STATUS.search(message)
    return int(found[1]) if found else None


def _structured(dialogue: CodexDialogue, task: WorkerTask) -> Any:
    """Codex asks the model for the form but does not check it (0.163, 0.169)."""
    if task.output_schema is None:
        return None
    try:
        answer = msgspec.json.decode(dialogue.last_said)
    except msgspec.DecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _usage(dialogue: CodexDialogue, task: WorkerTask) -> dict[str, ModelUsage]:
    # Of a resumed thread it counts the earlier runs too, which would be told twice.
    if dialogue.usage is None or task.resume:
        return {}
    cached = count_of(dialogue.usage, "cached_input_tokens")
    return {
        task.model: ModelUsage(
            input_tokens=max(0, count_of(dialogue.usage, "input_tokens") - cached),
            output_tokens=count_of(dialogue.usage, "output_tokens"),
            cache_read_tokens=cached,
            cache_write_tokens=count_of(dialogue.usage, "cache_write_input_tokens"),
            context_window=task.context_window,
        )
    }


def _inner_command(command: str) -> str:
    """`ls` out of `/bin/bash -lc 'ls'`."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return words[2] if len(words) == 3 and words[1] in ("-lc", "-c") else command


def _answer(item: Json) -> str:
    if output := text_of(item, "aggregated_output"):
        return output
    if error := text_of(object_of(item, "error"), "message"):
        return error
    parts = objects_of(object_of(item, "result"), "content")
    return "\n".join(text_of(part, "text") for part in parts)

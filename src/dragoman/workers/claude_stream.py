"""Read what Claude Code prints in stream-json, tell it as events, and keep what the verdict needs.

Learned from Claude Code 2.1.197 and 2.1.329: one `assistant` line a content block, whose usage must not be
summed; more than one `result` is possible and the last one counts; 2.1.197 has no `permission_denied` event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dragoman.workers.base import (
    Denied,
    Notice,
    OnEvent,
    PermissionDenial,
    Retrying,
    Said,
    Started,
    Thought,
    ToolAnswered,
    ToolCalled,
    WorkerTask,
)
from dragoman.workers.claude_command import HOOK_ID, control_request, encode_line, opening_lines
from dragoman.workers.claude_rules import ClaudeRules, allows_command
from dragoman.workers.lines import DroppedLine
from dragoman.workers.loose import (
    ANSWER_LIMIT,
    SAID_LIMIT,
    TARGET_LIMIT,
    Json,
    count_of,
    number_of,
    object_of,
    objects_of,
    parse_line,
    shorten,
    text_of,
    texts_of,
)

_DENIALS_LIMIT = 500
_CALLS_LIMIT = 2000

# Both versions put one of these into the tool's answer; only 2.1.329 also sends an event.
_DENIAL_TEXT = re.compile(
    r"Permission to use \w+ .{0,2000}has been denied|denied by your permission settings"
    r"|requested permissions? to .{0,2000}but you haven't granted",
    re.DOTALL,
)


class ClaudeDialogue:
    """One conversation with a headless Claude Code; see `child.Dialogue`.

    Args:
        task: what it is told.
        rules: what it may do.
        cwd: the real path it works in; targets inside it are told relative to it.
        on_event: gets the events.
    """

    one_shot = False

    def __init__(self, task: WorkerTask, rules: ClaudeRules, *, cwd: Path, on_event: OnEvent) -> None:
        self._task = task
        self._rules = rules
        self._cwd = cwd
        self._tell = on_event
        self._calls: dict[str, ToolCalled] = {}
        self._denials: dict[str, PermissionDenial] = {}
        self._noticed: set[str] = set()
        self._interrupted = False
        self.session_id: str | None = None
        self.client_version = ""
        self.last_said = ""
        self.result: Json | None = None
        self.api_error: Json | None = None

    @property
    def complete(self) -> bool:
        """Whether there is a result."""
        return self.result is not None

    @property
    def denials(self) -> tuple[PermissionDenial, ...]:
        """Every refused call seen so far, the first hundreds."""
        return tuple(self._denials.values())

    def opening(self) -> bytes:
        """The task."""
        return opening_lines(self._task, self._rules)

    def interrupt(self) -> bytes:
        """Asks once; a second request would do nothing more."""
        if self._interrupted:
            return b""
        self._interrupted = True
        return encode_line(control_request("interrupt", subtype="interrupt"))

    def heard(self, line: bytes | DroppedLine) -> Iterable[bytes]:
        """Take one line; returns the answer to a request of the client."""
        if isinstance(line, DroppedLine):
            megabytes = line.size_bytes / 1e6
            self._notice_once("line_dropped", f"a line of {megabytes:.1f} MB from the client was not read")
            return ()
        if not line.strip():
            return ()
        try:
            message = parse_line(line) or {}
        except ValueError:
            self._notice_once("line_not_json", "the client printed something that is not JSON")
            return ()
        match message.get("type"):
            case "system":
                self._system(message)
            case "assistant":
                self._assistant(message)
            case "user":
                self._user(message)
            case "result":
                self._result(message)
            case "control_request":
                return (self._answer(message),)
            case _:
                pass
        return ()

    def _system(self, message: Json) -> None:
        match message.get("subtype"):
            case "init":
                self._started(message)
            case "api_retry":
                self._tell(
                    Retrying(
                        attempt=count_of(message, "attempt"),
                        of=count_of(message, "max_retries"),
                        delay_ms=count_of(message, "retry_delay_ms"),
                        status=number_of(message, "error_status"),
                        reason=text_of(message, "error"),
                    )
                )
            case "permission_denied":
                reason = text_of(message, "decision_reason_type")
                self._denied(text_of(message, "tool_use_id"), text_of(message, "tool_name"), reason=reason)
            case "model_fallback":
                self._tell(
                    Notice(
                        code="model_fallback",
                        text=f"the client went from {text_of(message, 'original_model')}"
                        f" to {text_of(message, 'fallback_model')}",
                    )
                )
            case _:
                pass

    def _started(self, message: Json) -> None:
        session_id = text_of(message, "session_id")
        if session_id == self.session_id:
            return  # every further turn begins with another init
        self.session_id = session_id
        self.client_version = text_of(message, "claude_code_version")
        self._tell(
            Started(
                session_id=session_id,
                model=text_of(message, "model"),
                tools=texts_of(message, "tools"),
                client_version=self.client_version,
            )
        )

    def _assistant(self, message: Json) -> None:
        subagent = message.get("parent_tool_use_id") is not None
        synthetic = object_of(message, "message").get("model") == "<synthetic>"
        if synthetic and message.get("error"):
            self.api_error = message
            return  # it is told once, by the verdict
        for block in objects_of(object_of(message, "message"), "content"):
            match block.get("type"):
                case "text":
                    text = text_of(block, "text")
                    if text.strip():
                        self._tell(Said(text=shorten(text, SAID_LIMIT), subagent=subagent))
                        if not subagent and not synthetic:
                            self.last_said = text
                case "thinking":
                    text = text_of(block, "thinking")
                    if text.strip():
                        self._tell(Thought(text=shorten(text, SAID_LIMIT), subagent=subagent))
                case "tool_use":
                    self._called(block, subagent)
                case _:
                    pass

    def _called(self, block: Json, subagent: bool) -> None:
        tool = text_of(block, "name")
        call = ToolCalled(
            id=text_of(block, "id"),
            tool=tool,
            target=self._target(object_of(block, "input")),
            subagent=subagent,
        )
        if len(self._calls) >= _CALLS_LIMIT:
            del self._calls[next(iter(self._calls))]
        self._calls[call.id] = call
        self._tell(call)

    def _user(self, message: Json) -> None:
        for block in objects_of(object_of(message, "message"), "content"):
            if block.get("type") != "tool_result":
                continue
            call_id = text_of(block, "tool_use_id")
            call = self._calls.get(call_id)
            text = _answer_text(block)
            failed = block.get("is_error") is True
            tool = call.tool if call else ""
            if failed and _DENIAL_TEXT.search(text):
                self._denied(call_id, tool, reason="rule")
            self._tell(ToolAnswered(id=call_id, tool=tool, ok=not failed, text=shorten(text, ANSWER_LIMIT)))

    def _denied(self, call_id: str, tool: str, *, reason: str, target: str = "") -> None:
        if call_id in self._denials or len(self._denials) >= _DENIALS_LIMIT:
            return
        call = self._calls.get(call_id)
        target = call.target if call else target
        self._denials[call_id] = PermissionDenial(id=call_id, tool=tool, target=target)
        self._tell(Denied(id=call_id, tool=tool, target=target, reason=reason))

    def _result(self, message: Json) -> None:
        self.result = message
        self.session_id = text_of(message, "session_id") or self.session_id
        for denial in objects_of(message, "permission_denials"):
            self._denied(
                text_of(denial, "tool_use_id"),
                text_of(denial, "tool_name"),
                reason="rule",
                target=self._target(object_of(denial, "tool_input")),
            )

    def _answer(self, message: Json) -> bytes:
        """Answer the client's question: only an exact command is ever allowed, and only by the hook."""
        request = object_of(message, "request")
        response: Json = {}
        match request.get("subtype"):
            case "hook_callback" if request.get("callback_id") == HOOK_ID:
                command = text_of(object_of(object_of(request, "input"), "tool_input"), "command")
                if allows_command(command, self._rules.commands_by_hook, self._cwd):
                    response = {
                        "hookSpecificOutput": {
                            "hookEventName": "PreToolUse",
                            "permissionDecision": "allow",
                            "permissionDecisionReason": "one of the task's own commands",
                        }
                    }
            case "can_use_tool":
                response = {"behavior": "deny", "message": "not allowed by this task"}
            case _:
                pass
        body = {"subtype": "success", "request_id": message.get("request_id"), "response": response}
        return encode_line({"type": "control_response", "response": body})

    def _target(self, tool_input: Json) -> str:
        for key in ("file_path", "notebook_path", "command", "pattern", "path", "description"):
            value = tool_input.get(key)
            if isinstance(value, str) and value:
                inside = f"{self._cwd}/"
                if key != "command":
                    value = value.removeprefix(inside)
                return shorten(value, TARGET_LIMIT)
        return ""

    def _notice_once(self, code: str, text: str) -> None:
        if code not in self._noticed:
            self._noticed.add(code)
            self._tell(Notice(code=code, text=text))


def _answer_text(block: Json) -> str:
    if words := text_of(block, "content"):
        return words
    parts = objects_of(block, "content")
    return "\n".join(text_of(part, "text") or f"[{text_of(part, 'type')}]" for part in parts)

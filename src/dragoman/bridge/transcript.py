"""Claude Code's own record of a session, read along as it grows."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

Kind = Literal[
    "prompt", "self_prompt", "text", "tool_use", "interrupted", "api_error", "turn_end", "command_output"
]

_INTERRUPTED = "[Request interrupted by user"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# One look reads no more than this; the rest comes at the next one.
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened, as far as a round needs it.

    Attributes:
        kind: what.
        text: what was said or asked.
        final: for `text`, whether the model ended its turn with it; for `turn_end`, whether no subagent of
            the turn runs on in the background.
        message_id: which model message a text belongs to.
    """

    kind: Kind
    text: str = ""
    final: bool = False
    message_id: str = ""


class _Line(msgspec.Struct):
    type: str = ""
    subtype: str | None = None
    isSidechain: bool | None = None
    isMeta: bool | None = None
    isApiErrorMessage: bool | None = None
    isCompactSummary: bool | None = None
    pendingBackgroundAgentCount: int | None = None
    message: Any = None


_LINE = msgspec.json.Decoder(_Line)


def transcript_file(env: Mapping[str, str], project: Path, session_id: str) -> Path:
    """Where Claude Code writes a session: `<config>/projects/<slug>/<session>.jsonl`.

    The slug is the project's real path with every character that is no letter or digit as `-`
    (2.1.197 and 2.1.329).
    """
    config = Path(env.get("CLAUDE_CONFIG_DIR") or Path(env.get("HOME", "/")) / ".claude")
    slug = re.sub(r"[^A-Za-z0-9]", "-", os.path.realpath(project))
    return config / "projects" / slug / f"{session_id}.jsonl"


class Transcript:
    """Reads new lines of a transcript that may not exist yet.

    Args:
        path: the file.
        at_end: whether to start at its present end (a resumed session has a past).
    """

    def __init__(self, path: Path, *, at_end: bool = False) -> None:
        self.path = path
        self._rest = b""
        self._at = 0
        if at_end and path.exists():
            self._at = path.stat().st_size

    def follow(self, path: Path) -> None:
        """Read another file from its beginning, if it is another one (`/clear` begins a new session)."""
        if path != self.path:
            self.path, self._at, self._rest = path, 0, b""

    def take(self) -> list[Record]:
        """What was written since the last time."""
        try:
            if self.path.stat().st_size <= self._at:
                return []
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read(_CHUNK)
        except OSError:
            return []
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [record for line in lines for record in read_line(line)]


def read_line(line: bytes) -> list[Record]:
    """The records one line stands for, often none."""
    try:
        found = _LINE.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
    if found.isSidechain:
        return []
    match found.type:
        case "system" if found.subtype == "turn_duration":
            return [Record("turn_end", final=not found.pendingBackgroundAgentCount)]
        case "assistant":
            return _assistant(found)
        case "user" if not found.isMeta and not found.isCompactSummary:
            return _user(found.message)
        case _:
            return []


def _assistant(line: _Line) -> list[Record]:
    message = _mapping(line.message)
    texts = "\n\n".join(text for text in _texts(message.get("content")) if text)
    if line.isApiErrorMessage or (message.get("model") == "<synthetic>" and texts.startswith("API Error")):
        return [Record("api_error", texts)]
    if message.get("model") == "<synthetic>":
        return []
    stop = message.get("stop_reason")
    if texts:
        return [
            Record(
                "text",
                texts,
                stop in ("end_turn", "max_tokens", "stop_sequence"),
                str(message.get("id") or ""),
            )
        ]
    return [Record("tool_use")] if stop == "tool_use" else []


def _user(message: Any) -> list[Record]:
    content = _mapping(message).get("content")
    if isinstance(content, list):
        texts = _texts(content)
        if any(text.startswith(_INTERRUPTED) for text in texts):
            return [Record("interrupted")]
        if not texts or any(_mapping(block).get("type") == "tool_result" for block in _items(content)):
            return []
        text = "\n".join(texts)
    else:
        text = content if isinstance(content, str) else ""
    if text.startswith("<local-command-stdout>"):
        inside = text.removeprefix("<local-command-stdout>").removesuffix("</local-command-stdout>")
        return [Record("command_output", _ESCAPES.sub("", inside).strip())]
    if text.startswith(("<local-command", "<command-name>", "<command-message>", "<bash-")):
        return []
    if text.lstrip().startswith("<task-notification>"):
        return [Record("self_prompt")]
    return [Record("prompt", text)] if text else []


def _texts(content: Any) -> list[str]:
    blocks = [_mapping(block) for block in _items(content)]
    return [str(block.get("text") or "") for block in blocks if block.get("type") == "text"]


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]

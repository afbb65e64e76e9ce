"""The `input` list of a Responses request, written from turns.

Learned from OpenAI's and third-party endpoints: item ids of other servers are refused, so none is sent unless
the profile says so; a call id has at most 64 characters; reasoning needs its `summary` key.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.ids import MAX_STRICT_CHARS, strict_id
from dragoman.wire.tools import ToolTable, arguments_text, holds_object, wrap_freeform
from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    File,
    Hosted,
    Image,
    Note,
    Part,
    RawText,
    Reasoning,
    Request,
    Result,
    Text,
    User,
    quoted,
    raw,
)

GAP = b"\\n\\n"
EMPTY_RESULT = b"(no output)"
ERROR_PREFIX = b"[tool error] "

Fields = dict[str, Any]


class InputWriter:
    """Writes the turns of a conversation as items.

    Args:
        tools: names as the upstream knows them.
        dialect: the upstream's quirks.
        limits: what the model can take.
        shims: collects short names of what was changed.
    """

    def __init__(self, tools: ToolTable, dialect: Dialect, limits: Limits, shims: dict[str, None]) -> None:
        self._tools = tools
        self._dialect = dialect
        self._limits = limits
        self._shims = shims

    def items(self, request: Request) -> list[Any]:
        """All items of a conversation."""
        out: list[Any] = []
        for turn in request.turns:
            match turn:
                case User():
                    out.extend(self._result(result) for result in turn.results)
                    if turn.parts:
                        out.append(_message("user", [_part(part) for part in turn.parts]))
                case Assistant():
                    self._assistant(out, turn)
                case Note():
                    out.append(_message("developer", [_part(part) for part in turn.parts]))
        return out

    def _assistant(self, out: list[Any], turn: Assistant) -> None:
        has_calls = any(isinstance(part, Call) for part in turn.parts)
        thought = False
        said: list[Any] = []

        def end_message() -> None:
            if said:
                out.append(_message("assistant", list(said)))
                said.clear()

        for part in turn.parts:
            if isinstance(part, Text):
                said.append({"type": "output_text", "text": quoted(part.text)})
                continue
            end_message()
            if isinstance(part, Reasoning):
                item = self._reasoning(part, has_calls=has_calls)
                if item is not None:
                    thought = True
                    out.append(item)
            elif isinstance(part, Call):
                if not thought and self._needs_blank():
                    thought = True
                    self._shims["blank reasoning before calls"] = None
                    out.append(_raw_reasoning(raw(self._dialect.reasoning_blank)))
                out.append(self._call(part))
            else:
                out.append(_hosted(part))
        end_message()

    def _needs_blank(self) -> bool:
        return self._dialect.reasoning_required and self._limits.thinks

    def _reasoning(self, part: Reasoning, *, has_calls: bool) -> Any | None:
        """An upstream's own reasoning goes back sealed, other reasoning as raw text where it is wanted."""
        sealed = next((carrier for carrier in part.carriers if carrier.kind == "encrypted"), None)
        if sealed is not None:
            item: Fields = {"type": "reasoning"}
            if sealed.item_id is not None and self._dialect.item_ids:
                item["id"] = sealed.item_id
            item["summary"] = [{"type": "summary_text", "text": quoted(part.text)}] if part.text else []
            item["encrypted_content"] = sealed.data
            return item
        replay = self._dialect.reasoning_replay
        wanted = replay == "always" or (replay == "tool_turns" and has_calls)
        return _raw_reasoning(part.text) if part.text and wanted and self._limits.thinks else None

    def _call(self, call: Call) -> Fields:
        name = self._tools.upstream_name(call.name, call.namespace)
        call_id = self._call_id(call.id)
        if call.kind == "freeform" and self._dialect.freeform_tools and not self._tools.is_wrapped(name):
            return {
                "type": "custom_tool_call",
                "call_id": call_id,
                "name": name,
                "input": quoted(arguments_text(call)),
            }
        return {
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": self._arguments(call),
        }

    def _arguments(self, call: Call) -> str | msgspec.Raw:
        """Arguments as a JSON string; malformed ones are wrapped where the upstream parses them."""
        if call.arguments_json is not None:
            return call.arguments_json.decode("utf-8", "replace")
        if call.kind == "freeform":
            return wrap_freeform(call.arguments).decode("utf-8", "replace")
        if not call.arguments.strip():
            return "{}"
        if self._dialect.valid_arguments and not holds_object(call):
            return (b'{"_raw":"' + call.arguments + b'"}').decode("utf-8", "replace")
        return quoted(call.arguments)

    def _call_id(self, call_id: str) -> str:
        if self._dialect.strict_ids or len(call_id) > MAX_STRICT_CHARS:
            return strict_id(call_id)
        return call_id

    def _result(self, result: Result) -> Fields:
        native = result.kind == "freeform" and self._dialect.freeform_tools
        return {
            "type": "custom_tool_call_output" if native else "function_call_output",
            "call_id": self._call_id(result.call_id),
            "output": _output(result),
        }


def _message(role: str, content: list[Any]) -> Fields:
    return {"type": "message", "role": role, "content": content}


def _raw_reasoning(text: RawText) -> Fields:
    content = [{"type": "reasoning_text", "text": quoted(text)}]
    return {"type": "reasoning", "summary": [], "content": content}


def _hosted(part: AssistantPart) -> msgspec.Raw:
    assert isinstance(part, Hosted)
    return msgspec.Raw(part.json)


def _output(result: Result) -> Any:
    """One string where all is text, else a list of parts; the protocol has no mark for failed tools."""
    texts = [part.text for part in result.parts if isinstance(part, Text) and part.text]
    if all(isinstance(part, Text) for part in result.parts):
        text = GAP.join(texts) or EMPTY_RESULT
        return quoted(ERROR_PREFIX + text if result.is_error else text)
    head: list[Any] = [{"type": "input_text", "text": quoted(ERROR_PREFIX)}] if result.is_error else []
    return head + [_part(part) for part in result.parts if not (isinstance(part, Text) and not part.text)]


def _part(part: Part) -> Fields:
    match part:
        case Text():
            return {"type": "input_text", "text": quoted(part.text)}
        case Image():
            image: Fields = {"type": "input_image"}
            if part.file_id is not None:
                image["file_id"] = part.file_id
            else:
                image["image_url"] = quoted(_image_url(part))
            if part.detail is not None:
                image["detail"] = part.detail
            return image
        case File():
            return _file(part)


def _image_url(part: Image) -> RawText:
    if part.data is None:
        return part.url or b""
    return b"data:" + raw(part.media_type or "image/png") + b";base64," + part.data


def _file(part: File) -> Fields:
    if part.text is not None:
        head = b"[document " + part.filename + b"]" + GAP if part.filename else b""
        return {"type": "input_text", "text": quoted(head + part.text)}
    file: Fields = {"type": "input_file"}
    if part.file_id is not None:
        file["file_id"] = part.file_id
    elif part.url is not None:
        file["file_url"] = quoted(part.url)
    else:
        kind = raw(part.media_type or "application/pdf")
        file["filename"] = quoted(part.filename or b"document.pdf")
        file["file_data"] = quoted(b"data:" + kind + b";base64," + (part.data or b""))
    return file

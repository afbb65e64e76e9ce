"""Turns written as Chat Completions messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.ids import strict_id
from dragoman.wire.tools import ToolTable, holds_object, wrap_freeform
from dragoman.wire.turns import (
    Assistant,
    Call,
    File,
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


def messages_of(
    request: Request, tools: ToolTable, system: list[RawText], *, dialect: Dialect, limits: Limits
) -> list[Fields]:
    """The `messages` of a normalised request.

    Args:
        request: whose turns alternate and whose calls are answered (see `dragoman.wire.repair`).
        tools: both names of every tool.
        system: the system text, in pieces.
        dialect: the upstream's quirks.
        limits: what the model can take.
    """
    out: list[Fields] = []
    if system:
        role = "developer" if dialect.developer_role and request.wire == "responses" else "system"
        out.append({"role": role, "content": quoted(GAP.join(system))})
    for turn in request.turns:
        match turn:
            case User():
                _put_user(out, turn, dialect)
            case Assistant():
                message = _assistant(turn, tools, dialect, limits)
                if len(message) > 1:
                    out.append(message)
            case Note():
                out.append({"role": "system", "content": quoted(_joined(turn.parts))})
    return out


def _joined(parts: Iterable[Text]) -> RawText:
    return GAP.join(part.text for part in parts)


def _put_user(out: list[Fields], turn: User, dialect: Dialect) -> None:
    """Tool messages first; pictures a tool returned follow them as user words where a tool message may not
    hold any."""
    moved: list[Part] = []
    for result in turn.results:
        out.append(_tool_message(result, dialect, moved))
    parts = (*moved, *turn.parts)
    if parts:
        out.append({"role": "user", "content": _content(parts)})


def _tool_message(result: Result, dialect: Dialect, moved: list[Part]) -> Fields:
    call_id = strict_id(result.call_id) if dialect.strict_ids else result.call_id
    if len(result.parts) == 1 and isinstance(first := result.parts[0], Text) and not result.is_error:
        return {"role": "tool", "tool_call_id": call_id, "content": quoted(first.text or EMPTY_RESULT)}
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    others = [part for part in result.parts if not isinstance(part, Text)]
    if others and dialect.tool_images:
        return {"role": "tool", "tool_call_id": call_id, "content": _content(result.parts)}
    if others:
        texts.append(b"[the tool's attachment follows in the next user message]")
        moved.append(Text(b"[attachment of tool call " + raw(call_id) + b"]"))
        moved.extend(others)
    text = GAP.join(text for text in texts if text) or EMPTY_RESULT
    if result.is_error:
        text = ERROR_PREFIX + text
    return {"role": "tool", "tool_call_id": call_id, "content": quoted(text)}


def _content(parts: Iterable[Part]) -> Any:
    """One string where everything is text, else a list of parts."""
    parts = tuple(parts)
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts):
        return quoted(GAP.join(texts))
    return [_part(part) for part in parts]


def _part(part: Part) -> Fields:
    match part:
        case Text():
            return {"type": "text", "text": quoted(part.text)}
        case Image():
            image: Fields = {"url": quoted(_image_url(part))}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case File():
            return _file(part)


def _image_url(part: Image) -> RawText:
    if part.data is None:
        return part.url or b""
    return b"data:" + raw(part.media_type or "image/png") + b";base64," + part.data


def _file(part: File) -> Fields:
    if part.text is not None:
        head = b"[document " + part.filename + b"]" + GAP if part.filename else b""
        return {"type": "text", "text": quoted(head + part.text)}
    if part.data is None and part.file_id is None:
        return {"type": "text", "text": quoted(b"[document: " + (part.url or b"unknown") + b"]")}
    file: Fields = {}
    if part.file_id is not None:
        file["file_id"] = part.file_id
    if part.data is not None:
        kind = raw(part.media_type or "application/pdf")
        file["filename"] = quoted(part.filename or b"document.pdf")
        file["file_data"] = quoted(b"data:" + kind + b";base64," + part.data)
    return {"type": "file", "file": file}


def _assistant(turn: Assistant, tools: ToolTable, dialect: Dialect, limits: Limits) -> Fields:
    texts: list[RawText] = []
    calls: list[Fields] = []
    thoughts: list[RawText] = []
    for part in turn.parts:
        match part:
            case Call():
                calls.append(_call(part, tools, dialect))
            case Text():
                if part.text:
                    texts.append(part.text)
            case Reasoning():
                if part.text:
                    thoughts.append(part.text)
            case _:
                pass
    message: Fields = {"role": "assistant"}
    if texts:
        message["content"] = quoted(GAP.join(texts))
    elif calls:
        message["content"] = None if dialect.null_content else ""
    if dialect.reasoning_replay != "never" and limits.thinks:
        _put_reasoning(message, thoughts, dialect, has_calls=bool(calls))
    if calls:
        message["tool_calls"] = calls
    elif not texts and len(message) > 1:
        message["content"] = ""
    return message


def _put_reasoning(message: Fields, thoughts: list[RawText], dialect: Dialect, *, has_calls: bool) -> None:
    if dialect.reasoning_replay == "tool_turns" and not has_calls:
        return
    if thoughts:
        message[dialect.reasoning_field] = quoted(GAP.join(thoughts))
    elif dialect.reasoning_required and has_calls:
        message[dialect.reasoning_field] = dialect.reasoning_blank


def _call(call: Call, tools: ToolTable, dialect: Dialect) -> Fields:
    return {
        "id": strict_id(call.id) if dialect.strict_ids else call.id,
        "type": "function",
        "function": {
            "name": tools.upstream_name(call.name, call.namespace),
            "arguments": _arguments(call, dialect),
        },
    }


def _arguments(call: Call, dialect: Dialect) -> str | msgspec.Raw:
    """The arguments as a JSON string holds them; malformed ones are wrapped for upstreams that parse them."""
    if call.arguments_json is not None:
        return call.arguments_json.decode("utf-8", "replace")
    if call.kind == "freeform":
        return wrap_freeform(call.arguments).decode("utf-8", "replace")
    if not call.arguments.strip():
        return "{}"
    if dialect.valid_arguments and not holds_object(call):
        return (b'{"_raw":"' + call.arguments + b'"}').decode("utf-8", "replace")
    return quoted(call.arguments)

"""Turns written as Chat Completions messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dragoman.wire.attachments import file_text, file_url, image_url
from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.ids import strict_id
from dragoman.wire.tools import ToolTable, legal_arguments
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
from dragoman.wire.writing import Fields, Pieces, put_list, to_json

GAP = b"\\n\\n"
EMPTY_RESULT = b"(no output)"
ERROR_PREFIX = b"[tool error] "


def messages_of(
    request: Request, tools: ToolTable, system: list[RawText], *, dialect: Dialect, limits: Limits
) -> list[Pieces]:
    """The `messages` of a normalised request.

    Args:
        request: whose turns alternate and whose calls are answered (see `dragoman.wire.repair`).
        tools: both names of every tool.
        system: the system text, in pieces.
        dialect: the upstream's quirks.
        limits: what the model can take.
    """
    out: list[Pieces] = []
    if system:
        role = b"developer" if dialect.developer_role and request.wire == "responses" else b"system"
        out.append((b'{"role":"%b","content":"' % role, GAP.join(system), b'"}'))
    for turn in request.turns:
        match turn:
            case User():
                _put_user(out, turn, dialect)
            case Assistant():
                if (message := _assistant(turn, tools, dialect, limits)) is not None:
                    out.append(message)
            case Note():
                out.append((b'{"role":"system","content":"', _joined(turn.parts), b'"}'))
    return out


def _joined(parts: Iterable[Text]) -> RawText:
    return GAP.join(part.text for part in parts)


def _put_user(out: list[Pieces], turn: User, dialect: Dialect) -> None:
    """Tool messages first; pictures a tool returned follow them as user words where a tool message may not
    hold any."""
    parts: list[Part] = []
    for result in turn.results:
        out.append(_tool_message(result, dialect, parts))
    parts += turn.parts
    if parts:
        out.append((b'{"role":"user","content":', *_content(parts), b"}"))


def _tool_message(result: Result, dialect: Dialect, moved: list[Part]) -> Pieces:
    call_id = to_json(strict_id(result.call_id) if dialect.strict_ids else result.call_id)
    answer = _answer(result, call_id[1:-1], dialect, moved)
    return b'{"role":"tool","tool_call_id":', call_id, b',"content":', *answer, b"}"


def _answer(result: Result, call_id: RawText, dialect: Dialect, moved: list[Part]) -> Pieces:
    """A result as a JSON value; what a tool message may not hold goes to `moved`."""
    failed = ERROR_PREFIX if result.is_error else b""
    if len(result.parts) == 1 and isinstance(only := result.parts[0], Text):
        return b'"', failed, only.text or EMPTY_RESULT, b'"'
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    others = [part for part in result.parts if not isinstance(part, Text)]
    if others and dialect.tool_images:
        return _content((Text(failed), *result.parts) if failed else result.parts)
    if others:
        texts.append(b"[the tool's attachment follows in the next user message]")
        moved.append(Text(b"[attachment of tool call " + call_id + b"]"))
        moved.extend(others)
    text = GAP.join(text for text in texts if text) or EMPTY_RESULT
    return b'"', failed, text, b'"'


def _content(parts: Sequence[Part]) -> Pieces:
    """One string where everything is text, else a list of parts."""
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts):
        return b'"', GAP.join(texts), b'"'
    return (to_json([_part(part) for part in parts]),)


def _part(part: Part) -> Fields:
    match part:
        case Text():
            return {"type": "text", "text": quoted(part.text)}
        case Image():
            image: Fields = {"url": quoted(image_url(part))}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case File():
            return _file(part)


def _file(part: File) -> Fields:
    if (text := file_text(part)) is not None:
        return {"type": "text", "text": quoted(text)}
    if part.data is None and part.file_id is None:
        return {"type": "text", "text": quoted(b"[document: " + (part.url or b"unknown") + b"]")}
    file: Fields = {}
    if part.file_id is not None:
        file["file_id"] = part.file_id
    if part.data is not None:
        file["filename"] = quoted(part.filename or b"document.pdf")
        file["file_data"] = quoted(file_url(part))
    return {"type": "file", "file": file}


def _assistant(turn: Assistant, tools: ToolTable, dialect: Dialect, limits: Limits) -> Pieces | None:
    texts: list[RawText] = []
    calls: list[Pieces] = []
    thoughts: list[RawText] = []
    for part in turn.parts:
        match part:
            case Text():
                if part.text:
                    texts.append(part.text)
            case Call():
                calls.append(_call(part, tools, dialect))
            case Reasoning():
                if part.text:
                    thoughts.append(part.text)
            case _:
                pass
    reasoning = b""
    if dialect.reasoning_replay != "never" and limits.thinks:
        reasoning = _reasoning(thoughts, dialect, has_calls=bool(calls))
    if not (texts or calls or reasoning):
        return None
    out = [b'{"role":"assistant"']
    if texts:
        out += (b',"content":"', GAP.join(texts), b'"')
    elif calls:
        out.append(b',"content":null' if dialect.null_content else b',"content":""')
    out.append(reasoning)
    if calls:
        out.append(b',"tool_calls":[')
        put_list(out, calls)
        out.append(b"]")
    elif not texts:
        out.append(b',"content":""')
    out.append(b"}")
    return out


def _reasoning(thoughts: list[RawText], dialect: Dialect, *, has_calls: bool) -> bytes:
    """The member that carries reasoning, with a comma before it; empty when there is none."""
    if dialect.reasoning_replay == "tool_turns" and not has_calls:
        return b""
    if thoughts:
        text = GAP.join(thoughts)
    elif dialect.reasoning_required and has_calls:
        text = raw(dialect.reasoning_blank)
    else:
        return b""
    return b',"%b":"%b"' % (dialect.reasoning_field.encode(), text)


def _call(call: Call, tools: ToolTable, dialect: Dialect) -> Pieces:
    call_id = to_json(strict_id(call.id) if dialect.strict_ids else call.id)
    name = to_json(tools.upstream_name(call.name, call.namespace))
    head = b'{"id":%b,"type":"function","function":{"name":%b,"arguments":"' % (call_id, name)
    return head, legal_arguments(call, dialect), b'"}}'

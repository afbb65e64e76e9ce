"""What a conversation says, spelled the way a wire can say it: for comparing both ends of a translation."""

from __future__ import annotations

import json
from typing import Any

from dragoman.wire.tools import ToolTable, arguments_text
from dragoman.wire.turns import (
    Assistant,
    Call,
    File,
    Image,
    Part,
    Reasoning,
    Request,
    Result,
    Text,
    Turn,
    User,
    Wire,
    plain,
    raw,
)

GAP = raw("\n\n")
TOOL_ERROR = raw("[tool error] ")


def meaning(request: Request, wire: Wire, table: ToolTable | None = None) -> list[tuple[Any, ...]]:
    """Everything said in a conversation, in order; neighbouring user texts are one text.

    Args:
        request: either end of a translation.
        wire: the wire in the middle; what it has no word for is put into others, as its encoder promises.
        table: the names tools have on that wire; left out for what came back from it.
    """
    out: list[tuple[Any, ...]] = []
    for turn in request.turns:
        out += _turn(turn, wire, table or ToolTable())
    return out


def system_text(request: Request) -> str:
    return plain(GAP.join(text.text for text in request.system))


def _turn(turn: Turn, wire: Wire, table: ToolTable) -> list[tuple[Any, ...]]:
    match turn:
        case User():
            results = [_result(result, wire) for result in turn.results]
            return [*results, *_words(turn.parts, wire)]
        case Assistant():
            return [_said(part, table) for part in turn.parts]
        case _:
            return [("note", plain(text.text)) for text in turn.parts]


def _said(part: Any, table: ToolTable) -> tuple[Any, ...]:
    match part:
        case Text():
            return ("text", plain(part.text))
        case Reasoning():
            return ("reasoning", plain(part.text))
        case Call():
            return ("call", part.id, *call_of(part, table))
        case _:
            raise AssertionError(f"nobody said {part}")


def call_of(call: Call, table: ToolTable) -> tuple[str, Any]:
    """Name and arguments of a call; a freeform text is the argument `input`, as it is where it is wrapped."""
    name = table.upstream_name(call.name, call.namespace)
    text = plain(arguments_text(call))
    return name, {"input": text} if call.kind == "freeform" else json.loads(text or "{}")


def _result(result: Result, wire: Wire) -> tuple[Any, ...]:
    if wire == "messages":
        return ("result", result.call_id, result.is_error, *_words(result.parts, wire))
    parts = result.parts
    if result.is_error and all(isinstance(part, Text) for part in parts):
        joined = GAP.join(part.text for part in parts if isinstance(part, Text))
        parts = (Text(TOOL_ERROR + joined),)
    elif result.is_error:
        parts = (Text(TOOL_ERROR), *parts)
    return ("result", result.call_id, False, *_words(parts, wire))


def _words(parts: tuple[Part, ...], wire: Wire) -> list[tuple[Any, ...]]:
    spelled = [_spelled(part, wire) for part in parts]
    if all(kind == "words" for kind, *_ in spelled):
        return [("words", "\n\n".join(text for _, text in spelled))] if spelled else []
    return spelled


def _spelled(part: Part, wire: Wire) -> tuple[Any, ...]:
    match part:
        case Text():
            return ("words", plain(part.text))
        case Image():
            return ("image", part.media_type, part.data)
        case File() if wire == "messages":
            return ("document", part.data, part.text, part.url, plain(part.filename or b""))
        case File(text=bytes() as text):
            head = b"[document " + part.filename + b"]" + GAP if part.filename else b""
            return ("words", plain(head + text))
        case File(url=bytes() as url) if wire == "chat":
            return ("words", f"[document: {plain(url)}]")
        case _:
            return ("document", part.data, part.text, part.url, plain(part.filename or b""))

"""How many tokens a request is, without asking anybody: an estimate, and said to be one.

Tokenisers differ from model to model; what clients do with the number (show a gauge, compact in time) bears
an error of some ten percent, and not a paid request for each look.
"""

from __future__ import annotations

import math

from dragoman.wire.turns import (
    Assistant,
    Call,
    File,
    Hosted,
    Image,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    User,
)

_ASCII_PER_TOKEN = 3.6
_OTHER_BYTES_PER_TOKEN = 2.7
"""A Chinese character is three bytes and about one token, a Cyrillic letter two and about half of one."""
_PER_BLOCK = 3
_PER_TOOL = 12
_PER_IMAGE = 1500
_BASE64_PER_PDF_TOKEN = 40
_ASCII = bytes(range(0x80))


def count_tokens(request: Request) -> int:
    """An estimate of what `request` costs as input, in tokens."""
    total = 1.0
    for text in request.system:
        total += _text(text.text)
    for tool in request.tools:
        total += _tool(tool)
    for turn in request.turns:
        match turn:
            case User(results, parts):
                total += sum(_parts(result.parts) + _PER_BLOCK for result in results) + _parts(parts)
            case Assistant(parts):
                total += sum(_said(part) for part in parts)
            case _:
                total += _parts(turn.parts)
        total += _PER_BLOCK
    return math.ceil(total)


def count_text(size_bytes: int) -> int:
    """An estimate for text of which only the size is known."""
    return math.ceil(size_bytes / _ASCII_PER_TOKEN)


def _said(part: Text | Reasoning | Call | Hosted) -> float:
    match part:
        case Call():
            return _text(part.arguments_json or part.arguments) + _text(part.name.encode()) + _PER_BLOCK
        case Hosted():
            return _text(part.json)
        case _:
            return _text(part.text)


def _parts(parts: tuple[Part, ...] | tuple[Text, ...]) -> float:
    total = 0.0
    for part in parts:
        match part:
            case Image():
                total += _PER_IMAGE
            case File():
                total += _text(part.text or b"") + len(part.data or b"") / _BASE64_PER_PDF_TOKEN
            case Text():
                total += _text(part.text)
    return total


def _tool(tool: Tool) -> float:
    return _text(tool.name.encode()) + _text(tool.description or b"") + _text(tool.schema or b"") + _PER_TOOL


def _text(text: bytes) -> float:
    other = len(text.translate(None, _ASCII))
    return (len(text) - other) / _ASCII_PER_TOKEN + other / _OTHER_BYTES_PER_TOKEN

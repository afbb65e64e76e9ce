"""What a tool answers: one JSON object, small enough for any client, with no fact in it twice."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from dragoman.errors import DragomanError
from dragoman.mcp.declarations import tool_named

Reply = dict[str, Any]

# A reply is sent as text and as structured content; both and the frame around them stay below 8 KB.
LIMIT_BYTES = 7_800
# What is shortened first when a reply is too long: the worker's words, then lists.
_LONGEST_TEXT = 1_200
_LIST_STEPS = (50, 20, 10, 5, 2)
# A preview's token is 64 characters long and must stay whole; ids are shorter.
_TEXT_STEPS = (600, 300, 120, 64)


def compact(reply: Reply) -> Reply:
    """Leave out what says nothing: nulls, empty lists and empty objects, all the way down."""
    found: Reply = {}
    for name, value in reply.items():
        if isinstance(value, dict):
            value = compact(value)
        elif isinstance(value, list | tuple):
            value = [compact(item) if isinstance(item, dict) else item for item in value]
        if value is None or value == [] or value == {} or value == "":
            continue
        found[name] = value
    return found


def fit(reply: Reply, limit_bytes: int = LIMIT_BYTES) -> Reply:
    """Shorten a reply until it fits: long lists keep their first items and say how many there were.

    Args:
        reply: what is to be said.
        limit_bytes: of both its forms as they are sent.
    """
    small = compact(reply)
    for most in _LIST_STEPS:
        if size_of(small) <= limit_bytes:
            return small
        small = _shorten(small, most, _LONGEST_TEXT)
    for longest in _TEXT_STEPS:
        if size_of(small) <= limit_bytes:
            return small
        small = _shorten(small, _LIST_STEPS[-1], longest)
    return small if size_of(small) <= limit_bytes else _shorten(small, 1, _TEXT_STEPS[-1])


def size_of(reply: Reply) -> int:
    """Bytes of a reply as it is sent: as an object, and as a text whose every quote is escaped once more."""
    text = as_text(reply)
    # Half of a pair of surrogates, out of a worker's cut output, must not be what fails here.
    twice = text + json.dumps(text, ensure_ascii=False)
    return len(twice.encode("utf-8", "surrogatepass"))


def as_text(reply: Reply) -> str:
    """A reply as JSON without blanks."""
    return json.dumps(reply, separators=(",", ":"), ensure_ascii=False)


def shown_text(text: str, limit: int = 2_000) -> Reply:
    """Words that may be long: whole, or their beginning with the digest of all of them."""
    if len(text) <= limit:
        return {"text": text}
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {"text": text[:limit], "text_truncated": True, "text_chars": len(text), "text_sha256": digest}


def error_reply(error: DragomanError) -> Reply:
    """An error as every tool states it."""
    return compact(
        {
            "error": error.message,
            "error_code": error.code,
            "retryable": error.http_status in (429, 503),
            "next": error.hint,
            "details": getattr(error, "details", None),
        }
    )


def next_action(tool: str, reason: str, **arguments: Any) -> Reply:
    """What to call next, ready to be called."""
    assert tool_named(tool) is not None
    return {"tool": tool, "reason": reason, "args": arguments}


def _bytes_of(text: str) -> int:
    """Bytes of a text inside JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")) - 2


def _shorten(value: Any, most: int, longest: int) -> Any:
    match value:
        case dict():
            found: Reply = {}
            for name, item in value.items():
                found[name] = _shorten(item, most, longest)
                if isinstance(item, list) and len(item) > most:
                    found[f"{name}_total"] = value.get(f"{name}_total", len(item))
            return found
        case list():
            return [_shorten(item, most, longest) for item in value[:most]]
        case str() if (size := _bytes_of(value)) > longest:
            return value[: max(1, longest * len(value) // size - 1)] + "…"
        case _:
            return value

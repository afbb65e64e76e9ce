"""What the readers of the three wires share: careful access to JSON of unknown shape, and sizes."""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman.rehearsal.asked import BadRequest, tokens_in


def items(body: dict[str, Any], key: str) -> list[Any]:
    """The list under a key; absent and null are empty.

    Raises:
        BadRequest: there is something else.
    """
    value = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRequest(f"{key}: expected an array")
    return value


def tables(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects under a key; absent and null are empty.

    Raises:
        BadRequest: there is something else.
    """
    found = items(body, key)
    for position, item in enumerate(found):
        if not isinstance(item, dict):
            raise BadRequest(f"{key}.{position}: expected an object")
    return found


def table(body: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under a key, or an empty one."""
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def text_of(content: Any) -> str:
    """The text of a content field: a string, or the `text` of every part of a list, a line apart."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def size(value: Any) -> int:
    """Estimated tokens of a JSON value."""
    return tokens_in(len(msgspec.json.encode(value))) if value else 0


def whole_number(body: dict[str, Any], *keys: str) -> int | None:
    """The first of some keys that holds a positive whole number."""
    for key in keys:
        value = body.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def property_names(schema: Any) -> tuple[str, ...]:
    """The argument names of a function's JSON schema."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return tuple(properties) if isinstance(properties, dict) else ()

"""Tolerant reading of what a client prints: a field of the wrong type is a field that is not there."""

from __future__ import annotations

from typing import Any, cast

import msgspec

Json = dict[str, Any]

# How much of one thing an event carries, in characters.
SAID_LIMIT = 16 * 1024
ANSWER_LIMIT = 2 * 1024
TARGET_LIMIT = 300


def parse_line(line: bytes) -> Json | None:
    """One line as an object; None when it is JSON but no object.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        message = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not JSON") from error
    return cast(Json, message) if isinstance(message, dict) else None


def text_of(message: Json, key: str) -> str:
    """A text, or the empty one."""
    value = message.get(key)
    return value if isinstance(value, str) else ""


def object_of(message: Json, key: str) -> Json:
    """An object, or the empty one."""
    value = message.get(key)
    return cast(Json, value) if isinstance(value, dict) else {}


def objects_of(message: Json, key: str) -> list[Json]:
    """The objects of a list; anything else in it is left out."""
    value = message.get(key)
    if not isinstance(value, list):
        return []
    return [cast(Json, part) for part in cast("list[Any]", value) if isinstance(part, dict)]


def texts_of(message: Json, key: str) -> tuple[str, ...]:
    """The texts of a list; anything else in it is left out."""
    value = message.get(key)
    if not isinstance(value, list):
        return ()
    return tuple(part for part in cast("list[Any]", value) if isinstance(part, str))


def number_of(message: Json, key: str) -> int | None:
    """A number, rounded, or None."""
    value = message.get(key)
    return round(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def count_of(message: Json, key: str) -> int:
    """A number, rounded, or 0."""
    return number_of(message, key) or 0


def shorten(text: str, limit: int) -> str:
    """`text`, its end cut off with a mark when it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_sentence(message: str, *, secret: str, limit: int = 500) -> str:
    """A message fit for the user: one line, bounded, without the run's token."""
    if secret:
        message = message.replace(secret, "***")
    return shorten(" ".join(message.split()), limit)

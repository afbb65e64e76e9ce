"""Reading JSON that others wrote: typed, strict first, mended when a strict reader refuses, and with the JSON
path of what is wrong."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from dragoman.wire.errors import BadRequest, bad_request
from dragoman.wire.loose_json import mend_json
from dragoman.wire.turns import RawJson, RawText

T = TypeVar("T")

ABSENT = msgspec.Raw()
"""Default of a `Raw` field that may be missing."""


def sound(body: bytes) -> bytes:
    """`body` as strict JSON in UTF-8, untouched when it is that already.

    Raises:
        BadRequest: it is not JSON by any reading.
    """
    try:
        if not body.isascii():
            body.decode()
        msgspec.json.decode(body, type=msgspec.Raw)
    except (ValueError, RecursionError) as error:
        mended = mend_json(body)
        if mended is None:
            raise BadRequest(f"The body is not valid JSON: {error}") from error
        return mended
    return body


def read(decoder: msgspec.json.Decoder[T], value: bytes | msgspec.Raw, path: str = "$") -> T:
    """Decode `value`, which stands at `path` of the body.

    Raises:
        BadRequest: with the path inside the whole body.
    """
    try:
        return decoder.decode(value)
    except msgspec.MsgspecError as error:
        found = bad_request(error)
        raise BadRequest(found.message, path=path + found.path.removeprefix("$")) from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply", path=path) from error


def is_set(value: msgspec.Raw) -> bool:
    """Whether a field was given and is not null."""
    return len(value) > 0 and bytes(value) != b"null"


def text_of(value: msgspec.Raw) -> RawText | None:
    """The content of a JSON string, None for anything else."""
    whole = bytes(value)
    return whole[1:-1] if whole[:1] == b'"' else None


def need_text(value: msgspec.Raw, path: str) -> RawText:
    """The content of a JSON string.

    Raises:
        BadRequest: it is something else.
    """
    found = text_of(value)
    if found is None:
        raise BadRequest(f"Expected `str`, got `{kind_of(value)}`", path=path)
    return found


def kind_of(value: msgspec.Raw) -> str:
    """msgspec's word for the type of a JSON value."""
    match bytes(value)[:1]:
        case b"":
            return "nothing"
        case b'"':
            return "str"
        case b"{":
            return "object"
        case b"[":
            return "array"
        case b"n":
            return "null"
        case b"t" | b"f":
            return "bool"
        case _:
            return "number"


def json_of(value: msgspec.Raw) -> RawJson | None:
    """The value as it was spelled, None when absent or null."""
    whole = bytes(value)
    return None if not whole or whole == b"null" else whole

"""Reading JSON that others wrote: typed, strict first, mended when a strict reader refuses, and with the JSON
path of what is wrong."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from dragoman.wire.errors import BadRequest, bad_request
from dragoman.wire.loose_json import mend_json
from dragoman.wire.turns import RawJson, RawText

T = TypeVar("T")


class NotJson(BadRequest):
    """A strict reader refuses the bytes; a lenient one may not (see `mended`)."""


ABSENT = msgspec.Raw()
"""Default of a `Raw` field that may be missing."""


def mended(body: bytes) -> bytes:
    """A body that a strict reader refused, as strict JSON in UTF-8.

    Raises:
        BadRequest: it is not JSON by any reading.
    """
    found = mend_json(body)
    if found is None:
        raise BadRequest("The body is not valid JSON", hint="send one JSON object in UTF-8")
    return found


def is_utf8(body: bytes) -> bool:
    """Whether the bytes are UTF-8, which a reader of raw strings does not check."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def read(decoder: msgspec.json.Decoder[T], value: bytes | msgspec.Raw, path: str = "$") -> T:
    """Decode `value`, which stands at `path` of the body.

    Raises:
        NotJson: the bytes are not strict JSON.
        BadRequest: with the path inside the whole body.
    """
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        found = bad_request(error)
        raise BadRequest(found.message, path=path + found.path.removeprefix("$")) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"The body is not valid JSON: {error}", path=path) from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply", path=path) from error


_LARGE = 12_000  # from here on a second copy costs more than a view

spelled = msgspec.json.Encoder().encode
"""A value as it was spelled, at half the price of `bytes(value)`."""


def outward(error: BadRequest, path: str) -> BadRequest:
    """The same refusal seen from further out: its path becomes one below `path`.

    Paths are put together only when something is wrong; building them for every block of a long conversation
    would cost as much as reading it.
    """
    inner = error.path.removeprefix("$")
    return type(error)(error.message, path=path + inner, hint=error.hint)


def is_set(value: msgspec.Raw) -> bool:
    """Whether a field was given and is not null."""
    return value is not ABSENT and len(value) > 0 and (len(value) != 4 or bytes(value) != b"null")


def text_of(value: msgspec.Raw) -> RawText | None:
    """The content of a JSON string, None for anything else."""
    if value is ABSENT:
        return None
    if len(value) > _LARGE:
        view = memoryview(value)
        return view[1:-1].tobytes() if view[0] == 34 else None
    whole = spelled(value)
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
    if value is ABSENT:
        return None
    whole = bytes(value)
    return None if not whole or whole == b"null" else whole

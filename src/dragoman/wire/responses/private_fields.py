"""What Codex tells its own vendor and nobody else needs to know.

`client_metadata` of Codex 0.163 and 0.169 holds the working directory, the commit hash and installation ids.
It is cut out of an otherwise untouched body, so that prompt caches keep hitting.
"""

from __future__ import annotations

import re

import msgspec

from dragoman.wire.errors import BadRequest
from dragoman.wire.reading import NotJson, mended, read

PRIVATE_FIELDS = ("client_metadata",)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_COMMA_AFTER = re.compile(rb"\s*,\s*")
_COMMA_BEFORE = re.compile(rb",\s*\Z")


def without_private_fields(body: bytes) -> bytes:
    """`body` without the fields of `PRIVATE_FIELDS`; every other byte stays.

    A body that only a lenient reader takes (a lone surrogate, a raw line break) is mended on the way.

    Args:
        body: a Responses request.

    Raises:
        BadRequest: it cannot be read at all.
    """
    for name in PRIVATE_FIELDS:
        if b'"' + name.encode() + b'"' in body:
            try:
                body = _without(body, name)
            except NotJson:
                body = _without(mended(body), name)
    return body


def _without(body: bytes, name: str) -> bytes:
    fields = _spelled(body)
    value = fields.pop(name, None)
    if value is None:
        return body
    member = re.compile(rb'"%b"\s*:\s*%b' % (name.encode(), re.escape(value)))
    for found in member.finditer(body):
        cut = _cut(body, *found.span())
        try:
            if _spelled(cut) == fields:  # the member itself, not its like inside another value
                return cut
        except BadRequest:
            continue
    return body


def _cut(body: bytes, start: int, end: int) -> bytes:
    """`body` without this member and one of the commas beside it."""
    if after := _COMMA_AFTER.match(body, end):
        return body[:start] + body[after.end() :]
    before = _COMMA_BEFORE.search(body, max(0, start - 64), start)
    return body[: before.start() if before else start] + body[end:]


def _spelled(body: bytes) -> dict[str, bytes]:
    return {name: bytes(value) for name, value in read(_fields, body).items()}

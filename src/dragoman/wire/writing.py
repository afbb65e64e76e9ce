"""Writing the long list of a request, its messages or items.

A long conversation consists of texts, calls and results. Their entries are spelled in pieces around the texts
they carry, and the pieces are joined once, into the body: an object for each entry, or a copy on each level,
costs more than all the rest of a translation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

Fields = dict[str, Any]

Pieces: TypeAlias = Sequence[bytes]
"""One JSON value, cut anywhere."""

to_json = msgspec.json.Encoder().encode


def body_of(fields: Fields, name: str, entries: Iterable[Pieces]) -> bytes:
    """A JSON object with `fields` and after them a list.

    Args:
        fields: at least one; none of them is called `name`.
        name: the list's name.
        entries: the values of the list.
    """
    out = [to_json(fields)[:-1], b',"%b":[' % name.encode()]
    put_list(out, entries)
    out.append(b"]}")
    return b"".join(out)


def put_list(out: list[bytes], values: Iterable[Pieces]) -> None:
    """Append values with commas between them."""
    separator = b""
    for value in values:
        out.append(separator)
        out += value
        separator = b","

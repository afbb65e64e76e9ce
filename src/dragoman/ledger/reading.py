"""Reading the usage spool by its rules: whole lines only, unknown fields ignored."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from dragoman.gateway.spool import LostRows, UsageRow

_ROW = msgspec.json.Decoder(UsageRow)
_LOST = msgspec.json.Decoder(LostRows)


@dataclass(slots=True)
class Read:
    """What a piece of a spool file says.

    Attributes:
        rows: requests, in the order they ended.
        lost: what the gateway had to give up.
        size: bytes of the whole lines.
    """

    rows: list[UsageRow] = field(default_factory=list)
    lost: list[LostRows] = field(default_factory=list)
    size: int = 0


def read_lines(data: bytes) -> Read:
    """Take the whole lines of a piece of a spool file apart.

    A torn last line is left; a line that is neither a row nor a loss is passed over: it never will be one.
    """
    found = Read(size=data.rfind(b"\n") + 1)
    for line in data[: found.size].split(b"\n"):
        try:
            found.rows.append(_ROW.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            try:
                found.lost.append(_LOST.decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
    return found

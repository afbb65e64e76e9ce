"""Reading the usage spool by its rules: whole lines only, each request once, unknown fields ignored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from dragoman.gateway.spool import UsageRow

_DECODER = msgspec.json.Decoder(UsageRow)


def read_rows(folder: Path) -> Iterator[UsageRow]:
    """Yield every usage row of a spool folder, oldest file first, each request once.

    A torn last line and a line that is no row are passed over: they are not, or never will be, a whole row.

    Parameters:
        folder: the spool folder; it need not exist.
    """
    seen: set[str] = set()
    for file in sorted(folder.glob("*.jsonl")):
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            continue  # taken in and deleted since the folder was listed
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            try:
                row = _DECODER.decode(line)
            except msgspec.MsgspecError:
                continue
            if row.id not in seen:
                seen.add(row.id)
                yield row

"""What the ledger keeps of old requests: daily sums instead of single rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from dragoman.ledger.summary import day_of, row_sums
from dragoman.ledger.tables import COUNTS, DAYS, ROWS, TOKENS, prepare
from dragoman.store.database import Database

_DAY_S = 86_400
_PLACE = ("day", "client", "model", "provider", "upstream_wire", "key")
_SUMS = (*COUNTS, *TOKENS, "cost_usd", "total_ms", "gateway_ms")
# A row and its part of four indexes in SQLite: 190 bytes measured with short ids, the rest for real ones.
_ROW_BYTES = 300


@dataclass(frozen=True, slots=True)
class Folded:
    """What folding did, or would do.

    Attributes:
        rows: single rows that go.
        days: days they belong to.
        bytes: about what they take on disk.
        before: the first day that is kept whole, `2026-01-31`.
    """

    rows: int
    days: int
    bytes: int
    before: str


def fold(
    database: Database, usage_days: int, *, execute: bool, wall: Callable[[], float] = time.time
) -> Folded:
    """Fold rows older than so many days into daily sums: tokens and money stay, sessions and runs go.

    Args:
        database: the ledger's.
        usage_days: days that are kept row by row; 0 keeps all.
        execute: do it; otherwise it is only counted.
        wall: Unix seconds.

    Raises:
        StoreUnavailable: the database does not answer; nothing was done.
    """
    prepare(database)
    before = day_of(wall() - usage_days * _DAY_S) if usage_days else ""
    old = ROWS.c.day < before
    with database.read() as connection:
        rows, days = connection.execute(
            select(func.count(), func.count(ROWS.c.day.distinct())).where(old)
        ).one()
    if execute and rows:
        with database.write() as connection:
            place = [ROWS.c[name] for name in _PLACE]
            folded = select(*place, *row_sums()).where(old).group_by(*place)
            for sums in connection.execute(folded).mappings().all():
                values: dict[str, Any] = dict(sums)
                here = [DAYS.c[name] == values[name] for name in _PLACE]
                more = {name: DAYS.c[name] + values[name] for name in _SUMS}
                if not connection.execute(update(DAYS).where(*here).values(**more)).rowcount:
                    connection.execute(insert(DAYS).values(**values))
            connection.execute(delete(ROWS).where(old))
    return Folded(rows, days, rows * _ROW_BYTES, before)

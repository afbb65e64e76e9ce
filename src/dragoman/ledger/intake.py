"""From the gateways' spool into the tables: each row once, whatever dies in between.

How far a file has been taken in is written with its rows in one transaction, so a crash repeats nothing; a
row's id is unique besides. A file goes when all its whole lines are in and its writer holds it no more.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from dragoman.gateway.open_calls import read_sheet
from dragoman.gateway.spool import LostRows, UsageRow
from dragoman.ledger.reading import read_lines
from dragoman.ledger.tables import FILES, LOST, ROWS, prepare
from dragoman.store.database import Database

# One transaction's worth: some two thousand rows, a fraction of a second on a slow disk.
_PIECE_BYTES = 1 << 20
_LARGEST = (1 << 62) - 1

PriceRow = Callable[[UsageRow], tuple[float | None, str]]
"""The cost of a row its gateway had no price for, in US dollars, and the price's source."""


def _no_price(row: UsageRow) -> tuple[float | None, str]:
    return None, ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one look at the spool brought.

    Attributes:
        rows: rows read; those the ledger had already are among them.
        files: spool files that were finished and deleted.
        lost: rows gateways had to give up.
    """

    rows: int = 0
    files: int = 0
    lost: int = 0


class Intake:
    """Takes one spool folder into one database; its methods may be called from any thread.

    Args:
        database: where to.
        spool: the folder; it need not exist.
        price: prices rows that have none yet.
    """

    def __init__(self, database: Database, spool: Path, *, price: PriceRow = _no_price) -> None:
        self._database = database
        self._spool = spool
        self._price = price
        self._known: dict[str, int] = {}
        self._prepared = False
        self._one_at_a_time = threading.Lock()

    def prepare(self) -> None:
        """Bring the tables up to date, once.

        Raises:
            StoreUnavailable: the database does not answer.
            StoreTooNew: the tables are a newer dragoman's.
        """
        if not self._prepared:
            prepare(self._database)
            self._prepared = True

    def take_in(self) -> Taken:
        """Take in every row that is on disk now.

        Raises:
            StoreUnavailable: the database does not answer; what is not in yet stays in the spool.
        """
        with self._one_at_a_time:
            self.prepare()
            rows = lost = 0
            gone: list[str] = []
            # Asked first: the rows that gateways wrote before they died are then surely read before the
            # sheets of what they left open, and a call's own row wins.
            dead = _sheets_of_the_dead(self._spool)
            for file in _spool_files(self._spool):
                try:
                    fd = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                except OSError:
                    continue  # another has taken it in and deleted it
                try:
                    # Asked before reading: what a writer wrote before it let go is read below.
                    finished = _let_go(fd)
                    taken = self._take_file(file.name, fd)
                    rows, lost = rows + taken.rows, lost + taken.lost
                    if finished:
                        file.unlink(missing_ok=True)
                        gone.append(file.name)
                finally:
                    os.close(fd)
            if gone:
                self._forget(gone)
            for sheet in dead:
                rows += self._take_sheet(sheet)
            return Taken(rows, len(gone), lost)

    def _take_sheet(self, sheet: Path) -> int:
        """Calls that ended with their gateway: what was known of them half a second before."""
        try:
            found = read_sheet(sheet.read_bytes())
        except FileNotFoundError:
            return 0  # another has taken it in
        if found:
            with self._database.write() as connection:
                self._add(connection, found, ())
        sheet.unlink(missing_ok=True)
        return len(found)

    def _take_file(self, name: str, fd: int) -> Taken:
        size = os.fstat(fd).st_size
        if name not in self._known:
            with self._database.read() as connection:
                self._known[name] = _taken_bytes(connection, name)
        rows = lost = 0
        while size > self._known[name]:
            with self._database.write() as connection:
                # Another process may have been here since we looked.
                begin = _taken_bytes(connection, name, lock=self._database.kind == "postgresql")
                data = os.pread(fd, _PIECE_BYTES, begin)
                found = read_lines(data)
                end = begin + (found.size or (len(data) if len(data) == _PIECE_BYTES else 0))
                if end > begin:
                    self._add(connection, found.rows, found.lost)
                    self._note(connection, name, end)
            self._known[name] = end
            rows, lost = rows + len(found.rows), lost + sum(each.lost for each in found.lost)
            if end == begin:
                break  # a torn line, or one that is still being written
        return Taken(rows=rows, lost=lost)

    def _add(self, connection: Connection, rows: Iterable[UsageRow], lost: Iterable[LostRows]) -> None:
        if values := [self._values(row) for row in rows]:
            connection.execute(self._insert(ROWS).on_conflict_do_nothing(), values)
        if losses := [
            {"id": _text(each.id), "rows": each.lost, "since": each.since, "until": each.until}
            for each in lost
        ]:
            connection.execute(self._insert(LOST).on_conflict_do_nothing(), losses)

    def _note(self, connection: Connection, name: str, taken_bytes: int) -> None:
        statement = self._insert(FILES).values(name=name, taken_bytes=taken_bytes)
        connection.execute(
            statement.on_conflict_do_update(index_elements=["name"], set_={"taken_bytes": taken_bytes})
        )

    def _forget(self, names: list[str]) -> None:
        with self._database.write() as connection:
            connection.execute(delete(FILES).where(FILES.c.name.in_(names)))
        for name in names:
            self._known.pop(name, None)

    def _insert(self, table: Any) -> Any:
        return (postgresql if self._database.kind == "postgresql" else sqlite).insert(table)

    def _values(self, row: UsageRow) -> dict[str, Any]:
        cost, source = row.cost_usd, row.price_source
        if cost is None and not source:
            # Asked for a row without tokens too: a token's limit in money refuses what has no price, and only
            # what is asked for here is looked up.
            found = self._price(row)
            if row.usage_source != "none":
                cost, source = found
        return {
            "id": _text(row.id),
            "at": row.at,
            "day": datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d"),
            "client": _text(row.client),
            "session": _text(row.session),
            "turn": _text(row.turn),
            "token": _text(row.token),
            "run": _text(row.run or ""),
            "client_wire": row.client_wire,
            "upstream_wire": row.upstream_wire or "",
            "model": _text(row.model),
            "provider": _text(row.provider),
            "upstream_model": _text(row.upstream_model),
            "key": _text(row.key),
            "stream": row.stream,
            "input_tokens": _count(row.input_tokens),
            "cache_read_tokens": _count(row.cache_read_tokens),
            "cache_write_tokens": _count(row.cache_write_tokens),
            "output_tokens": _count(row.output_tokens),
            "reasoning_tokens": _count(row.reasoning_tokens),
            "usage_source": row.usage_source,
            "cost_usd": cost,
            "price_source": source,
            "status": row.status,
            "outcome": row.outcome,
            "failure": _text(row.failure or ""),
            "ttfb_ms": row.ttfb_ms,
            "total_ms": row.total_ms,
            "gateway_ms": row.gateway_ms,
            "retries": row.retries,
            "shims": _text("; ".join(row.shims)),
        }


def take_in(database: Database, spool: Path, *, price: PriceRow = _no_price) -> Taken:
    """Take in every row of a spool folder that is on disk now.

    Raises:
        StoreUnavailable: the database does not answer; what is not in yet stays in the spool.
    """
    return Intake(database, spool, price=price).take_in()


def _spool_files(folder: Path) -> list[Path]:
    """Files with rows, oldest first; a file that was never given its name is cleared away."""
    for unnamed in folder.glob("*.new"):
        try:
            fd = os.open(unnamed, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if _let_go(fd):
                unnamed.unlink(missing_ok=True)
        finally:
            os.close(fd)
    return sorted(folder.glob("*.jsonl"))


def _sheets_of_the_dead(folder: Path) -> list[Path]:
    """Sheets of open calls (see `dragoman.gateway.open_calls`) whose gateway is gone."""
    found: list[Path] = []
    for sheet in folder.glob("*.open"):
        try:
            fd = os.open(sheet, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if _let_go(fd):
                found.append(sheet)
        finally:
            os.close(fd)
    return found


def _let_go(fd: int) -> bool:
    """Whether its writer has closed it or is dead: nothing more will come."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _taken_bytes(connection: Connection, name: str, *, lock: bool = False) -> int:
    asked = select(FILES.c.taken_bytes).where(FILES.c.name == name)
    if lock:
        asked = asked.with_for_update()
    return connection.execute(asked).scalar_one_or_none() or 0


def _text(value: str) -> str:
    """PostgreSQL takes no zero character, and a model's name may be anything a client sends."""
    return value.replace("\0", "") if "\0" in value else value


def _count(value: int) -> int:
    """A count as a column can hold it, whatever an upstream claims."""
    return min(max(value, 0), _LARGEST)

"""Bringing a room's tables up to date: a plain list of functions, each run once, all in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Column, Connection, Float, Integer, MetaData, String, Table, func, insert, select, text

from dragoman.store.database import Database
from dragoman.store.errors import StoreTooNew

Migration = Callable[[Connection], None]

_versions = Table(
    "schema_versions",
    MetaData(),
    Column("room", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("at", Float, nullable=False),
)
# Any constant will do; it only must be ours alone among the advisory locks of a shared server.
_POSTGRES_LOCK = 0x6472_6167


def migrate(
    database: Database,
    room: str,
    steps: Sequence[Migration],
    *,
    wall: Callable[[], float] = time.time,
) -> int:
    """Run the steps that have not been run yet; all of them, or none.

    Two processes may call this at once: one waits for the other.

    Args:
        database: where.
        room: whose tables; each room counts its own steps.
        steps: in order; a released step is never changed, only followed by another.
        wall: seconds since the epoch.

    Returns:
        How many steps were run now.

    Raises:
        StoreTooNew: the tables know more steps than we do.
        StoreUnavailable: the database does not answer.
    """
    with database.write() as connection:
        if database.kind == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
        _versions.create(connection, checkfirst=True)
        done = connection.execute(
            select(func.coalesce(func.max(_versions.c.version), 0)).where(_versions.c.room == room)
        ).scalar_one()
        if done > len(steps):
            raise StoreTooNew(
                f"the tables of {room} in {database.where} are of version {done}; "
                f"this dragoman knows {len(steps)}",
                hint="install the newer dragoman again, or name another database in DRAGOMAN_DATABASE",
            )
        for number, step in enumerate(steps[done:], start=done + 1):
            step(connection)
            name = step.__name__.lstrip("_")
            connection.execute(insert(_versions).values(room=room, version=number, name=name, at=wall()))
        return len(steps) - done

"""The handle: connections to read with, transactions to write with, and one kind of error for what fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dragoman.store.errors import StoreUnavailable

Kind = Literal["sqlite", "postgresql"]

# Longer than any write of ours takes, shorter than a user waits for an answer.
BUSY_TIMEOUT_S = 5.0


class Database:
    """One database, shared by the rooms of a process; its methods may be called from any thread.

    Args:
        address: from `dragoman.store.address.database_address`.
        busy_timeout_s: how long a writer waits for another one before `StoreUnavailable`, in seconds.

    Raises:
        StoreUnavailable: the file or its folder cannot be made, or the driver is not installed.
    """

    def __init__(self, address: URL, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.kind: Kind = "sqlite" if address.drivername.startswith("sqlite") else "postgresql"
        self.address = address
        self.where = address.render_as_string(hide_password=True)
        self._engine = self._open(address, busy_timeout_s)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to read with: one consistent view for as long as it is open.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        with self._errors_told(), self._engine.connect() as connection:
            if self.kind == "postgresql":
                # Its default shows each statement what was committed meanwhile.
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end, rolled back by any exception.

        On SQLite it takes the writer's place at its beginning (`BEGIN IMMEDIATE`), so that what it read is
        still true when it writes. On PostgreSQL it is READ COMMITTED: lock the rows you decide by.

        Raises:
            StoreUnavailable: locked for too long, disk full, connection lost; nothing was written.
        """
        with self._errors_told(), self._engine.connect() as connection:
            connection.info["begin_immediate"] = True
            try:
                with connection.begin():
                    yield connection
            finally:
                connection.info.pop("begin_immediate", None)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _open(self, address: URL, busy_timeout_s: float) -> Engine:
        if self.kind == "postgresql":
            try:
                return create_engine(
                    address,
                    pool_pre_ping=True,
                    pool_size=4,
                    max_overflow=8,
                    pool_timeout=busy_timeout_s,
                    connect_args={
                        "connect_timeout": max(2, round(busy_timeout_s)),
                        "options": f"-c lock_timeout={round(busy_timeout_s * 1000)}",
                    },
                )
            except ModuleNotFoundError as error:
                raise StoreUnavailable(
                    "PostgreSQL needs the extra `postgres`", hint="pip install 'dragoman[postgres]'"
                ) from error
        assert address.database is not None
        _make_private(Path(address.database))
        engine = create_engine(address, connect_args={"timeout": busy_timeout_s, "check_same_thread": False})

        @event.listens_for(engine, "connect")
        def prepare(raw: Any, _record: Any) -> None:
            # The driver's own implicit BEGIN would come too late for BEGIN IMMEDIATE.
            raw.isolation_level = None
            cursor = raw.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.close()

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            immediate = connection.info.get("begin_immediate", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        return engine

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StoreUnavailable(
                f"the database {self.where} is busy: every connection is in use", hint="try again in a moment"
            ) from error
        except (DatabaseError, InterfaceError) as error:
            if isinstance(error, (DataError, IntegrityError, InternalError, ProgrammingError)):
                raise  # ours, not the database's
            # The statement and its values stay out of the message: they may quote what a user wrote.
            raise StoreUnavailable(
                f"the database {self.where} does not take requests: {_reason(error)}",
                hint="free some disk, or end what holds it; dragoman doctor",
            ) from error


def _reason(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0][:200] if lines else type(error.orig).__name__


def _make_private(file: Path) -> None:
    """SQLite gives its journal files the database's own permissions."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreUnavailable(
            f"cannot open the database {file}: {error.strerror or error}",
            hint=f"make {file.parent} yours and writable",
        ) from error

"""Migrations run once, in order, all or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from dragoman.store.database import Database
from dragoman.store.errors import StoreTooNew, StoreUnavailable
from dragoman.store.migrations import migrate


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(URL.create("sqlite", database=str(tmp_path / "a" / "d.db")), busy_timeout_s=0.1)


def make_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE things (name TEXT)"))


def add_thing(connection: Connection) -> None:
    connection.execute(text("INSERT INTO things VALUES ('one')"))


def break_down(connection: Connection) -> None:
    raise RuntimeError("broken step")


def test_each_step_runs_once(database: Database) -> None:
    assert migrate(database, "room", [make_table]) == 1
    assert migrate(database, "room", [make_table, add_thing]) == 1
    assert migrate(database, "room", [make_table, add_thing]) == 0
    with database.read() as connection:
        assert connection.execute(text("SELECT name FROM things")).scalars().all() == ["one"]


def test_a_broken_step_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(RuntimeError):
        migrate(database, "room", [make_table, break_down])
    assert migrate(database, "room", [make_table]) == 1


def test_tables_of_a_newer_version_are_left_alone(database: Database) -> None:
    migrate(database, "room", [make_table, add_thing])
    with pytest.raises(StoreTooNew, match="version 2"):
        migrate(database, "room", [make_table])


def test_a_second_writer_is_told_and_nothing_is_written(database: Database) -> None:
    migrate(database, "room", [make_table])
    with database.write(), pytest.raises(StoreUnavailable, match="locked"), database.write():
        pass


def test_a_failed_transaction_is_rolled_back(database: Database) -> None:
    migrate(database, "room", [make_table])

    def half_a_transaction() -> None:
        with database.write() as connection:
            add_thing(connection)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_a_transaction()
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM things")).scalar_one() == 0


def test_the_file_is_private(database: Database, tmp_path: Path) -> None:
    migrate(database, "room", [make_table])
    for file in (tmp_path / "a").iterdir():
        assert file.stat().st_mode & 0o077 == 0

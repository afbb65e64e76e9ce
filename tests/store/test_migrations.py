"""Migrations run once, in order, all or none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from dragoman.store.database import Database
from dragoman.store.errors import StoreTooNew
from dragoman.store.migrations import migrate


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


def test_two_processes_that_migrate_at_once_do_it_once(database: Database) -> None:
    others = [Database(database.address, busy_timeout_s=10) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda other: migrate(other, "room", [make_table, add_thing]), others))
    assert sorted(done) == [0, 0, 0, 2]
    for other in others:
        other.close()


def test_the_file_is_private(tmp_path: Path) -> None:
    database = Database(URL.create("sqlite", database=str(tmp_path / "a" / "d.db")))
    migrate(database, "room", [make_table])
    for file in (tmp_path / "a").iterdir():
        assert file.stat().st_mode & 0o077 == 0

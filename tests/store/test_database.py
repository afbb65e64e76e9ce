"""The handle says in one way what it cannot do, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from dragoman.config.paths import resolve_home
from dragoman.store.address import database_address
from dragoman.store.database import Database
from dragoman.store.errors import StoreAddressInvalid, StoreUnavailable
from dragoman.store.migrations import migrate


def make_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE things (name TEXT PRIMARY KEY)"))


def add(connection: Connection, name: str) -> None:
    connection.execute(text("INSERT INTO things VALUES (:name)"), {"name": name})


def names(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT name FROM things ORDER BY name")).scalars())


def test_a_reader_sees_one_state_however_much_is_written_meanwhile(database: Database) -> None:
    migrate(database, "room", [make_table])
    with database.read() as reading:
        assert names(reading) == []
        with database.write() as writing:
            add(writing, "later")
        assert names(reading) == []
    with database.read() as reading:
        assert names(reading) == ["later"]


def test_a_failed_transaction_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    migrate(database, "room", [make_table])

    def half() -> None:
        with database.write() as connection:
            add(connection, "half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    with database.write() as connection:
        add(connection, "whole")
    with database.read() as connection:
        assert names(connection) == ["whole"]


def test_a_lock_that_is_held_for_too_long_is_told_and_nothing_is_written(database: Database) -> None:
    migrate(database, "room", [make_table])
    other = Database(database.address, busy_timeout_s=0.3)

    def wait_in_vain() -> None:
        with other.write() as connection:
            if other.kind == "postgresql":
                connection.execute(text("LOCK TABLE things IN EXCLUSIVE MODE"))
            add(connection, "second")

    with database.write() as connection:
        if database.kind == "postgresql":
            connection.execute(text("LOCK TABLE things IN EXCLUSIVE MODE"))
        add(connection, "first")
        with pytest.raises(StoreUnavailable):
            wait_in_vain()
    wait_in_vain()
    with database.read() as connection:
        assert names(connection) == ["first", "second"]
    other.close()


def test_what_a_statement_said_is_in_no_message(database: Database) -> None:
    with pytest.raises(StoreUnavailable) as told, database.write() as connection:  # noqa: PT012
        if database.kind == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 1"))
            connection.execute(text("SELECT pg_sleep(1), 'a secret'"))
        else:
            connection.execute(text("INSERT INTO nowhere VALUES ('a secret')"))
    assert "a secret" not in str(told.value)


def test_many_threads_may_write_at_once(database: Database) -> None:
    patient = Database(database.address, busy_timeout_s=20)
    migrate(patient, "room", [make_table])
    failed: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for number in range(10):
                with patient.write() as connection:
                    add(connection, f"{worker}-{number}")
        except BaseException as error:  # told in the main thread
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    with patient.read() as connection:
        assert len(names(connection)) == 60
    patient.close()


def test_sqlite_keeps_a_log_so_that_readers_and_a_writer_do_not_meet(tmp_path: Path) -> None:
    database = Database(URL.create("sqlite", database=str(tmp_path / "d.db")))
    with database.read() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    # 1 is NORMAL: a commit survives the end of every process; only a power cut may take the last ones.
    assert pragmas == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1}
    database.close()


_FILL = """
import resource, sys
from sqlalchemy import text
from sqlalchemy.engine import URL
from dragoman.store.database import Database
from dragoman.store.errors import StoreUnavailable
database = Database(URL.create("sqlite", database=sys.argv[1]))
with database.write() as connection:
    connection.execute(text("CREATE TABLE things (name TEXT)"))
    connection.execute(text("INSERT INTO things VALUES ('before')"))
# No file of this process may grow beyond this: what a full disk does, without filling one.
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    with database.write() as connection:
        for _ in range(100):
            connection.execute(text("INSERT INTO things VALUES (:x)"), {"x": "x" * 10_000})
except StoreUnavailable as error:
    print("told", error.hint)
with database.read() as connection:
    print(connection.execute(text("SELECT count(*) FROM things")).scalar_one())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with database.write() as connection:
    connection.execute(text("INSERT INTO things VALUES ('after')"))
    print(connection.execute(text("SELECT count(*) FROM things")).scalar_one())
"""


def test_a_full_disk_is_told_and_once_it_is_free_writing_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path / "d.db")], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    told, *counts = done.stdout.splitlines()
    assert told.startswith("told free some disk")
    assert counts == ["1", "2"]


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    file = tmp_path / "d.db"
    file.write_text("this is a letter, and not a short one. " * 100)
    with (
        pytest.raises(StoreUnavailable, match=r"d\.db"),
        Database(URL.create("sqlite", database=str(file))).read(),
    ):
        pass
    assert file.read_text().startswith("this is a letter")


def test_a_server_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    env = {
        "DRAGOMAN_HOME": str(tmp_path),
        "DRAGOMAN_DATABASE": "postgresql://me:hush@127.0.0.1:9/nothing",
    }
    database = Database(database_address(resolve_home(env), env), busy_timeout_s=0.5)
    with pytest.raises(StoreUnavailable) as told, database.read():
        pass
    assert "hush" not in str(told.value)
    assert "127.0.0.1" in str(told.value)


@pytest.mark.parametrize("address", ["mysql://u:hush@h/d", "sqlite://", "nonsense hush"])
def test_an_address_of_another_kind_is_refused_and_not_quoted(tmp_path: Path, address: str) -> None:
    env = {"DRAGOMAN_HOME": str(tmp_path), "DRAGOMAN_DATABASE": address}
    with pytest.raises(StoreAddressInvalid) as told:
        database_address(resolve_home(env), env)
    assert "hush" not in str(told.value)


def test_the_variable_the_configuration_names_must_be_set(tmp_path: Path) -> None:
    env = {"DRAGOMAN_HOME": str(tmp_path)}
    with pytest.raises(StoreAddressInvalid, match="MY_DB"):
        database_address(resolve_home(env), env, url_env="MY_DB")

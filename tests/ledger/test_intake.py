"""Rows come from the spool into the ledger once each, whatever is torn, locked, full or dead."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.engine import URL

from dragoman.gateway.spool import LostRows, UsageRow
from dragoman.ledger import intake as module
from dragoman.ledger.intake import Intake, take_in
from dragoman.ledger.summary import summarize
from dragoman.ledger.tables import FILES, ROWS, prepare
from dragoman.store.database import Database
from dragoman.store.errors import StoreUnavailable


def ids(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(ROWS.c.id).order_by(ROWS.c.id)).scalars())


def test_rows_of_several_files_come_in_once_each_and_finished_files_go(database, spool, row, lines):
    (spool / "1-a.jsonl").write_bytes(lines([row(1), row(2)]))
    (spool / "2-b.jsonl").write_bytes(lines([row(2), row(3)]))
    taken = take_in(database, spool)
    assert (taken.rows, taken.files) == (4, 2)
    assert ids(database) == ["req-000001", "req-000002", "req-000003"]
    assert list(spool.iterdir()) == []
    assert take_in(database, spool).rows == 0


def test_a_file_its_writer_holds_stays_and_only_what_is_new_is_read(database, spool, row, lines):
    file = spool / "1-a.jsonl"
    intake = Intake(database, spool)
    with file.open("wb", buffering=0) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(lines([row(1)], tail=b'{"id":"half'))
        assert intake.take_in().rows == 1
        held.write(b"\n" + lines([row(2)]))
        # Another process, which knows nothing but what the database says.
        assert take_in(database, spool).rows == 1
        assert intake.take_in().rows == 0
        assert file.exists()
    assert intake.take_in().files == 1
    assert not file.exists()
    assert ids(database) == ["req-000001", "req-000002"]
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(FILES)).scalar_one() == 0


def test_a_torn_tail_and_a_broken_line_are_passed_over(database, spool, row, lines):
    whole = lines([row(9)])
    (spool / "1.jsonl").write_bytes(lines([row(1)], tail=b'{"nonsense"\n\xff\xfe\n' + whole + whole[:20]))
    assert take_in(database, spool).rows == 2
    assert ids(database) == ["req-000001", "req-000009"]
    assert list(spool.iterdir()) == []


def test_fields_of_a_newer_gateway_are_ignored(database, spool, row):
    newer = msgspec.json.encode({**msgspec.to_builtins(row(1)), "mood": "fine"})
    (spool / "1.jsonl").write_bytes(newer + b"\n")
    assert take_in(database, spool).rows == 1


def test_what_no_database_could_hold_does_not_stop_the_rest(database, spool, row, lines):
    rows = [row(1, model="nul\0", input_tokens=2**63 - 1), row(2, output_tokens=-5), row(3)]
    (spool / "1.jsonl").write_bytes(lines(rows))
    take_in(database, spool)
    assert len(ids(database)) == 3
    assert {usage.model for usage in summarize(database).by_model} == {"nul", "glm-5.2"}


def test_a_spool_that_is_not_there_yet_has_no_rows(database, tmp_path):
    assert take_in(database, tmp_path / "nothing").rows == 0


def test_a_file_that_never_got_its_name_is_cleared_away_but_not_under_its_writer(database, spool):
    (spool / "1.new").touch()
    with (spool / "2.new").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        take_in(database, spool)
        assert [file.name for file in spool.iterdir()] == ["2.new"]


def test_what_a_gateway_had_to_give_up_is_told(database, spool, row, lines):
    lost = LostRows(id="l1", lost=17, since=1_700_000_000.0, until=1_700_000_009.0)
    (spool / "1.jsonl").write_bytes(msgspec.json.encode(lost) + b"\n" + lines([row(1)]))
    taken = take_in(database, spool)
    assert (taken.rows, taken.lost) == (1, 17)
    summary = summarize(database)
    assert (summary.total.requests, summary.lost_requests) == (1, 17)


def test_rows_of_a_locked_database_wait_in_the_spool(database, spool, row, lines):
    prepare(database)
    (spool / "1.jsonl").write_bytes(lines([row(1)]))
    other = Database(database.address, busy_timeout_s=0.2)
    with database.write() as connection:
        if database.kind == "postgresql":
            connection.execute(text("LOCK TABLE usage_rows IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StoreUnavailable):
            take_in(other, spool)
        assert (spool / "1.jsonl").exists()
    assert take_in(other, spool).rows == 1
    other.close()


def test_a_transaction_that_fails_half_way_takes_nothing_in_and_nothing_twice(
    database, spool, row, lines, monkeypatch
):
    (spool / "1.jsonl").write_bytes(lines([row(n) for n in range(50)]))
    monkeypatch.setattr(module, "_PIECE_BYTES", 2000)  # several transactions
    intake = Intake(database, spool)
    note, calls = intake._note, 0

    def fail_at_third(*arguments):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StoreUnavailable("gone")
        note(*arguments)

    monkeypatch.setattr(intake, "_note", fail_at_third)
    with pytest.raises(StoreUnavailable):
        intake.take_in()
    assert 0 < len(ids(database)) < 50
    assert intake.take_in().rows > 0
    assert len(ids(database)) == 50


def test_a_line_longer_than_any_row_does_not_stop_the_reading(database, spool, row, lines, monkeypatch):
    monkeypatch.setattr(module, "_PIECE_BYTES", 1000)
    (spool / "1.jsonl").write_bytes(lines([row(1)]) + b"x" * 5000 + b"\n" + lines([row(2)]))
    take_in(database, spool)
    assert ids(database) == ["req-000001", "req-000002"]


def test_a_hundred_thousand_rows_take_seconds(tmp_path: Path, spool: Path, row, lines):
    # The time of this process alone: others may be using the machine.
    database = Database(URL.create("sqlite", database=str(tmp_path / "d.db")))
    for file in range(20):
        rows = [row(file * 5000 + n, session=f"s{n % 40}", run=f"r{n % 90}") for n in range(5000)]
        (spool / f"{file:02d}.jsonl").write_bytes(lines(rows))
    begun = time.process_time()
    assert take_in(database, spool).rows == 100_000
    took = time.process_time() - begun
    begun = time.process_time()
    assert summarize(database).total.requests == 100_000
    summed = time.process_time() - begun
    with database.read() as connection:
        pages, page = (connection.execute(text(f"PRAGMA page_{n}")).scalar_one() for n in ("count", "size"))
    size = pages * page
    print(f"100,000 rows: {took:.2f} s in, {summed:.2f} s to add up, {size / 100_000:.0f} bytes a row")
    assert took < 15
    assert summed < 3
    database.close()


def test_the_price_of_a_refused_request_is_asked_for_and_its_row_stays_without_one(
    database, spool, row, lines
):
    asked: list[str] = []

    def price(told: UsageRow) -> tuple[float | None, str]:
        asked.append(told.upstream_model)
        return 0.0, "tariff"

    refused = row(1, provider="p", upstream_model="dear", usage_source="none", outcome="refused", status=429)
    (spool / "1.jsonl").write_bytes(lines([refused]))
    Intake(database, spool, price=price).take_in()
    assert asked == ["dear"]
    total = summarize(database).total
    assert (total.requests, total.priced, total.cost_usd) == (1, 0, None)

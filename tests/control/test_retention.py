"""What is old goes, with its size said; what is at work or holds unapplied work stays."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess

import httpx
import msgspec
import pytest

from dragoman.config.load import parse_config
from dragoman.control.app import control_app
from dragoman.control.bookkeeping import Books
from dragoman.control.retention import Retainer, Sweep, retention_routes, room_sweepers
from dragoman.gateway.spool import UsageRow
from dragoman.jobs.folder import RunFolder
from dragoman.ledger.summary import Asked
from dragoman.store.address import database_address
from dragoman.store.database import Database
from dragoman.store.errors import StoreUnavailable
from dragoman.workspace import Repository, create_workspace, discard, open_repository

NOW = 1_900_000_000.0
DAY = 86_400
RULES = "[retention]\nruns_days = 10\nworkspaces_days = 10\ntrash_days = 10\nusage_days = 30\nlogs_mb = 1\n"


@pytest.fixture
def books(home):
    books = Books(home, Database(database_address(home, {})))
    yield books
    books.database.close()


@pytest.fixture
def sweep(home, books):
    """Sweeps by what they look at; the time is far ahead of every file's."""

    def sweep(*, execute: bool = False, rules: str = RULES) -> dict[str, Sweep]:
        retainer = Retainer(lambda: parse_config(rules, {}), room_sweepers(home, books, wall=lambda: NOW))
        return {found.what: found for found in retainer.sweep(execute=execute)}

    return sweep


def make_run(home, name: str, *, at: float) -> RunFolder:
    folder = RunFolder(home.runs / name)
    folder.evidence.mkdir(parents=True)
    folder.lock_file.touch()
    (folder.evidence / "log.txt").write_bytes(b"x" * 20_000)
    for path in (folder.evidence / "log.txt", folder.lock_file, folder.evidence, folder.path):
        os.utime(path, (at, at))
    return folder


@pytest.fixture
def repository(tmp_path) -> Repository:
    folder = tmp_path / "repository"
    folder.mkdir()
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    (folder / "a.txt").write_text("one\n")
    for words in (
        ("init", "-q", "-b", "main"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"),
    ):
        subprocess.run(("git", *words), cwd=folder, check=True, env=env)
    return open_repository(folder)


def test_an_old_run_goes_and_a_young_or_living_one_or_one_with_a_workspace_stays(home, sweep, repository):
    make_run(home, "old", at=NOW - 11 * DAY)
    make_run(home, "young", at=NOW - 9 * DAY)
    living = make_run(home, "living", at=NOW - 99 * DAY)
    workspace = create_workspace(repository, home.state, id="working")
    make_run(home, "working", at=NOW - 99 * DAY)
    with living.lock_file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for execute in (False, True):
            runs = sweep(execute=execute)["runs"]
            said = {item.id: (item.kept, item.reason) for item in runs.items}
            assert said["living"] == (True, "it runs")
            assert said["old"] == (False, "old")
            assert "young" not in said
            assert 20_000 < runs.bytes < 60_000
            if not execute:
                assert (home.runs / "old").exists()
                assert said["working"] == (True, "its workspace is still there")
    assert sorted(path.name for path in home.runs.iterdir()) == ["living", "working", "young"]
    assert workspace.id == "working"


def test_unapplied_work_is_never_discarded_and_an_empty_workspace_goes_by_way_of_the_trash(
    home, sweep, repository
):
    create_workspace(repository, home.state, id="empty")
    full = create_workspace(repository, home.state, id="full")
    (full.path / "a.txt").write_text("two\n")
    found = sweep(execute=True)
    said = {item.id: item.kept for item in found["workspaces"].items}
    assert said == {"empty": False, "full": True}
    assert (full.path / "a.txt").read_text() == "two\n"
    # Just put there: the trash keeps it for its own ten days, counted from now.
    assert found["trash"].items == []


def test_what_lay_in_the_trash_long_enough_is_gone_for_good(home, sweep, repository):
    discard(create_workspace(repository, home.state, id="gone"))
    trash = sweep()["trash"]
    assert [(item.id, item.kept) for item in trash.items] == [("gone", False)]
    assert trash.bytes > 1000
    assert any(home.trash.iterdir())
    sweep(execute=True)
    assert not any(home.trash.iterdir())


def test_old_rows_become_sums_only_once_they_are_in_and_asked_for(home, sweep, books):
    rows = [
        UsageRow(
            id=f"r{n}", at=NOW - n * 20 * DAY, client_wire="chat", outcome="ok", model="m", input_tokens=5
        )
        for n in range(3)
    ]
    file = home.spool / "1.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    ledger = sweep()["ledger"]
    assert not file.exists()
    assert ledger.items[0].reason.startswith("1 rows of 1 days before")
    assert sweep(execute=True)["ledger"].bytes > 0
    assert sweep()["ledger"].items == []
    assert books.usage(Asked()).total.requests == 3


def test_logs_that_were_put_aside_go_first_and_the_ones_in_use_never(home, sweep):
    (home.logs / "daemon.log").write_bytes(b"x" * (900 << 10))
    (home.logs / "daemon.log.1").write_bytes(b"x" * (900 << 10))
    assert sweep(execute=True)["logs"].bytes == 900 << 10
    assert [path.name for path in home.logs.iterdir()] == ["daemon.log"]
    (home.logs / "daemon.log").write_bytes(b"x" * (3 << 20))
    assert sweep(execute=True)["logs"].items == []
    assert (home.logs / "daemon.log").exists()


def test_zero_days_keep_everything(home, sweep, repository):
    make_run(home, "old", at=NOW - 1000 * DAY)
    discard(create_workspace(repository, home.state, id="gone"))
    create_workspace(repository, home.state, id="empty")
    never = "[retention]\nruns_days = 0\nworkspaces_days = 0\ntrash_days = 0\nusage_days = 0\n"
    found = sweep(execute=True, rules=never)
    assert all(sweep.items == [] and sweep.error is None for sweep in found.values())
    assert found["runs"].rule == "for ever"


def test_a_room_that_cannot_look_does_not_stop_the_others_and_the_api_says_so(control, secret):
    def broken(rules, execute):
        raise StoreUnavailable("the database is locked")

    retainer = Retainer(
        lambda: parse_config("", {}),
        {"ledger": broken, "logs": lambda rules, execute: Sweep(what="logs", rule="", bytes=int(execute))},
    )
    app = control_app(control, retention_routes(retainer))

    async def ask(method: str) -> dict:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.request(method, "/api/v1/gc", headers={"x-api-key": secret})).json()

    looked, done = asyncio.run(ask("GET")), asyncio.run(ask("POST"))
    assert (looked["dry_run"], looked["bytes"]) == (True, 0)
    assert (done["dry_run"], done["bytes"]) == (False, 1)
    assert done["sweeps"][0]["error"] == "the database is locked"

"""The engine takes jobs up again after whatever died, once each, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL, make_url

from dragoman.config.paths import Home, resolve_home
from dragoman.errors import DragomanError
from dragoman.jobs.engine import DbosEngine, executor_of
from dragoman.jobs.request import JobRequest
from dragoman.jobs.service import JobService
from dragoman.jobs.testing import ScriptedLaunch
from dragoman.process.locks import FileLock, is_locked
from dragoman.store.database import Database


def until(true: Callable[[], Any], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


class Shop:
    """A home with jobs and as many control processes' engines as a test starts, one after the other."""

    def __init__(self, folder: Path, address: URL | None) -> None:
        self.home: Home = resolve_home({"DRAGOMAN_HOME": str(folder / "home"), "HOME": str(folder)})
        self.home.ensure()
        self.repository = folder / "repo"
        subprocess.run(("git", "init", "-q", str(self.repository)), check=True)
        self.launch = ScriptedLaunch(self.home)
        self.postgres = address
        self.database = Database(
            address or URL.create("sqlite", database=str(self.home.state / "dragoman.db"))
        )
        self.service = JobService(self.home, self.database, executor_of(self.home), self.launch)
        self.service.open()
        self.engines: list[DbosEngine] = []
        self.open_engine()

    def open_engine(self, **options: Any) -> DbosEngine:
        engine = DbosEngine(
            self.home,
            self.service.executor,
            self.service.carry,
            self.service.glance,
            postgres=self.postgres,
            **options,
        )
        self.engines.append(engine)
        self.service.engine = engine
        return engine

    @property
    def engine(self) -> DbosEngine:
        return self.engines[-1]

    def ask(self, task: str, **fields: Any) -> Any:
        return self.service.submit(JobRequest(task=task, cwd=str(self.repository), **fields)).job

    def ended(self, job_id: str) -> Any:
        view = asyncio.run(self.service.wait(job_id, 30.0))
        assert view.ended, view
        return view

    def times_worked(self, run_id: str) -> int:
        return len((self.home.runs / run_id / "worked").read_text().splitlines())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    address = None
    if request.param == "postgresql":
        url = make_url(request.getfixturevalue("postgres_url"))
        address = url.set(drivername="postgresql+psycopg")
    shop = Shop(tmp_path, address)
    yield shop
    for job in shop.service.under_way():
        shop.service.cancel(job.id)
    until(lambda: (shop.service.settle(), not shop.service.under_way())[1])
    for engine in shop.engines:
        engine.close()
    shop.database.close()


def test_a_job_is_seen_through_and_taken_up_at_once_when_the_engine_is_warm(shop: Shop) -> None:
    first = shop.ask("do: success")
    assert shop.ended(first.job_id).status == "succeeded"
    asked_at = time.monotonic()
    second = shop.ask("do: success\nagain")
    until(lambda: len(shop.launch.started) == 2)
    assert time.monotonic() - asked_at < 3.0  # a tenth of a second on an idle machine
    assert shop.ended(second.job_id).status == "succeeded"


def test_a_job_in_mid_work_is_joined_by_the_next_engine_and_not_started_again(shop: Shop) -> None:
    job = shop.ask("do: hang")
    until(lambda: shop.service.show(job.job_id).phase == "working")
    shop.engine.close()
    assert shop.service.show(job.job_id).status == "running"
    engine = shop.open_engine()
    engine.start(job.job_id)
    until(lambda: job.job_id in engine._carried)
    assert shop.times_worked(job.run_id) == 1
    shop.service.cancel(job.job_id)
    assert shop.ended(job.job_id).status == "cancelled"
    assert len(shop.launch.started) == 1


def test_a_job_that_ended_while_no_engine_was_there_is_told_as_it_ended(shop: Shop) -> None:
    job = shop.ask("do: success 0.3")
    until(lambda: shop.launch.started)
    shop.engine.close()
    until((shop.home.runs / job.run_id / "result.json").exists)
    shop.open_engine().start(job.job_id)
    assert shop.ended(job.job_id).status == "succeeded"
    assert shop.times_worked(job.run_id) == 1


def test_queued_jobs_start_one_after_the_other(shop: Shop) -> None:
    views = [shop.ask(f"do: success\n{number}") for number in range(3)]
    assert [view.status for view in views] == ["running", "queued", "queued"]
    for view in views:
        assert shop.ended(view.job_id).status == "succeeded"
    assert [job_id for job_id, _ in shop.launch.started] == [view.job_id for view in views]


def test_a_mistake_in_one_step_does_not_lose_the_job(shop: Shop) -> None:
    carry, faults = shop.service.carry, iter((RuntimeError("a mistake"), OSError("disk full")))

    def faulty(job_id: str) -> bool:
        if (fault := next(faults, None)) is not None:
            raise fault
        return carry(job_id)

    shop.engine._carry = faulty
    assert shop.ended(shop.ask("do: success").job_id).status == "succeeded"


def test_only_one_engine_of_a_home_works_at_a_time(tmp_path: Path) -> None:
    shop = Shop(tmp_path, None)
    other = FileLock(shop.home.state / "engine.lock")
    other.acquire()
    job = shop.ask("do: success")
    until(lambda: shop.engine.problem is not None)
    assert not shop.engine.launched
    assert shop.launch.started == []
    other.release()
    assert shop.ended(job.job_id).status == "succeeded"
    shop.engine.close()
    assert not is_locked(shop.home.state / "engine.lock")
    shop.database.close()


def test_nothing_is_loaded_late_from_another_version_than_the_one_that_runs(tmp_path: Path) -> None:
    shop = Shop(tmp_path, None)
    upgraded = [DragomanError("dragoman was upgraded while it ran")]

    def check() -> None:
        if upgraded:
            raise upgraded[0]

    shop.open_engine(check=check)
    job = shop.ask("do: success")
    until(lambda: shop.engine.problem is not None)
    assert "upgraded" in str(shop.engine.problem)
    assert shop.service.show(job.job_id).status == "running"
    upgraded.clear()
    assert shop.ended(job.job_id).status == "succeeded"
    shop.engine.close()
    shop.database.close()


def test_the_engines_file_is_private_and_holds_no_prompt(tmp_path: Path) -> None:
    shop = Shop(tmp_path, None)
    shop.ended(shop.ask("do: success\nSECRET-PROMPT").job_id)
    shop.engine.close()
    files = list(shop.home.state.glob("engine.db*"))
    assert files
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
        assert b"SECRET-PROMPT" not in file.read_bytes()
    shop.database.close()


_CONTROL = """
    import sys, time
    from pathlib import Path
    from sqlalchemy.engine import URL
    from dragoman.config.paths import resolve_home
    from dragoman.jobs.engine import DbosEngine, executor_of
    from dragoman.jobs.janitor import put_in_order
    from dragoman.jobs.service import JobService
    from dragoman.jobs.testing import ScriptedLaunch
    from dragoman.store.database import Database

    home = resolve_home({"DRAGOMAN_HOME": sys.argv[1], "HOME": sys.argv[1]})
    database = Database(URL.create("sqlite", database=str(home.state / "dragoman.db")))
    service = JobService(home, database, executor_of(home), ScriptedLaunch(home))
    service.open()
    engine = DbosEngine(home, service.executor, service.carry, service.glance)
    service.engine = engine
    put_in_order(service)
    engine.warm()
    while not engine.launched:
        time.sleep(0.01)
    print("up", flush=True)
    sys.stdin.read()
"""


def test_c10_jobs_survive_the_kill_of_the_process_that_sees_them_through(tmp_path: Path) -> None:
    shop = Shop(tmp_path, None)
    shop.service.engine = None  # only the other process works

    def control() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            (sys.executable, "-c", textwrap.dedent(_CONTROL), str(tmp_path / "home")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    jobs = [shop.ask(f"do: success 3\n{number}", kind="query") for number in range(3)]
    waiting = [shop.ask(f"do: success\n{number}") for number in range(2)]
    first = control()
    try:
        until(lambda: all(shop.service.show(job.job_id).phase == "working" for job in jobs))
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    second = control()
    try:
        for job in (*jobs, *waiting):
            assert shop.ended(job.job_id).status == "succeeded"
            assert shop.times_worked(job.run_id) == 1
    finally:
        second.communicate()
        shop.database.close()

"""Admission is one transaction: whatever is asked, in whatever order and by however many at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError

from dragoman.jobs.admission import admit, promote, withdraw
from dragoman.jobs.request import JobRequest
from dragoman.jobs.request_key import request_key
from dragoman.jobs.states import TERMINAL, JobStatus
from dragoman.jobs.table import MIGRATIONS, ROOM, Job, add_job, job_of, jobs, move
from dragoman.store.database import Database
from dragoman.store.migrations import migrate


def candidate(name: str, *, repository: str = "/r", fingerprint: str | None = None, **asked: Any) -> Job:
    request = JobRequest(**{"task": name, "cwd": repository, **asked})
    return Job(
        id=f"job-{name}",
        number=0,
        executor="here",
        kind=request.kind,
        status=JobStatus.QUEUED,
        result_status=None,
        repository=repository,
        limited=request.limited,
        fingerprint=fingerprint or name,
        priority=request.priority,
        run_id=f"run-{name}",
        created_at=0.0,
        request=request,
    )


def all_jobs(database: Database) -> list[Job]:
    with database.read() as connection:
        return [job_of(row) for row in connection.execute(select(jobs).order_by(jobs.c.number)).mappings()]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    if request.param == "sqlite":
        yield URL.create("sqlite", database=str(tmp_path / "d.db"))
    else:
        url = make_url(request.getfixturevalue("postgres_url"))
        yield url.set(drivername="postgresql+psycopg")


def test_c01_c03_of_forty_requests_at_once_by_several_processes_handles_one_of_each_kind_runs(
    address: URL,
) -> None:
    handles = [Database(address) for _ in range(4)]
    migrate(handles[0], ROOM, MIGRATIONS)
    start = threading.Barrier(40)

    def ask(number: int) -> Any:
        start.wait()
        # Two tasks, asked for twenty times each, both writes of one repository.
        same = candidate(f"{number}", fingerprint=f"task-{number % 2}")
        return admit(handles[number % 4], same, max_writes=1)

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ask, range(40)))
    assert Counter(answer.decision for answer in answers) == {"created": 2, "deduped": 38}
    found = all_jobs(handles[0])
    assert sorted(job.status for job in found) == ["queued", "running"]
    assert [job.joined for job in found] == [19, 19]
    assert [job.number for job in found] == [1, 2]
    for handle in handles:
        handle.close()


def test_the_database_itself_refuses_a_second_equal_job_that_is_under_way(address: URL) -> None:
    database = Database(address)
    migrate(database, ROOM, MIGRATIONS)
    admit(database, candidate("a", fingerprint="f"), max_writes=1)
    with pytest.raises(IntegrityError), database.write() as connection:
        add_job(connection, candidate("b", fingerprint="f"))
    assert len(all_jobs(database)) == 1
    database.close()


def test_an_end_is_never_left(address: URL) -> None:
    database = Database(address)
    migrate(database, ROOM, MIGRATIONS)
    admit(database, candidate("a"), max_writes=1)
    with database.write() as connection:
        assert move(connection, "job-a", JobStatus.CANCELLED)
    for later in JobStatus:
        with database.write() as connection:
            assert not move(connection, "job-a", later)
    assert withdraw(database, "job-a", now=1.0) is not None
    assert [job.status for job in all_jobs(database)] == [JobStatus.CANCELLED]
    database.close()


_NAMES = st.integers(0, 5)
_STEPS = st.one_of(
    st.tuples(st.just("ask"), _NAMES, st.integers(0, 9), st.sampled_from(["/r", "/s"]), st.booleans()),
    st.tuples(st.just("end"), _NAMES),
    st.tuples(st.just("cancel"), _NAMES),
    st.tuples(st.just("promote")),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEPS, max_size=25), limit=st.integers(1, 3))
def test_no_order_of_requests_ends_and_cancels_breaks_a_promise(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("admission")
    database = Database(URL.create("sqlite", database=str(folder / "d.db")))
    migrate(database, ROOM, MIGRATIONS)
    ended: dict[str, JobStatus] = {}
    made = 0
    for step in steps:
        now = all_jobs(database)
        match step:
            case ("ask", task, priority, repository, reads):
                made += 1
                kind = "query" if reads else "implement"
                job = candidate(
                    f"{made}",
                    repository=repository,
                    fingerprint=f"{task}-{repository}-{kind}",
                    kind=kind,
                    priority=priority,
                )
                admit(database, job, max_writes=limit)
            case ("end", index) if index < len(now):
                with database.write() as connection:
                    move(connection, now[index].id, JobStatus.SUCCEEDED, expected={JobStatus.RUNNING})
                promote(database, "here", max_writes=limit)
            case ("cancel", index) if index < len(now):
                withdraw(database, now[index].id, now=1.0)
            case _:
                promote(database, "here", max_writes=limit)
        found = all_jobs(database)
        running = Counter(job.repository for job in found if job.limited and job.status == "running")
        assert all(count <= limit for count in running.values())
        active = [job.fingerprint for job in found if not job.ended]
        assert len(active) == len(set(active))
        assert all(job.status == "running" for job in found if not job.limited and not job.ended)
        for job in found:
            assert ended.get(job.id, job.status) == job.status, "an end was left"
            if job.status in TERMINAL:
                ended[job.id] = job.status
    promote(database, "here", max_writes=limit)
    found = all_jobs(database)
    running = Counter(job.repository for job in found if job.limited and job.status == "running")
    for job in found:
        assert job.status != "queued" or running[job.repository] == limit, "there was room"
    database.close()


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_the_key_of_a_request_mixes_up_no_fields(task: str, diff: str, constraint: str) -> None:
    one = JobRequest(task=task + diff, cwd="/r", constraints=(constraint,))
    other = JobRequest(task=task, cwd="/r", diff=diff, constraints=(constraint,))
    assert request_key(one, "/r", "", None) != request_key(other, "/r", "", None)
    assert request_key(one, "/r", "", "base") != request_key(one, "/r", "", None)
    assert request_key(one, "/r", "sub", None) != request_key(one, "/r", "", None)


def test_the_name_a_folder_was_asked_by_is_no_part_of_the_key() -> None:
    one = JobRequest(task="x", cwd="/alias/sub")
    assert request_key(one, "/r", "sub", None) == request_key(
        JobRequest(task="x", cwd="/r/sub", priority=1, when_busy="tell"), "/r", "sub", None
    )

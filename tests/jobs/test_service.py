"""Jobs from the request to the end, with a scripted runner: once, in order, and never stuck."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import list_tokens, mint
from dragoman.errors import DragomanError
from dragoman.jobs.folder import EventLog
from dragoman.jobs.reconcile import runner_of
from dragoman.jobs.request import JobRequest
from dragoman.jobs.service import JobNotFound, JobService
from dragoman.jobs.states import JobStatus
from dragoman.jobs.table import Job, read_job
from dragoman.jobs.testing import ScriptedLaunch, ThreadEngine
from dragoman.process.identity import ProcessIdentity, identify, send_signal
from dragoman.process.locks import is_locked
from dragoman.process.tree import find_tree, run_marker
from dragoman.store.database import Database


def make_repository(path: Path) -> Path:
    path.mkdir(parents=True)
    for words in (
        ("init", "-q"),
        ("-c", "user.name=u", "-c", "user.email=u@localhost", "commit", "-q", "--allow-empty", "-m", "one"),
    ):
        subprocess.run(("git", "-C", str(path), *words), check=True, capture_output=True)
    return path


def until(true: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


class Desk:
    """A service with a scripted runner over a repository."""

    def __init__(self, folder: Path) -> None:
        self.home: Home = resolve_home({"DRAGOMAN_HOME": str(folder / "home"), "HOME": str(folder)})
        self.home.ensure()
        self.repository = make_repository(folder / "repo")
        self.launch = ScriptedLaunch(self.home)
        self.told: list[tuple[str, str]] = []
        self.service, self.engine = self.another()

    def another(self) -> tuple[JobService, ThreadEngine]:
        """A second control process, as far as jobs are concerned."""
        database = Database(URL.create("sqlite", database=str(self.home.state / "dragoman.db")))
        service = JobService(self.home, database, "here", self.launch)
        service.open()
        engine = ThreadEngine(service.carry)
        service.engine = engine
        service.on_change.append(lambda job: self.told.append((job.job_id, job.status)))
        return service, engine

    def ask(self, task: str = "do: success", **fields: Any) -> Any:
        return self.service.submit(JobRequest(task=task, **{"cwd": str(self.repository), **fields}))

    def ended(self, job_id: str, timeout_s: float = 20.0) -> Any:
        view = asyncio.run(self.service.wait(job_id, timeout_s))
        assert view.ended, view
        return view

    def working(self, job_id: str) -> Job:
        """Wait until a job's runner works; its row."""
        until(lambda: self.service.show(job_id).phase == "working")
        return self.row(job_id)

    def row(self, job_id: str) -> Job:
        with self.service.database.read() as connection:
            job = read_job(connection, job_id)
        assert job is not None
        return job

    def runs_worked(self, job_id: str) -> int:
        file = self.home.runs / self.row(job_id).run_id / "worked"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    for job in desk.service.under_way():
        desk.service.cancel(job.id)
    until(lambda: (desk.service.settle(), not desk.service.under_way())[1])
    desk.engine.close()
    desk.service.database.close()


def test_a_job_runs_and_its_result_can_be_read(desk: Desk) -> None:
    done = desk.ask()
    assert (done.decision, done.job.status) == ("created", "running")
    view = desk.ended(done.job.job_id)
    assert (view.status, view.result_status, view.phase) == ("succeeded", "success", None)
    result = desk.service.result(view.job_id)
    assert (result["status"], result["job_id"], result["run_id"]) == ("success", view.job_id, view.run_id)
    assert [event["n"] for event in desk.service.events(view.job_id, after=1)] == [2, 3]


def test_a_failed_run_is_a_failed_job_with_its_reason(desk: Desk) -> None:
    view = desk.ended(desk.ask("do: fail").job.job_id)
    assert (view.status, view.error_code, view.error) == ("failed", "provider_error", "the provider said 529")


def test_c01_twenty_equal_requests_at_once_are_one_job(desk: Desk) -> None:
    start = threading.Barrier(20)

    def ask(_: int) -> Any:
        start.wait()
        return desk.ask("do: hang")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert len({answer.job.job_id for answer in answers}) == 1
    assert sorted(answer.decision for answer in answers) == ["created"] + ["deduped"] * 19
    job_id = answers[0].job.job_id
    desk.working(job_id)
    assert desk.runs_worked(job_id) == 1
    assert desk.service.show(job_id).joined == 19


@pytest.mark.parametrize(
    "other",
    [
        {"diff": "--- a\n"},
        {"constraints": ("no new files",)},
        {"allowed_files": ("a.py",)},
        {"model": "another"},
        {"verification_commands": ("true",)},
        {"timeout_s": 5.0},
        {"max_turns": 3},
        {"security_profile": "strict"},
        {"context_roots": ("/srv/x",)},
        {"nonce": "again"},
        {"kind": "review"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_c02_a_request_that_differs_in_anything_is_another_job(desk: Desk, other: dict[str, Any]) -> None:
    first = desk.ask("do: hang", side_by_side=True)
    second = desk.ask("do: hang", **{"side_by_side": True, **other})
    assert second.decision == "created"
    assert first.job.job_id != second.job.job_id


def test_an_equal_request_by_another_client_or_with_another_priority_joins(desk: Desk) -> None:
    first = desk.ask("do: hang")
    asker = {"client": "codex", "thread": "t"}
    second = desk.service.submit(
        JobRequest(task="do: hang", cwd=str(desk.repository), priority=1, asker=_asker(asker))
    )
    assert (second.decision, second.job.job_id) == ("deduped", first.job.job_id)


def _asker(fields: dict[str, str]) -> Any:
    from dragoman.jobs.request import Asker

    return Asker(**fields)


def test_a_finished_job_is_not_joined(desk: Desk) -> None:
    first = desk.ended(desk.ask().job.job_id)
    assert desk.ask().decision == "created"
    assert desk.ask("do: hang").job.job_id != first.job_id


def test_c03_writes_of_one_repository_run_one_after_the_other(desk: Desk) -> None:
    answers = [desk.ask(f"do: success 0.2\n{number}") for number in range(4)]
    assert [answer.job.status for answer in answers] == ["running", "queued", "queued", "queued"]
    assert answers[1].queued_behind == answers[0].job.job_id
    for answer in answers:
        desk.ended(answer.job.job_id)
    started = [desk.row(answer.job.job_id) for answer in answers]
    for before, after in itertools.pairwise(started):
        assert before.ended_at is not None
        assert after.started_at is not None
        assert before.ended_at <= after.started_at


def test_c03_a_busy_repository_is_told_to_those_who_will_not_wait(desk: Desk) -> None:
    first = desk.ask("do: hang")
    second = desk.ask("do: hang\nother", when_busy="tell")
    assert (second.decision, second.job.job_id) == ("busy_existing", first.job.job_id)
    assert len(desk.service.find()) == 1


def test_c03_reads_and_batches_are_not_held_up_by_a_write(desk: Desk) -> None:
    desk.ask("do: hang")
    assert desk.ask("do: hang", kind="query").job.status == "running"
    assert desk.ask("do: hang", kind="review").job.status == "running"
    assert desk.ask("do: hang\nbatch", side_by_side=True).job.status == "running"


def test_another_repository_has_a_limit_of_its_own(desk: Desk, tmp_path: Path) -> None:
    desk.ask("do: hang")
    other = make_repository(tmp_path / "other")
    assert desk.ask("do: hang", cwd=str(other)).job.status == "running"


def test_c02_the_same_request_on_other_uncommitted_work_is_another_job(desk: Desk) -> None:
    first = desk.ask("do: hang", side_by_side=True)
    committed = desk.ask("do: hang", side_by_side=True, dirty_policy="committed")
    assert desk.ask("do: hang", side_by_side=True).job.job_id == first.job.job_id
    (desk.repository / "draft.txt").write_text("what a snapshot would take in")
    second = desk.ask("do: hang", side_by_side=True)
    assert (second.decision, second.job.status) == ("created", "running")
    assert desk.ask("do: hang", side_by_side=True).job.job_id == second.job.job_id
    # What starts from the commit alone is the same as before.
    joined = desk.ask("do: hang", side_by_side=True, dirty_policy="committed")
    assert joined.job.job_id == committed.job.job_id


def test_c04_a_symlink_and_a_subfolder_are_the_same_repository(desk: Desk, tmp_path: Path) -> None:
    (desk.repository / "sub").mkdir()
    (tmp_path / "alias").symlink_to(desk.repository)
    first = desk.ask("do: hang")
    through_alias = desk.ask("do: hang", cwd=str(tmp_path / "alias"))
    assert through_alias.decision == "deduped"
    below = desk.ask("do: hang", cwd=str(tmp_path / "alias" / "sub"))
    assert (below.decision, below.job.status) == ("created", "queued")
    assert below.job.repository == first.job.repository


def test_c05_a_job_cancelled_while_queued_never_starts(desk: Desk) -> None:
    first = desk.ask("do: hang")
    second = desk.ask("do: success\nsecond")
    assert desk.service.cancel(second.job.job_id).status == "cancelled"
    desk.service.cancel(first.job.job_id)
    desk.ended(first.job.job_id)
    third = desk.ended(desk.ask("do: success\nthird").job.job_id)
    assert third.status == "succeeded"
    assert desk.service.show(second.job.job_id).status == "cancelled"
    assert second.job.job_id not in {job_id for job_id, _ in desk.launch.started}


def test_a_queued_job_of_higher_priority_goes_first(desk: Desk) -> None:
    first = desk.ask("do: hang")
    late = desk.ask("do: success\nlate", priority=9)
    soon = desk.ask("do: success\nsoon", priority=1)
    desk.service.cancel(first.job.job_id)
    for answer in (late, soon):
        desk.ended(answer.job.job_id)
    order = [job_id for job_id, _ in desk.launch.started]
    assert order == [first.job.job_id, soon.job.job_id, late.job.job_id]


def test_a_cancelled_job_is_cancelled_for_good_and_only_once_it_is_dead(desk: Desk) -> None:
    job = desk.working(desk.ask("do: hang").job.job_id)
    asked = desk.service.cancel(job.id)
    assert (asked.status, asked.phase, asked.cancelling) == ("running", "cancelling", True)
    view = desk.ended(job.id)
    assert view.status == "cancelled"
    assert not is_locked(desk.home.runs / job.run_id / "lock")
    desk.service.cancel(job.id)
    desk.service.settle()
    assert desk.service.show(job.id).status == "cancelled"


def test_an_equal_request_does_not_join_a_job_that_is_being_cancelled(desk: Desk) -> None:
    first = desk.working(desk.ask("do: hang").job.job_id)
    desk.service.cancel(first.id)
    again = desk.ask("do: hang")
    assert again.decision == "created"
    assert again.job.job_id != first.id


def test_a_success_that_comes_after_a_cancel_stays_cancelled(desk: Desk) -> None:
    job = desk.ask("do: success 0.5").job
    until(lambda: desk.launch.started)
    desk.engine.close()  # nobody looks while both happen
    until((desk.home.runs / job.run_id / "result.json").exists)
    desk.service.cancel(job.job_id)
    assert desk.ended(job.job_id).status == "cancelled"
    assert desk.service.result(job.job_id)["status"] == "success"


def test_c09_a_killed_runner_is_a_crashed_job_within_five_seconds(desk: Desk) -> None:
    job = desk.working(desk.ask("do: orphan").job.job_id)
    runner = runner_of(job)
    assert runner is not None
    until(lambda: find_tree(None, marker=run_marker(job.run_id)))
    killed_at = time.monotonic()
    send_signal(runner, signal.SIGKILL)
    view = desk.ended(job.id)
    assert time.monotonic() - killed_at < 5.0
    assert (view.status, view.error_code) == ("crashed", "runner_crashed")
    assert find_tree(None, marker=run_marker(job.run_id)) == []
    assert not is_locked(desk.home.runs / job.run_id / "lock")
    assert desk.service.result(job.id)["error_code"] == "runner_crashed"
    assert desk.ask().job.status == "running"


def test_c09_a_crashed_jobs_result_names_the_workspace_that_can_be_previewed(desk: Desk) -> None:
    job = desk.working(desk.ask("do: hang").job.job_id)
    log = EventLog(desk.service.folder(job.run_id), time.time)
    log.emit("workspace", id=job.run_id, path="/w", base="b")
    log.close()
    runner = runner_of(job)
    assert runner is not None
    send_signal(runner, signal.SIGKILL)
    desk.ended(job.id)
    result = desk.service.result(job.id)
    assert result["workspace"] == {"id": job.run_id, "path": "/w", "base": "b"}
    assert result["next"] == f"dragoman apply {job.run_id} --preview"


def test_d08_the_ledgers_count_stands_over_what_the_run_saw_of_it(desk: Desk) -> None:
    job_id = desk.ended(desk.ask().job.job_id).job_id
    folder = desk.service.folder(desk.row(job_id).run_id)
    own = {"source": "client", "requests": None, "input_tokens": 1}
    folder.finish((folder.result() or {}) | {"usage": own})
    desk.service.usage_of = lambda run_id: {"total": {"requests": 3, "input_tokens": 70, "cost_usd": 1.0}}
    found = desk.service.result(job_id)
    assert found["usage"] == {"source": "gateway_ledger", "requests": 3, "input_tokens": 70}
    assert found["gateway_usage"]["total"]["cost_usd"] == 1.0


def test_c09_a_crash_is_seen_by_whoever_asks_first_with_nobody_watching(desk: Desk) -> None:
    job = desk.working(desk.ask("do: hang").job.job_id)
    desk.engine.close()
    runner = runner_of(job)
    assert runner is not None
    send_signal(runner, signal.SIGKILL)
    until(lambda: identify(runner.pid) != runner)
    assert desk.service.show(job.id).status == "crashed"


def test_a_runner_that_dies_before_it_begins_is_a_crash_too(desk: Desk) -> None:
    assert desk.ended(desk.ask("do: die").job.job_id).status == "crashed"


def test_c10_another_control_process_finds_jobs_and_results(desk: Desk) -> None:
    job = desk.working(desk.ask("do: success 0.5").job.job_id)
    desk.engine.close()
    service, engine = desk.another()
    try:
        assert service.show(job.id).status == "running"
        engine.start(job.id)
        view = asyncio.run(service.wait(job.id, 20.0))
        assert view.status == "succeeded"
        assert service.result(job.id)["status"] == "success"
        assert desk.runs_worked(job.id) == 1
    finally:
        engine.close()
        service.database.close()


def test_c10_a_start_that_was_never_written_down_is_not_repeated(desk: Desk) -> None:
    desk.engine.close()
    job = desk.ask("do: hang").job
    desk.launch(desk.row(job.job_id), None)  # control was killed right after the spawn
    service, engine = desk.another()
    try:
        engine.start(job.job_id)
        until(lambda: service.show(job.job_id).phase == "working")
        assert len(desk.launch.started) == 1
        service.cancel(job.job_id)
        assert asyncio.run(service.wait(job.job_id, 20.0)).status == "cancelled"
        assert desk.runs_worked(job.job_id) == 1
    finally:
        engine.close()
        service.database.close()


def test_c11_a_process_that_has_got_the_runners_pid_is_not_taken_for_it(desk: Desk) -> None:
    job = desk.working(desk.ask("do: hang").job.job_id)
    runner = runner_of(job)
    assert runner is not None
    stranger = subprocess.Popen(("sleep", "60"))
    try:
        desk.engine.close()
        send_signal(runner, signal.SIGKILL)
        until(lambda: identify(runner.pid) != runner)
        from dragoman.jobs.table import note

        with desk.service.database.write() as connection:
            note(connection, job.id, runner_pid=stranger.pid, runner_started_at=runner.started_at)
        assert desk.service.show(job.id).status == "crashed"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_c14_asking_twice_in_haste_is_noticed_and_does_not_move_the_moment(desk: Desk) -> None:
    job = desk.ask("do: hang").job
    _, first = desk.service.poll(job.job_id)
    assert (first.poll_too_soon, first.recommended_delay_ms) == (False, 10_000)
    _, second = desk.service.poll(job.job_id)
    assert second.poll_too_soon
    assert second.next_allowed_poll_at == first.next_allowed_poll_at
    assert second.remaining_delay_ms is not None
    assert 0 < second.remaining_delay_ms <= 10_000


def test_c15_a_wait_ends_with_the_job_and_not_with_its_time(desk: Desk) -> None:
    job = desk.ask("do: success 0.3").job
    started = time.monotonic()
    assert desk.ended(job.job_id, timeout_s=60.0).status == "succeeded"
    assert time.monotonic() - started < 10.0


def test_c15_a_wait_that_runs_out_says_how_things_stand(desk: Desk) -> None:
    job = desk.ask("do: hang").job
    view = asyncio.run(desk.service.wait(job.job_id, 0.2))
    assert (view.status, view.ended) == ("running", False)


@pytest.mark.parametrize("hours", [-48, 48])
def test_c20_a_clock_that_is_set_makes_no_job_stale(desk: Desk, hours: int) -> None:
    job = desk.working(desk.ask("do: hang").job.job_id)
    desk.service.wall = lambda: time.time() + 3600 * hours
    view = desk.service.show(job.id)
    assert (view.status, view.stale_state) == ("running", "fresh")
    assert view.age_ms >= 0
    assert view.heartbeat_age_ms is not None
    assert view.heartbeat_age_ms < 60_000


def test_a_long_silence_of_a_living_runner_is_told_and_is_no_crash(desk: Desk) -> None:
    job = desk.working(desk.ask("do: hang").job.job_id)
    desk.service._pulses._clock = lambda: time.monotonic() + 100
    assert desk.service.show(job.id).stale_state == "stale_candidate"
    desk.service._pulses._clock = lambda: time.monotonic() + 400
    view = desk.service.show(job.id)
    assert (view.stale_state, view.status) == ("stale", "running")


def test_a_runs_token_is_gone_when_its_job_is_over_however_it_ended(desk: Desk) -> None:
    job = desk.working(desk.ask("do: hang").job.job_id)
    mint(desk.home, "run", run=job.run_id)
    runner = runner_of(job)
    assert runner is not None
    send_signal(runner, signal.SIGKILL)
    desk.ended(job.id)
    assert [token for token in list_tokens(desk.home) if token.run == job.run_id] == []


def test_a_runner_that_cannot_be_started_fails_the_job_with_the_reason(desk: Desk) -> None:
    refusal = DragomanError("no model is set", code="invalid_input")
    desk.service.launch = ScriptedLaunch(desk.home, broken=lambda: refusal)
    view = desk.ended(desk.ask().job.job_id)
    assert (view.status, view.error_code, view.error) == ("failed", "invalid_input", "no model is set")
    assert desk.service.result(view.job_id)["error"] == "no model is set"


def test_every_change_of_state_is_told_once(desk: Desk) -> None:
    job = desk.ended(desk.ask().job.job_id)
    states = [status for job_id, status in desk.told if job_id == job.job_id]
    assert list(dict.fromkeys(states)) == ["running", "succeeded"]
    assert states.count("succeeded") == 1


def test_an_unknown_job_is_one_clear_sentence(desk: Desk) -> None:
    with pytest.raises(JobNotFound, match="no job job-nope"):
        desk.service.show("job-nope")


def test_d10_what_jobs_leave_on_disk_is_nobody_elses_to_read(desk: Desk) -> None:
    desk.ended(desk.ask("do: success\nSECRET-PROMPT").job.job_id)
    for path in [desk.home.state, *desk.home.state.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.name == "worked":
            continue  # the scripted runner's own note
        assert mode & 0o077 == 0, (path, oct(mode))
        if path.suffix == ".log":
            assert b"SECRET-PROMPT" not in path.read_bytes()


def test_processes_of_other_runs_survive_a_burial(desk: Desk) -> None:
    first = desk.working(desk.ask("do: hang", kind="query").job.job_id)
    second = desk.working(desk.ask("do: hang", kind="review").job.job_id)
    runner = runner_of(first)
    assert runner is not None
    send_signal(runner, signal.SIGKILL)
    desk.ended(first.id)
    other = runner_of(desk.row(second.id))
    assert isinstance(other, ProcessIdentity)
    assert identify(other.pid) == other
    assert desk.service.show(second.id).status is JobStatus.RUNNING
    assert os.getpid() not in {identity.pid for _, identity in desk.launch.started}

"""`dragoman jobs` from a terminal: lines for people, JSON for programs, exit codes for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Self

import pytest

import dragoman.cli.jobs
from dragoman.cli.main import run

JOB = {
    "job_id": "job-1",
    "run_id": "run-1",
    "type": "implement",
    "status": "succeeded",
    "result_status": "success",
    "phase": None,
    "stale_state": "fresh",
    "heartbeat_age_ms": None,
    "repository": "/srv/repo",
    "created_at": 1_700_000_000.0,
    "queued_behind": None,
    "error": None,
    "summary": "success, 1 changed file",
}


class FakeControl:
    """Answers as the control API does, and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def get(self, path: str, **query: str) -> Any:
        self.asked.append((path, dict(query)))
        return self.answers.pop(0)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        self.asked.append((path, body))
        return self.answers.pop(0)


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeControl]:
    def answer(*answers: Any) -> FakeControl:
        fake = FakeControl(*answers)
        monkeypatch.setattr(dragoman.cli.jobs, "_control", lambda: fake)
        return fake

    return answer


def test_the_list_shows_one_line_a_job(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake = control({"jobs": [JOB]})
    assert run(["jobs", "list", "--status", "succeeded", "--limit", "5"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("job-1  2023-11-")
    assert line.endswith("succeeded  success      implement  /srv/repo")
    assert fake.asked == [("/jobs", {"limit": "5", "status": "succeeded"})]


def test_without_a_word_the_jobs_are_listed_and_none_is_said(
    control: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    control({"jobs": []})
    assert run(["jobs"]) == 0
    assert capsys.readouterr() == ("", "none\n")


def test_a_job_is_found_by_the_id_of_its_run_too(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake = control({"job": JOB})
    assert run(["jobs", "show", "run-1"]) == 0
    assert fake.asked[0][0] == "/jobs/job-1"
    assert "next     dragoman apply run-1 --preview" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "result_status", "code"),
    [
        ("succeeded", "success", 0),
        ("succeeded", "partial", 0),
        ("succeeded", "needs_user", 3),
        ("failed", "failed", 1),
        ("crashed", "failed", 1),
        ("cancelled", "failed", 130),
        ("running", None, 124),
    ],
)
def test_a_wait_ends_with_a_code_that_says_how_the_job_ended(
    control: Any, capsys: pytest.CaptureFixture[str], status: str, result_status: str | None, code: int
) -> None:
    job = {**JOB, "status": status, "result_status": result_status}
    control({"job": job})
    assert run(["jobs", "wait", "job-1", "--timeout", "0", "--json"]) == code
    assert json.loads(capsys.readouterr().out) == {"job": job, "timed_out": status == "running"}


def test_a_wait_without_a_limit_asks_until_the_job_is_over(control: Any) -> None:
    running = {**JOB, "status": "running"}
    fake = control({"job": running}, {"job": running}, {"job": JOB})
    assert run(["jobs", "wait", "job-1"]) == 0
    assert len(fake.asked) == 3


def test_a_cancel_waits_until_all_of_it_is_dead(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    dying = {**JOB, "status": "running", "phase": "cancelling"}
    fake = control({"job": dying}, {"job": {**JOB, "status": "cancelled"}})
    assert run(["jobs", "cancel", "job-1"]) == 0
    assert [path for path, _ in fake.asked] == ["/jobs/job-1/cancel", "/jobs/job-1"]
    assert "cancelled" in capsys.readouterr().out


def test_followed_events_come_as_one_object_a_line(control: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first = {"n": 1, "kind": "phase", "phase": "model"}
    last = {"n": 2, "kind": "said", "text": "déjà vu"}
    control(
        {"events": [first], "last": 1, "ended": False},
        {"events": [last], "last": 2, "ended": True},
    )
    assert run(["jobs", "events", "job-1", "--follow", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [first, last]


def test_a_result_shows_what_changed_and_what_comes_next(
    control: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {
        "status": "partial",
        "error": "a validation command fails",
        "report": {"text": "Did it."},
        "delta": {"files": [{"path": "a.py", "status": "modified"}]},
        "warnings": ["watch out"],
        "next": "look",
    }
    fake = control({"result": result})
    assert run(["jobs", "result", "job-1", "--summary"]) == 0
    out = capsys.readouterr().out
    for told in ("partial", "a validation command fails", "Did it.", "a.py", "watch out", "look"):
        assert told in out
    assert fake.asked == [("/jobs/job-1/result", {"form": "summary"})]


def test_cleaning_up_removes_nothing_unless_it_is_told_to(
    control: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"job_id": "job-1", "run_id": "run-1", "bytes": 10, "kept": None}
    kept = {**entry, "job_id": "job-2", "kept": "its workspace is still there"}
    fake = control({"executed": False, "jobs": [entry, kept]})
    assert run(["jobs", "cleanup", "--older-than", "2"]) == 0
    assert fake.asked == [("/jobs/cleanup", {"older_than_hours": 2.0, "execute": False})]
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "job-1  would remove 10 bytes",
        "job-2  kept: its workspace is still there",
    ]
    assert "--execute" in told.err

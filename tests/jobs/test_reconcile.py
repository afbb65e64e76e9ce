"""What follows from what a run folder and its lock say."""

from __future__ import annotations

from typing import Any

import pytest

from dragoman.jobs.reconcile import Sight, Step, plan_step
from dragoman.jobs.states import JobStatus, result_status_of, status_of_result
from dragoman.process.identity import ProcessIdentity

_RUNNER = ProcessIdentity(7, "then")
_NOTHING: dict[str, Any] = {
    "locked": False,
    "holder_alive": None,
    "result": None,
    "result_age_s": 0.0,
    "started": False,
    "runner": None,
    "runner_alive": False,
}
_DONE = {"status": "success"}


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        ({}, "launch"),
        ({"runner": _RUNNER, "runner_alive": True}, "follow"),  # on its way to the lock
        ({"runner": _RUNNER}, "bury"),  # died before it got there
        ({"locked": True, "holder_alive": True, "started": True}, "follow"),
        ({"locked": True}, "follow"),  # only just writing its name
        ({"locked": True, "holder_alive": False, "started": True}, "bury"),  # its worker holds the lock
        ({"started": True}, "bury"),
        ({"started": True, "runner": _RUNNER, "runner_alive": True}, "follow"),  # on its way out
        ({"result": _DONE}, "finish"),
        ({"result": _DONE, "started": True, "runner": _RUNNER}, "finish"),
        ({"result": _DONE, "locked": True, "holder_alive": True}, "follow"),  # not dead yet
        ({"result": _DONE, "locked": True, "holder_alive": False}, "bury"),  # something of it lives on
        ({"result": _DONE, "locked": True, "holder_alive": True, "result_age_s": 16.0}, "bury"),
        ({"result": _DONE, "result_age_s": 9e9}, "finish"),
    ],
)
def test_each_state_of_a_run_has_one_consequence(seen: dict[str, Any], step: Step) -> None:
    assert plan_step(Sight(**{**_NOTHING, **seen})) == step


@pytest.mark.parametrize(
    ("result", "status", "said"),
    [
        ({"status": "success"}, JobStatus.SUCCEEDED, "success"),
        ({"status": "partial", "error_code": "verification_failed"}, JobStatus.SUCCEEDED, "partial"),
        ({"status": "needs_user"}, JobStatus.SUCCEEDED, "needs_user"),
        ({"status": "failed", "error_code": "provider_error"}, JobStatus.FAILED, "failed"),
        ({"status": "failed", "error_code": "worker_timeout"}, JobStatus.FAILED, "failed"),
        ({"status": "failed", "error_code": "worker_cancelled"}, JobStatus.CANCELLED, "failed"),
        ({"status": "failed", "error_code": "runner_crashed"}, JobStatus.CRASHED, "failed"),
        ({}, JobStatus.FAILED, "unknown"),
        ({"status": "splendid"}, JobStatus.FAILED, "unknown"),
    ],
)
def test_each_result_is_one_end_of_its_job(result: dict[str, Any], status: JobStatus, said: str) -> None:
    assert status_of_result(result) is status
    assert result_status_of(result) == said

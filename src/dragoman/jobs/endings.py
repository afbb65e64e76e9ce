"""What lets a runner end with a result: signals are noted instead of died of, and a result of last resort."""

from __future__ import annotations

import signal
from typing import Any

from dragoman.jobs.folder import RESULT_SCHEMA, RunRequest

ENDING = (signal.SIGTERM, signal.SIGINT)


def hear_signals() -> list[int]:
    """Write down what we are told to do instead of dying of it; the list fills when a signal comes."""
    told: list[int] = []
    for number in ENDING:
        signal.signal(number, lambda number, frame: told.append(number))
    return told


def no_result(request: RunRequest, code: str, message: str, hint: str | None = None) -> dict[str, Any]:
    """A result for a run of which nothing else is known."""
    return {
        "schema": RESULT_SCHEMA,
        "run_id": request.run_id,
        "job_id": request.job_id,
        "status": "failed",
        "error_code": code,
        "error": message,
        "next": hint,
        "retryable": code == "runner_crashed",
        "timed_out": False,
    }

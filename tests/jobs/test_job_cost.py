"""A whole job costs little over the bare client, measured by the benchmark at small scale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.clients.claude_code import bundled_binary

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "job_cost.py"


@pytest.mark.real_client
def test_a_job_adds_less_to_a_bare_client_than_a_sixth_of_half_a_minute() -> None:
    if bundled_binary() is None:
        pytest.skip("no Claude Code: install the `clients` extra")
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--seconds", "4", "--json"],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    # What a job adds does not grow with the task, so it is measured on a short one.
    assert found["over_s"] <= 0.15 * 30
    assert found["evidence_s"] > 0
    assert sum(found["parts_s"].values()) == pytest.approx(found["job_s"], abs=0.05)

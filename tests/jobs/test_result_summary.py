"""A result made small: never above the limit, and what matters is still in it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.jobs.result import summarize_result
from dragoman.jobs.result_summary import SUMMARY_LIMIT_BYTES


def size_of(summary: dict[str, Any]) -> int:
    return len(msgspec.json.encode(summary))


def large_result(files: int = 5000, text: str = "東京 " * 100_000) -> dict[str, Any]:
    tail = {
        "command": "pytest -q",
        "status": "failed",
        "exit_code": 1,
        "tail": "x" * 4000,
        "output_file": "a",
    }
    return {
        "schema": "dragoman.run.v1",
        "run_id": "run-1",
        "status": "partial",
        "error_code": "verification_failed",
        "error": "a validation command fails after the work",
        "retryable": False,
        "timed_out": False,
        "isolation": {"mode": "worktree", "level": "bubblewrap", "limits": ["l" * 500] * 50},
        "workspace": {
            "id": "run-1",
            "path": "/state/workspaces/run-1/tree",
            "base": "b" * 40,
            "head": "h" * 40,
        },
        "report": {
            "text": text[:4096],
            "truncated": True,
            "file": "report.md",
            "bytes": 9,
            "sha256": "f" * 64,
        },
        "delta": {"files": [{"path": f"src/{'d' * 100}/{n}.py", "status": "modified"} for n in range(files)]},
        "evidence": {
            "verdict": "failed",
            "before": [tail] * 30,
            "after": [tail] * 30,
            "differences": [{"text": "d" * 1000}] * 50,
        },
        "integrity": {"changed": []},
        "worker": {
            "client": "claude",
            "session_id": "s",
            "permission_denials": [{"tool": "Bash", "target": "t" * 300}] * 500,
        },
        "gateway_usage": {"total": {"requests": 3, "input_tokens": 5}, "by_model": {"m" * 99: {}}},
        "warnings": ["w" * 2000] * 100,
        "wall_s": 12.5,
    }


def test_d09_a_huge_result_becomes_small_and_says_what_it_leaves_out() -> None:
    summary = summarize_result(large_result())
    assert size_of(summary) <= SUMMARY_LIMIT_BYTES
    assert (summary["status"], summary["error_code"]) == ("partial", "verification_failed")
    assert summary["changed_files_omitted"] + len(summary["changed_files"]) == 5000
    assert summary["report"]["file"] == "report.md"
    assert summary["report"]["sha256"] == "f" * 64
    assert summary["evidence"]["verdict"] == "failed"
    assert len(summary["permission_denials"]) <= 5


def test_a_small_result_keeps_its_words_files_and_warnings_whole() -> None:
    result = large_result(files=3, text="Done.") | {"warnings": ["one"], "evidence": {"verdict": "proved"}}
    result["worker"]["permission_denials"] = []
    summary = summarize_result(result)
    assert summary["report"]["text"] == "Done."
    assert summary["changed_files"][0].startswith("M src/")
    assert "changed_files_omitted" not in summary
    assert summary["warnings"] == ["one"]
    assert summary["gateway_usage"] == {"requests": 3, "input_tokens": 5}


def test_a_result_of_a_runner_that_died_is_summed_up_too() -> None:
    died = {"schema": "dragoman.run.v1", "run_id": "r", "status": "failed", "error_code": "runner_crashed"}
    assert summarize_result(died)["error_code"] == "runner_crashed"


@pytest.mark.parametrize("name", ["report", "delta", "evidence", "worker", "workspace", "warnings"])
def test_a_field_of_another_shape_does_no_harm(name: str) -> None:
    for odd in (None, 5, "text", [], [None], {}, {"files": 5, "text": 5, "before": [5]}):
        assert summarize_result(large_result() | {name: odd})["run_id"] == "run-1"


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*large_result(), "next", "job_id", "usage"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3000),
            lambda inner: (
                st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=9), inner, max_size=30)
            ),
            max_leaves=60,
        ),
    )
)
def test_no_result_whatever_its_shape_is_above_the_limit(result: dict[str, Any]) -> None:
    assert size_of(summarize_result(result)) <= SUMMARY_LIMIT_BYTES

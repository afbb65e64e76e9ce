"""Work that went too far is never offered to the user."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from dragoman.jobs.consent import NotApplicable, check_applicable
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.process.locks import FileLock
from dragoman.workspace import create_workspace, open_repository

IDENTITY = ("-c", "user.name=u", "-c", "user.email=u@localhost")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run-1").mkdir()
    return RunFolder(tmp_path / "run-1")


def refused(folder: RunFolder, result: dict[str, Any], *paths: str) -> str | None:
    folder.finish(result)
    try:
        check_applicable(folder, paths)
    except NotApplicable as error:
        return error.code
    return None


def test_a_workspace_of_no_run_and_a_clean_result_pass(folder: RunFolder) -> None:
    check_applicable(folder)
    assert refused(folder, {"status": "success", "scope": {"out_of_scope": []}}) is None


def test_a06_what_left_the_scope_is_refused_and_the_rest_can_be_named(folder: RunFolder) -> None:
    result = {"status": "partial", "scope": {"out_of_scope": ["docs/x.md", "b.py"]}}
    assert refused(folder, result) == "scope_exceeded"
    assert refused(folder, result, "src") is None
    assert refused(folder, result, "src", "docs") == "scope_exceeded"
    assert refused(folder, result, "./b.py") == "scope_exceeded"


def test_a03_nothing_of_a_worker_that_reached_out_is_applied(folder: RunFolder) -> None:
    assert refused(folder, {"isolation_violations": ["x"]}, "src") == "isolation_violation"
    broken = {"error_code": "isolation_violation", "error": "the repository's hooks changed"}
    assert refused(folder, broken, "src") == "isolation_violation"


def test_more_files_than_allowed_are_refused_until_they_are_named(folder: RunFolder) -> None:
    result = {"error_code": "limit_exceeded", "error": "7 files were changed, 3 are allowed"}
    assert refused(folder, result) == "limit_exceeded"
    assert refused(folder, result, "a.py") is None


def test_a_run_at_work_is_waited_for(folder: RunFolder) -> None:
    lock = FileLock(folder.lock_file)
    lock.acquire()
    try:
        with pytest.raises(NotApplicable, match="still at work"):
            check_applicable(folder)
    finally:
        lock.release()


def go_on(
    folder: RunFolder, name: str, earlier: str, result: dict[str, Any] | None, **changes: Any
) -> RunFolder:
    run = RunFolder(folder.path.parent / name)
    asked: dict[str, Any] = {
        "run_id": name, "packet": "x", "repository": "/r", "state": "/s", "model": "m",
        "gateway_url": "http://127.0.0.1:1", "resume_run": earlier, **changes,
    }  # fmt: skip
    run.create(RunRequest(**asked))
    if result is not None:
        run.finish(result)
    return run


def code_of(folder: RunFolder, *paths: str) -> str | None:
    try:
        check_applicable(folder, paths)
    except NotApplicable as error:
        return error.code
    return None


def test_what_a_run_did_that_went_on_in_the_workspace_counts(folder: RunFolder) -> None:
    folder.finish({"status": "success", "scope": {"out_of_scope": []}})
    here = {"workspace": {"id": "run-1"}}
    go_on(folder, "run-2", "run-1", {"status": "success", **here})
    assert code_of(folder) is None
    go_on(folder, "run-3", "run-2", {"scope": {"out_of_scope": ["b.py"]}, **here})
    assert (code_of(folder), code_of(folder, "a.py")) == ("scope_exceeded", None)
    go_on(folder, "run-4", "run-3", {"isolation_violations": ["x"], **here})
    assert code_of(folder, "a.py") == "isolation_violation"


def test_a_run_that_went_on_and_is_at_work_is_waited_for(folder: RunFolder) -> None:
    folder.finish({"status": "success"})
    run = go_on(folder, "run-2", "run-1", None)
    with FileLock(run.lock_file):
        assert code_of(folder) == "busy"
    assert code_of(folder) is None


def test_a_fork_or_a_run_with_a_workspace_of_its_own_does_not_count(folder: RunFolder) -> None:
    folder.finish({"status": "success"})
    bad = {"isolation_violations": ["x"]}
    go_on(folder, "run-2", "run-1", {**bad, "workspace": {"id": "run-2"}})
    go_on(folder, "run-3", "run-1", {**bad, "workspace": {"id": "run-1"}}, fork_session=True)
    assert code_of(folder) is None


def test_a_run_that_crashed_before_its_scope_was_looked_at_is_looked_at_now(tmp_path: Path) -> None:
    repository = tmp_path / "r"
    repository.mkdir()
    (repository / "a.txt").write_text("a")
    for words in (("init", "-q"), ("add", "-A"), (*IDENTITY, "commit", "-qm", "one")):
        subprocess.run(("git", *words), cwd=repository, check=True, capture_output=True)
    state = tmp_path / "state"
    workspace = create_workspace(open_repository(repository), state, id="run-1")
    (workspace.path / "a.txt").write_text("changed")
    (workspace.path / "b.txt").write_text("out of scope")
    run = RunFolder(state / "runs" / "run-1")
    run.create(
        RunRequest(
            run_id="run-1", packet="x", repository=str(repository), state=str(state), model="m",
            gateway_url="http://127.0.0.1:1", kind="implement", allowed_files=("a.txt",),
        )
    )  # fmt: skip
    run.finish({"status": "failed", "error_code": "runner_crashed"})
    assert code_of(run) == "scope_exceeded"
    assert code_of(run, "a.txt") is None

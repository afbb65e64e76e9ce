"""A run is judged by what was observed; what the worker says decides nothing."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from dragoman.workers.base import WorkerOutcome

MENDED = "def double(x):\n    return 2 * x\n"


def _mend(tree: Path) -> None:
    (tree / "code_under_test.py").write_text(MENDED)


def test_a_mended_repository_is_proved_by_commands_we_ran(bench: Any) -> None:
    result = bench.carry_out(_mend)
    assert (result["status"], result["error_code"], result["warnings"]) == ("success", None, [])
    evidence = result["evidence"]
    assert evidence["verdict"] == "proved"
    assert [seen["status"] for seen in evidence["before"]] == ["failed"]
    assert [seen["status"] for seen in evidence["after"]] == ["passed"]
    assert [file["path"] for file in result["delta"]["files"]] == ["code_under_test.py"]


def test_the_users_repository_is_not_touched_by_a_run(bench: Any) -> None:
    def listing() -> dict[str, bytes]:
        files = [path for path in bench.repository.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in files}

    before = listing()
    assert bench.carry_out(_mend)["status"] == "success"
    assert listing() == before


def test_a_worker_that_claims_a_pass_it_did_not_earn_is_not_believed(bench: Any) -> None:
    result = bench.carry_out()
    assert (result["status"], result["error_code"]) == ("partial", "verification_failed")
    kinds = {difference["kind"] for difference in result["evidence"]["differences"]}
    assert kinds == {"file_not_changed", "command_claimed_passed"}


def test_a_report_that_names_a_file_it_did_not_change_is_disproved(bench: Any) -> None:
    report = (
        "Changed files:\n- code_under_test.py\n- README.md\nCommands run:\n- `python3 -m unittest -q`: passed"
    )
    result = bench.carry_out(_mend, report=report)
    assert (result["status"], result["error_code"]) == ("partial", "claims_disproved")
    assert "README.md" in result["error"]


def test_a_silent_change_of_another_file_is_a_warning(bench: Any) -> None:
    def act(tree: Path) -> None:
        _mend(tree)
        (tree / "notes.txt").write_text("x")

    result = bench.carry_out(act, packet="Goal: x\nValidation commands:\n- `python3 -m unittest -q`\n")
    assert result["status"] == "success"
    assert any("notes.txt" in warning for warning in result["warnings"])


def test_a_failed_worker_fails_the_run_and_keeps_what_it_did(bench: Any) -> None:
    outcome = WorkerOutcome(status="failed", error_code="provider_error", message="the provider said 529")
    result = bench.carry_out(_mend, outcome=outcome)
    assert (result["status"], result["error_code"]) == ("failed", "provider_error")
    assert [file["path"] for file in result["delta"]["files"]] == ["code_under_test.py"]


def test_success_without_a_change_says_so(bench: Any) -> None:
    (bench.repository / "code_under_test.py").write_text(MENDED)
    result = bench.carry_out(report="Nothing to do.")
    assert result["status"] == "success"
    assert "nothing was changed" in result["warnings"]


def test_a_packet_without_validation_is_success_unproved(bench: Any) -> None:
    result = bench.carry_out(_mend, packet="Goal: make double() double\n", report="Done.")
    assert result["status"] == "success"
    assert result["evidence"]["verdict"] == "unproved"
    assert any("no validation command" in warning for warning in result["warnings"])


def test_what_the_validation_writes_does_not_enter_the_delta(bench: Any) -> None:
    (bench.repository / "test_it.py").write_text(
        "import unittest, pathlib\nclass T(unittest.TestCase):\n"
        "    def test_it(self): pathlib.Path('made-by-the-test.txt').write_text('x')\n"
    )
    result = bench.carry_out(_mend)
    assert [file["path"] for file in result["delta"]["files"]] == ["code_under_test.py"]


def test_the_worker_gets_the_packets_scope_and_only_runnable_commands(bench: Any) -> None:
    packet = (
        "Role: implementer\nGoal: x\nAllowed files:\n- src/**\n"
        "Validation commands:\n- `python3 -m unittest -q`\n- `make all && rm -rf x`\n"
    )
    bench.carry_out(packet=packet)
    (task,) = bench.tasks
    assert task.editable == ("src/**",)
    assert task.allowed_commands == ("python3 -m unittest -q",)
    assert task.prompt == packet
    assert not task.read_only


def test_a_reviewer_may_write_nothing(bench: Any) -> None:
    bench.carry_out(packet="Role: reviewer\nGoal: look\n", report="Fine.")
    assert bench.tasks[0].read_only


def test_a_hook_that_appears_in_the_users_repository_is_an_isolation_violation(bench: Any) -> None:
    def act(tree: Path) -> None:
        _mend(tree)
        hooks = bench.repository / ".git" / "hooks"
        hooks.mkdir(exist_ok=True)
        (hooks / "pre-commit").write_text("#!/bin/sh\n")

    result = bench.carry_out(act)
    assert (result["status"], result["error_code"]) == ("partial", "isolation_violation")
    assert "hooks" in result["error"]


def test_a_user_who_commits_meanwhile_only_causes_a_warning(bench: Any) -> None:
    def act(tree: Path) -> None:
        _mend(tree)
        identity = ["-c", "user.name=u", "-c", "user.email=u@localhost"]
        words = ["git", "-C", str(bench.repository), *identity, "commit", "-q", "--allow-empty", "-m", "two"]
        subprocess.run(words, check=True)

    result = bench.carry_out(act)
    assert result["status"] == "success"
    assert any("moved on" in warning for warning in result["warnings"])


def test_a_stopped_run_runs_no_validation_afterwards(bench: Any) -> None:
    stop = asyncio.Event()
    outcome = WorkerOutcome(status="stopped", error_code="worker_cancelled", message="stopped")
    result = bench.carry_out(lambda tree: stop.set(), outcome=outcome, stop=stop)
    assert (result["status"], result["error_code"]) == ("failed", "worker_cancelled")
    assert result["evidence"]["after"] == []


def test_a_folder_that_is_no_repository_is_one_clear_sentence(bench: Any, tmp_path: Path) -> None:
    bench.repository = tmp_path / "nowhere"
    result = bench.carry_out()
    assert result["status"] == "failed"
    assert "nowhere" in result["error"]
    assert result["next"]


def test_every_step_is_told_as_an_event_in_order(bench: Any) -> None:
    bench.carry_out(_mend)
    kinds = [event["kind"] for _, event in bench.folder.events()]
    told = "phase workspace phase evidence phase said phase tool phase delta phase evidence claims"
    assert kinds == told.split()


def test_what_a_setup_command_writes_is_not_the_workers_doing(bench: Any) -> None:
    command = ("python3", "-c", "open('generated.txt', 'w').write('by setup')")
    result = bench.carry_out(_mend, setup_command=command)
    assert result["status"] == "success"
    assert [file["path"] for file in result["delta"]["files"]] == ["code_under_test.py"]


def test_a_setup_command_that_fails_starts_no_worker(bench: Any) -> None:
    result = bench.carry_out(_mend, setup_command=("python3", "-c", "raise SystemExit(3)"))
    assert (result["status"], result["error_code"]) == ("failed", "setup_failed")
    assert bench.tasks == []
    assert "setup.txt" in result["next"]


@pytest.mark.parametrize(("opted_in", "there"), [(True, True), (False, False)])
def test_ignored_files_come_along_only_when_the_user_opted_in(
    bench: Any, opted_in: bool, there: bool
) -> None:
    (bench.repository / ".gitignore").write_text("local.cfg\n")
    (bench.repository / ".worktreeinclude").write_text("local.cfg\n")
    (bench.repository / "local.cfg").write_text("x")
    seen: list[bool] = []
    bench.carry_out(
        lambda tree: seen.append((tree / "local.cfg").exists()), report="Done.", worktree_include=opted_in
    )
    assert seen == [there]


def test_stopping_in_the_middle_of_a_validation_ends_it_at_once(bench: Any) -> None:
    (bench.repository / "test_it.py").write_text(
        "import unittest, time\nclass T(unittest.TestCase):\n    def test_it(self): time.sleep(600)\n"
    )
    stop = asyncio.Event()

    async def stopped_soon() -> dict[str, Any]:
        asyncio.get_running_loop().call_later(1.0, stop.set)
        return await bench.carry_out_here(stop=stop)

    started = time.monotonic()
    result = asyncio.run(stopped_soon())
    assert time.monotonic() - started < 11
    assert result["evidence"]["before"][0]["status"] == "skipped"
    assert result["evidence"]["before"][0]["reason"] == "the run was stopped"

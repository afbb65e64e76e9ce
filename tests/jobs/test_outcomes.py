"""Every end a worker can come to, driven as the real one is, and the result that tells it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.workers.testing import FAKE_FORKED_SESSION, FAKE_SESSION, FakeClaude

MENDED = "write code_under_test.py 'def double(x):\\n    return 2 * x\\n'"
task = FakeClaude.task


def ended(result: dict[str, Any]) -> tuple[str, str | None]:
    return result["status"], result["error_code"]


@pytest.mark.parametrize("role", ["implementer", "reviewer"])
@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(401, "worker_auth", False), (400, "provider_error", False), (529, "provider_error", True)],
)
def test_d01_an_api_error_is_a_failure_in_every_role(
    fake_bench: Any, role: str, status: int, code: str, retryable: bool
) -> None:
    packet = f"Role: {role}\n" + task(f"status {status}", behaviour="api_error")
    result = fake_bench.carry_out(packet=packet)
    assert ended(result) == ("failed", code)
    assert (result["retryable"], result["worker"]["provider_status"]) == (retryable, status)
    assert str(status) in result["error"]
    assert result["next"]


@pytest.mark.parametrize(
    ("behaviour", "code"), [("turn_limit", "worker_max_turns"), ("budget_limit", "worker_budget")]
)
def test_d02_a_limit_is_partial_with_changes_and_failed_without(
    fake_bench: Any, behaviour: str, code: str
) -> None:
    result = fake_bench.carry_out(packet=task(MENDED, behaviour=behaviour))
    assert ended(result) == ("partial", code)
    assert [file["path"] for file in result["delta"]["files"]] == ["code_under_test.py"]


def test_d02_a_turn_limit_without_changes_is_failed(fake_bench: Any) -> None:
    assert ended(fake_bench.carry_out(packet=task(behaviour="turn_limit"))) == ("failed", "worker_max_turns")


def test_d03_a_missing_form_falls_back_to_the_words(fake_bench: Any) -> None:
    words = "Changed files:\\n- code_under_test.py\\n"
    result = fake_bench.carry_out(packet=task(MENDED, f'report "{words}"'), structured=True)
    assert result["status"] == "success"
    assert (result["report"]["source"], result["report"]["fields"]) == ("text", None)
    assert any("form asked for" in warning for warning in result["warnings"])


def test_d03_a_form_that_breaks_the_schema_falls_back_to_the_words(fake_bench: Any) -> None:
    broken = json.dumps({"status": "wonderful", "summary": 5})
    result = fake_bench.carry_out(packet=task(MENDED, f"structured '{broken}'"), structured=True)
    assert result["report"]["source"] == "text"


def test_d03_a_form_that_fits_is_what_is_compared(fake_bench: Any) -> None:
    form = json.dumps({"status": "success", "summary": "done", "changed_files": ["README.md"]})
    result = fake_bench.carry_out(packet=task(MENDED, f"structured '{form}'"), structured=True)
    assert result["report"]["source"] == "structured"
    assert ended(result) == ("partial", "claims_disproved")
    assert "README.md" in result["error"]


def test_d04_a_session_that_is_gone_is_begun_afresh_once(fake_bench: Any) -> None:
    first = fake_bench.carry_out(packet=task())
    assert first["session"]["id"] == FAKE_SESSION
    for file in fake_bench.folder.worker_config.glob("claude/projects/*/*.jsonl"):
        file.unlink()
    result = fake_bench.next_run().carry_out(packet=task(), resume_run=fake_bench.name)
    assert result["status"] == "success"
    assert (result["session"]["requested_id"], result["session"]["resumed_run"]) == (
        FAKE_SESSION,
        fake_bench.name,
    )
    told = [event["code"] for event in fake_bench.next.events("notice")]
    assert told == ["session_not_found"]
    spawned = fake_bench.next.events("worker_spawned")
    assert len(spawned) == 2


def test_a_resumed_run_goes_on_in_the_same_session_and_workspace(fake_bench: Any) -> None:
    first = fake_bench.carry_out(packet=task("write first.txt 1"))
    result = fake_bench.next_run().carry_out(packet=task("write second.txt 2"), resume_run=fake_bench.name)
    assert result["session"]["resumed"]
    assert result["session"]["id"] == FAKE_SESSION
    assert result["workspace"]["id"] == first["workspace"]["id"] == fake_bench.name
    assert [file["path"] for file in result["delta"]["files"]] == ["first.txt", "second.txt"]
    arguments = json.loads((fake_bench.next.folder.worker_config / "notes" / "argv.json").read_text())
    assert f"--resume={FAKE_SESSION}" in arguments


def test_a_fork_leaves_the_session_and_the_workspace_as_they_were(fake_bench: Any) -> None:
    fake_bench.carry_out(packet=task("write first.txt 1"))
    (session,) = fake_bench.folder.worker_config.glob("claude/projects/*/*.jsonl")
    before = session.read_bytes()
    result = fake_bench.next_run().carry_out(
        packet=task("write second.txt 2"), resume_run=fake_bench.name, fork_session=True
    )
    assert result["session"]["forked"]
    assert result["session"]["id"] == FAKE_FORKED_SESSION
    assert result["workspace"]["id"] == f"{fake_bench.name}-2"
    assert [file["path"] for file in result["delta"]["files"]] == ["second.txt"]
    assert session.read_bytes() == before


def test_a_run_that_is_not_there_cannot_be_resumed(fake_bench: Any) -> None:
    result = fake_bench.carry_out(packet=task(), resume_run="../run-9")
    assert ended(result) == ("failed", "run_not_found")


def test_d05_a_success_without_a_change_carries_a_warning(fake_bench: Any) -> None:
    result = fake_bench.carry_out(packet=task('report "All tests pass."'))
    assert result["status"] == "success"
    assert "nothing was changed" in result["warnings"]


def test_d06_files_it_did_not_name_are_a_warning(fake_bench: Any) -> None:
    report = 'report "Changed files:\\n- code_under_test.py\\n"'
    result = fake_bench.carry_out(packet=task(MENDED, "write extra.txt x", report))
    assert result["status"] == "success"
    assert any("extra.txt" in warning for warning in result["warnings"])


def test_d07_usage_is_taken_under_any_model_name(fake_bench: Any) -> None:
    result = fake_bench.carry_out(packet=task())
    assert result["worker"]["usage"]["m"]["input_tokens"] == 7
    usage = result["usage"]
    assert (usage["source"], usage["input_tokens"], usage["output_tokens"]) == ("client", 7, 3)


def test_d08_the_gateway_says_what_a_worker_without_an_end_used(fake_bench: Any) -> None:
    tokens = {"output_tokens": 9, "cache_read_tokens": 0, "cache_write_tokens": 0}
    counted = {"total": {"requests": 2, "input_tokens": 120, **tokens}}
    fake_bench.usage = lambda: counted
    result = fake_bench.carry_out(packet=task(behaviour="hangs"), timeout_s=2.5)
    assert ended(result) == ("failed", "worker_timeout")
    assert result["worker"]["usage"] == {}
    assert result["usage"]["source"] == "gateway_ledger"
    assert result["usage"]["input_tokens"] == 120
    assert result["gateway_usage"] == counted


def test_c13_characters_cut_by_chunks_come_whole(fake_bench: Any) -> None:
    fake_bench.carry_out(packet=task(behaviour="splits_characters"))
    assert "naïve – 東京 🦊 done" in [event["text"] for event in fake_bench.events("said")]


def test_c17_a_worker_that_asks_again_and_again_is_ended_and_needs_the_user(fake_bench: Any) -> None:
    result = fake_bench.carry_out(packet=task(behaviour="wants_permission_again_and_again"))
    assert ended(result) == ("needs_user", "permission_required")
    assert "Write /etc/passwd" in result["error"]
    assert result["wall_s"] < 20
    assert fake_bench.events("ended")[0]["reason"] == "permission"


def test_c17_a_worker_that_was_refused_and_changed_nothing_needs_the_user(fake_bench: Any) -> None:
    result = fake_bench.carry_out(packet=task("denied Edit /etc/hosts"))
    assert ended(result) == ("needs_user", "permission_required")


def test_a_refusal_on_the_way_to_a_success_is_a_warning(fake_bench: Any) -> None:
    result = fake_bench.carry_out(packet=task("denied Edit /etc/hosts", MENDED))
    assert result["status"] == "success"
    assert any("1 calls were refused" in warning for warning in result["warnings"])


def test_a_reader_that_was_refused_does_not_need_the_user(fake_bench: Any) -> None:
    result = fake_bench.carry_out(packet="Role: reviewer\n" + task("denied Bash x", 'report "Fine."'))
    assert result["status"] == "success"


def test_c18_what_a_worker_starts_may_not_delegate_again(fake_bench: Any) -> None:
    fake_bench.carry_out(packet=task())
    notes = fake_bench.folder.worker_config / "notes"
    assert json.loads((notes / "environment.json").read_text())["BRIDGE_DEPTH"] == "2"
    arguments = json.loads((notes / "argv.json").read_text())
    assert "--strict-mcp-config" in arguments
    assert not any(word.startswith("--mcp-config") for word in arguments)


def test_a_silent_worker_is_told_and_then_ended(fake_bench: Any) -> None:
    result = fake_bench.carry_out(
        packet=task("write made.txt x", behaviour="hangs"), stall_warning_s=0.5, stall_end_s=1.2
    )
    assert ended(result) == ("failed", "worker_timeout")
    assert result["retryable"]
    assert len(fake_bench.events("stalled")) == 1
    assert fake_bench.events("ended")[0]["reason"] == "stalled"
    assert [file["path"] for file in result["delta"]["files"]] == ["made.txt"]


def test_a_worker_whose_tool_is_at_work_is_not_called_silent(fake_bench: Any) -> None:
    result = fake_bench.carry_out(
        packet=task("tool 'make all' 2", MENDED), stall_warning_s=0.4, stall_end_s=0.9
    )
    assert result["status"] == "success"
    assert fake_bench.events("stalled") == []


def test_phases_say_what_the_worker_is_busy_with(fake_bench: Any) -> None:
    fake_bench.carry_out(packet=task("tool 'make all' 0") + "Validation commands:\n- `python3 -m unittest`\n")
    phases = [event["phase"] for event in fake_bench.events("phase")]
    assert phases == ["preparing", "verifying", "model", "tool", "model", "observing", "verifying"]


def test_too_many_changed_files_are_partial(fake_bench: Any) -> None:
    packet = task("write a.txt 1", "write b.txt 2")
    result = fake_bench.carry_out(packet=packet, max_changed_files=1)
    assert ended(result) == ("partial", "limit_exceeded")


def test_a_cut_stream_is_a_failure_that_keeps_the_words(fake_bench: Any) -> None:
    result = fake_bench.carry_out(packet=task(behaviour="cuts_its_stream"))
    assert ended(result) == ("failed", "worker_no_output")
    assert result["report"]["text"] == "Nearly there."


def test_long_final_words_are_whole_in_their_file_and_cut_in_the_result(fake_bench: Any) -> None:
    result = fake_bench.carry_out(packet=task(f"report {'word-' * 3000}"))
    report = result["report"]
    whole = (fake_bench.folder.path / report["file"]).read_text()
    assert len(whole) == report["bytes"] == 15_000
    assert (report["truncated"], len(report["text"])) == (True, 4096)
    assert "text" not in result["worker"]


def test_a_stop_while_the_worker_works_keeps_what_it_did(fake_bench: Any) -> None:
    async def main() -> dict[str, Any]:
        stop = asyncio.Event()
        packet = task("write made.txt x", behaviour="hangs")
        run = asyncio.create_task(fake_bench.carry_out_here(packet=packet, stop=stop))
        ready = fake_bench.folder.worker_config / "notes" / "ready"
        while not ready.exists():
            await asyncio.sleep(0.01)
        stop.set()
        return await run

    result = asyncio.run(asyncio.wait_for(main(), 60))
    assert ended(result) == ("failed", "worker_cancelled")
    assert [file["path"] for file in result["delta"]["files"]] == ["made.txt"]


def _lose_git(tree: Path) -> None:
    shutil.rmtree(tree / ".git")


def _lose_everything(tree: Path) -> None:
    for entry in tree.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _lose_itself(tree: Path) -> None:
    shutil.rmtree(tree)


@pytest.mark.parametrize("act", [_lose_git, _lose_everything, _lose_itself])
def test_a12_a_workspace_that_is_lost_never_becomes_the_repository_around_it(
    bench: Any, act: Callable[[Path], None]
) -> None:
    # A repository around the state folder is what a git without its own folder would fall through to.
    subprocess.run(["git", "init", "-q", str(bench.state.parent)], check=True)
    around = bench.state.parent / "around.txt"
    around.write_text("mine")
    result = bench.carry_out(act, report="All done.")
    assert ended(result) == ("failed", "metadata_missing")
    assert "lost its" in result["error"]
    assert "delta" not in result
    assert result["report"]["text"] == "All done."
    assert around.read_text() == "mine"
    assert (bench.repository / "code_under_test.py").exists()

"""Asking for work, waiting for it, reading what came out: as the official client sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_a_task_returns_at_once_and_says_what_to_call_next(lead: Any) -> None:
    reply = lead.ask("claude_task", task="do: hang\nExplain a.txt", mode="read")
    assert (reply["status"], reply["delegated_mode"], reply["reuse_decision"]) == (
        "running",
        "read",
        "created",
    )
    assert reply["wait"] == {"waiting": True, "do_not_start_duplicate_job": True}
    assert reply["next_actions"] == [
        {
            "tool": "claude_job_wait",
            "reason": "wait for its end",
            "args": {"job_id": reply["job"]["job_id"]},
        }
    ]


def test_the_same_task_again_is_the_same_job(lead: Any) -> None:
    first = lead.ask("claude_task", task="do: hang", mode="read")
    again = lead.ask("claude_task", task="do: hang", mode="read")
    assert again["job"]["job_id"] == first["job"]["job_id"]
    assert (again["reuse_decision"], again["deduped"]) == ("deduped", True)


def test_auto_says_which_words_made_it_a_write(lead: Any) -> None:
    reply = lead.ask("claude_task", task="do: hang\nFix the parser", dirty_policy="committed")
    assert reply["delegated_mode"] == "write"
    assert reply["mode_inference"] == {
        "requested_mode": "auto",
        "reason": "write_hints",
        "confidence": "high",
        "matched_hints": ["fix"],
    }


def test_an_input_that_changes_nothing_is_named(lead: Any) -> None:
    reply = lead.ask("claude_task", task="do: hang", mode="read", sensitive_file_policy="off")
    assert reply["warnings"] == ["sensitive_file_policy changed nothing: secrets are always masked"]
    assert "warnings" not in lead.ask(
        "claude_task", task="do: hang", mode="read", job_id=reply["job"]["job_id"]
    )


def test_uncommitted_work_is_asked_about_and_nothing_is_started(lead: Any) -> None:
    (lead.repository / "a.txt").write_text("mine\n")
    reply = lead.ask("claude_task", task="do: success", mode="write")
    assert (reply["status"], reply["error_code"], reply["dirty_files"]) == (
        "needs_user",
        "dirty_workspace",
        ["a.txt"],
    )
    assert [action["args"]["dirty_policy"] for action in reply["next_actions"]] == ["snapshot", "committed"]
    assert lead.jobs.find() == []
    assert lead.ask("claude_task", task="do: success", mode="write", dirty_policy="snapshot")["job"]


def test_a_blocking_task_brings_its_result(lead: Any) -> None:
    reply = lead.ask(
        "claude_task", task="do: success", mode="read", wait_strategy="block", wait_timeout_sec=20
    )
    assert (reply["status"], reply["completed_inline"]) == ("success", True)
    assert reply["job"]["status"] == "succeeded"
    assert reply["interaction"]["state"] == "result_ready"


def test_c15_a_wait_ends_with_the_job(lead: Any) -> None:
    job = lead.ask("claude_task", task="do: success 0.3", mode="read")["job"]["job_id"]
    reply = lead.ask("claude_job_wait", job_id=job, wait_timeout_sec=60)
    assert reply["job"]["status"] == "succeeded"


def test_c14_asking_again_too_soon_is_said_and_does_not_move_the_time(lead: Any) -> None:
    job = lead.ask("claude_task", task="do: hang", mode="read")["job"]["job_id"]
    first = lead.ask("claude_job_wait", job_id=job, wait_timeout_sec=0)["wait"]
    second = lead.ask("claude_job_wait", job_id=job, wait_timeout_sec=0)
    third = lead.ask("claude_job_wait", job_id=job, wait_timeout_sec=0)["wait"]
    assert "poll_too_soon" not in first
    assert first["recommended_delay_ms"] == 10_000
    assert second["wait"]["poll_too_soon"] is True
    assert second["interaction"]["state"] == "poll_too_soon"
    assert second["wait"]["next_allowed_poll_at"] == third["next_allowed_poll_at"]


def test_c16_progress_is_told_to_a_client_that_wants_it(lead: Any) -> None:
    told: list[str | None] = []

    async def converse(client: Any) -> Any:
        async def hear(done: float, total: float | None, message: str | None) -> None:
            told.append(message)

        started = await client.call_tool(
            "claude_task", {"cwd": str(lead.repository), "task": "do: hang", "mode": "read"}
        )
        job = started.structured_content["job"]["job_id"]
        arguments = {"cwd": str(lead.repository), "job_id": job, "wait_timeout_sec": 3}
        await client.call_tool("claude_job_wait", arguments, progress_callback=hear)

    lead.talk(converse)
    assert told
    assert all(message and message.startswith("running") for message in told)


def test_a_failed_job_says_why_and_is_no_success(lead: Any) -> None:
    job = lead.ask("claude_task", task="do: fail", mode="read")["job"]["job_id"]
    reply = lead.ask("claude_job_wait", job_id=job)
    assert (reply["status"], reply["result"]["error_code"]) == ("failed", "provider_error")
    assert reply["interaction"]["headline"] == "Not done: the provider said 529."


def test_the_latest_result_is_found_without_an_id(lead: Any) -> None:
    job = lead.ask("claude_task", task="do: success", mode="read")["job"]["job_id"]
    lead.ask("claude_job_wait", job_id=job)
    assert lead.ask("claude_result")["job"]["job_id"] == job
    run = lead.ask("claude_result", job_id=job)["job"]["run_id"]
    assert lead.ask("claude_result", run_id=run)["job"]["job_id"] == job


def assert_nothing_started(lead: Any) -> None:
    """No job, no run, no workspace."""
    assert lead.jobs.find() == []
    state = lead.home.state
    assert [*state.glob("runs/*"), *state.glob("workspaces/*")] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({"task": "x", "modus": "read"}, "invalid_input", "no argument 'modus'; it takes cwd, task, mode"),
        ({"task": "x", "mode": "delete"}, "invalid_input", "Invalid enum value 'delete'"),
        ({}, "invalid_input", "needs a task"),
        ({"task": "x", "cwd": "/"}, "dangerous_root", "a folder of the system"),
        ({"task": "x", "cwd": "relative"}, "invalid_input", "not an absolute path"),
        ({"task": "x", "cwd": "/nowhere/at/all"}, "cwd_not_found", "does not exist"),
        ({"task": "x" * 1_000_000, "mode": "read"}, "limit_exceeded", "at most 512 KB"),
        ({"task": "a\x1b[2Jb", "mode": "read"}, "invalid_input", "control character (U+001B)"),
        (
            {"task": "x", "mode": "write", "allowed_files": [f"f{n}" for n in range(10_000)]},
            "limit_exceeded",
            "10,000 allowed files are named",
        ),
        ({"task": "x", "mode": "write", "allowed_files": ["../out"]}, "file_escapes_cwd", "is not inside"),
        ({"job_id": "job-none"}, "job_not_found", "there is no job job-none"),
    ],
)
def test_hostile_and_wrong_input_gets_one_clear_sentence_and_starts_nothing(
    lead: Any, arguments: dict[str, Any], code: str, words: str
) -> None:
    result = lead.call("claude_task", **arguments)
    assert result.is_error
    assert result.structured_content["error_code"] == code
    assert words in result.structured_content["error"]
    assert "\n" not in result.structured_content["error"]
    assert_nothing_started(lead)


def test_a_folder_outside_the_roots_and_links_into_dangerous_places_are_refused(
    lead: Any, tmp_path: Path
) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    assert lead.ask("claude_task", task="x", cwd=str(outside))["error_code"] == "cwd_not_allowed"
    for target in ("/", "/etc", str(lead.home.state)):
        link = lead.root / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert lead.ask("claude_task", task="x", cwd=str(link))["error_code"] == "dangerous_root"
    dotted = f"{lead.repository}/../../.."
    assert lead.ask("claude_task", task="x", cwd=dotted)["error_code"] in (
        "dangerous_root",
        "cwd_not_allowed",
    )
    home = lead.call("claude_task", task="x", cwd=str(lead.desk.user_home))
    assert home.structured_content["error_code"] == "dangerous_root"
    assert_nothing_started(lead)


def test_c18_a_worker_cannot_delegate(lead: Any) -> None:
    from dragoman.mcp.caller import caller_of
    from dragoman.mcp.inputs import TaskInput
    from dragoman.mcp.server import tool_calls

    async def ask() -> Any:
        calls = tool_calls(lead.desk, list)
        caller = caller_of({"x-dragoman-depth": "2", "x-dragoman-cwd": str(lead.repository)}, {})
        return await calls["claude_task"](caller, {"task": "do: success"})

    import asyncio

    from dragoman.jobs.guards import Refused

    with pytest.raises(Refused, match="a worker cannot delegate"):
        asyncio.run(ask())
    assert TaskInput().cwd is None


def test_text_and_structure_are_the_same_and_within_the_limit(lead: Any) -> None:
    job = lead.ask("claude_task", task="do: success", mode="read")["job"]["job_id"]
    result = lead.call("claude_job_wait", job_id=job)
    assert json.loads(result.content[0].text) == result.structured_content
    assert len(result.model_dump_json(by_alias=True).encode()) < 8192


@pytest.mark.parametrize("character", ["a", '"', "\\", "\n", "\x1b", "é", "漢", "🦊"])
def test_d09_the_largest_result_of_the_oddest_characters_stays_below_8_kb_on_the_wire(
    lead: Any, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    job = lead.ask("claude_task", task="do: success", mode="read")["job"]["job_id"]
    lead.ask("claude_job_wait", job_id=job, wait_timeout_sec=20)
    long = character * 50_000
    huge = {
        "status": "partial",
        "error": long,
        "workspace": {"id": "run-x", "base": "0" * 40},
        "delta": {"files": [{"status": "added", "path": f"{character * 60}/{n}"} for n in range(10_000)]},
        "evidence": {
            "verdict": "failed",
            "after": [{"command": long, "status": "failed", "exit_code": 1, "tail": long}] * 10,
            "differences": [{"text": long}] * 100,
        },
        "report": {"text": long},
        "warnings": [long] * 200,
    }
    monkeypatch.setattr(lead.jobs, "result", lambda job_id: huge)
    result = lead.call("claude_result", job_id=job)
    assert len(result.model_dump_json(by_alias=True, exclude_none=True).encode()) < 8192
    assert result.structured_content["result"]["worktree_path"] == "run-x"
    assert result.structured_content["result"]["server_observed"]["changed_files_total"] == 10_000

"""The real Codex, driven against a scripted model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dragoman.workers.base import Notice, Said, Started, ToolCalled

if TYPE_CHECKING:
    from tests.workers.conftest import MessagesServer, Stage

pytestmark = pytest.mark.real_client


def run(command: str) -> list[dict[str, Any]]:
    return [{"tool": "exec_command", "input": {"cmd": command}}]


def say(text: str) -> list[dict[str, Any]]:
    return [{"text": text}]


def outputs(server: MessagesServer) -> list[str]:
    """What the model was told about each call, in order."""
    items = server.requests[-1][1]["input"]
    return [str(item["output"]) for item in items if item["type"] == "function_call_output"]


def test_a_task_is_patched_tested_and_reported(codex_stage: Stage, messages_server: MessagesServer) -> None:
    (codex_stage.cwd / "a.txt").write_text("one\n")
    patch = "apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: a.txt\n@@\n-one\n+two\n*** End Patch\nEOF"
    messages_server.steps = [run(patch), run("sleep 0.2; grep two a.txt"), say("All done.")]
    play = codex_stage.play(context_window=128_000)
    assert (play.outcome.status, play.outcome.text) == ("finished", "All done.")
    assert (codex_stage.cwd / "a.txt").read_text() == "two\n"
    assert isinstance(play.told(Started)[0], Started)
    assert ("file_change", "a.txt") in [(call.tool, call.target) for call in play.told(ToolCalled)]
    usage = play.outcome.usage["glm-5.2"]
    assert (usage.input_tokens, usage.cache_read_tokens) == (180, 120)
    headers, body = messages_server.requests[0]
    assert headers["authorization"] == f"Bearer {codex_stage.task.token}"
    assert headers["x-dragoman-run"] == codex_stage.task.run_id
    assert body["model"] == "glm-5.2"


def test_writes_outside_and_the_token_are_out_of_reach(
    codex_stage: Stage, messages_server: MessagesServer, tmp_path: Path
) -> None:
    messages_server.steps = [
        run(f"echo x > {tmp_path}/outside.txt"),
        run("echo x > .git/hooks/post-checkout"),
        run("env"),
        say("done"),
    ]
    play = codex_stage.play(editable=("a.txt",))
    assert play.outcome.status == "finished"
    assert not (tmp_path / "outside.txt").exists()
    assert not (codex_stage.cwd / ".git" / "hooks" / "post-checkout").exists()
    assert codex_stage.task.token not in messages_server.sent
    assert f"DRAGOMAN_RUN={codex_stage.task.run_id}" in outputs(messages_server)[2]
    (notice,) = [notice for notice in play.told(Notice) if notice.code == "scope_not_enforced"]
    assert "folder can be written" in notice.text


def test_a_reading_task_writes_nothing(codex_stage: Stage, messages_server: MessagesServer) -> None:
    messages_server.steps = [run("touch a.txt"), say("done")]
    assert codex_stage.play(read_only=True).outcome.status == "finished"
    assert not (codex_stage.cwd / "a.txt").exists()


def test_a_thread_goes_on_where_it_stopped_and_a_lost_one_begins_afresh(
    codex_stage: Stage, messages_server: MessagesServer
) -> None:
    messages_server.steps = [say("first answer"), say("second answer"), say("third answer")]
    first = codex_stage.play(prompt="first task").outcome
    second = codex_stage.play(prompt="second task", resume=first.session_id)
    assert (second.outcome.text, second.outcome.session_id) == ("second answer", first.session_id)
    assert "first answer" in json.dumps(messages_server.requests[1][1])
    third = codex_stage.play(prompt="third task", resume="01a1fb6b-af84-7251-8cdd-492d16c62cbf")
    assert third.outcome.text == "third answer"
    assert "session_not_found" in [notice.code for notice in third.told(Notice)]


def test_a_provider_that_fails_is_told(codex_stage: Stage, messages_server: MessagesServer) -> None:
    messages_server.steps = [[{"status": 400, "message": "no such thing"}]]
    outcome = codex_stage.play().outcome
    assert (outcome.status, outcome.error_code) == ("failed", "provider_error")
    assert "no such thing" in outcome.message


def test_a_stop_in_the_middle_leaves_no_process(
    codex_stage: Stage, messages_server: MessagesServer, processes_of: Callable[[str], list[str]]
) -> None:
    messages_server.steps = [[*say("so far"), {"hang": True}]]
    play = codex_stage.play(stop_when=lambda events: any(isinstance(event, Said) for event in events))
    assert (play.outcome.status, play.outcome.text) == ("stopped", "so far")
    assert play.took_s < 11
    assert processes_of(codex_stage.task.run_id) == []


def test_a_stop_in_the_middle_of_a_command_leaves_no_process(
    codex_stage: Stage, messages_server: MessagesServer, processes_of: Callable[[str], list[str]]
) -> None:
    messages_server.steps = [run("touch ready; setsid sleep 600 & sleep 600"), say("never")]
    play = codex_stage.play(stop_when=lambda _: (codex_stage.cwd / "ready").exists())
    assert play.outcome.status == "stopped"
    assert processes_of(codex_stage.task.run_id) == []

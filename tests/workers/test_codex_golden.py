"""Transcripts of the real Codex 0.163.0 and 0.169.0, read and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman.workers.base import (
    Notice,
    Retrying,
    Said,
    Started,
    Thought,
    ToolAnswered,
    ToolCalled,
    WorkerEvent,
    WorkerOutcome,
    WorkerTask,
)
from dragoman.workers.child import ChildEnd
from dragoman.workers.codex_stream import CodexDialogue, judge

REPOSITORY = Path("/home/dev/repo")


@pytest.fixture(scope="session")
def transcripts(recordings: Path) -> Path:
    return recordings.with_name("codex")


def task_with(**changes: Any) -> WorkerTask:
    fields: dict[str, Any] = {
        "prompt": "p",
        "cwd": REPOSITORY,
        "model": "glm-5.2",
        "gateway_url": "",
        "token": "t0ken",
        "run_id": "r",
        "config_folder": Path("/none"),
    }
    return WorkerTask(**(fields | changes))


def hear(lines: list[bytes], task: WorkerTask) -> tuple[CodexDialogue, list[WorkerEvent]]:
    events: list[WorkerEvent] = []
    dialogue = CodexDialogue(task, version="0.169.0", cwd=REPOSITORY, on_event=events.append)
    for line in lines:
        assert not list(dialogue.heard(line))
    return dialogue, events


def read(transcripts: Path, name: str, **changes: Any) -> tuple[WorkerOutcome, list[WorkerEvent]]:
    task = task_with(**changes)
    dialogue, events = hear((transcripts / f"{name}.exec.jsonl").read_bytes().splitlines(), task)
    end = ChildEnd("own", 1 if dialogue.failure else 0, False, "", 0, 1234)
    return judge(dialogue, end, task, "0.169.0"), events


@pytest.mark.parametrize("version", ["0.163", "0.169"])
def test_a_whole_task_is_told_step_by_step(transcripts: Path, version: str) -> None:
    outcome, events = read(transcripts, f"task_shell_patch_reasoning_multicall_{version}")
    assert (outcome.status, outcome.text, outcome.client) == ("finished", "All done.", "codex")
    assert isinstance(events[0], Started)
    assert events[0].session_id == outcome.session_id
    assert any(isinstance(event, Thought) for event in events)
    calls = [(event.tool, event.target) for event in events if isinstance(event, ToolCalled)]
    assert ("command", "cat a.txt; ls") in calls
    assert ("file_change", "a.txt, new.txt") in calls
    answers = {event.id: event for event in events if isinstance(event, ToolAnswered)}
    assert set(answers) == {event.id for event in events if isinstance(event, ToolCalled)}
    assert [answer.ok for answer in answers.values()].count(False) == 1
    assert [event.text for event in events if isinstance(event, Said)] == ["I will look.", "All done."]
    usage = outcome.usage["glm-5.2"]
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == (240, 160, 80)


@pytest.mark.parametrize(
    ("name", "code", "status", "retryable"),
    [
        ("error_400_ctx", "worker_context_exceeded", 400, False),
        ("error_401", "worker_auth", 401, False),
        ("error_429_ra", "provider_error", 429, True),
        ("error_cut_text", "provider_error", None, True),
        ("error_incomplete_max", "worker_truncated", None, True),
        ("error_f_rate_limit_exceeded", "provider_error", None, True),
    ],
)
def test_a_failed_turn_is_never_a_success(
    transcripts: Path, name: str, code: str, status: int | None, retryable: bool
) -> None:
    outcome, _ = read(transcripts, name)
    assert (outcome.status, outcome.error_code) == ("failed", code)
    assert (outcome.provider_status, outcome.retryable) == (status, retryable)
    assert outcome.message


def test_every_retry_is_told(transcripts: Path) -> None:
    _, events = read(transcripts, "error_401")
    retries = [event for event in events if isinstance(event, Retrying)]
    assert [(retry.attempt, retry.of, retry.status) for retry in retries] == [(1, 2, 401), (2, 2, 401)]


def test_a_turn_that_recovers_is_finished(transcripts: Path) -> None:
    outcome, events = read(transcripts, "retry_after_cut")
    assert (outcome.status, outcome.text) == ("finished", "second")
    assert sum(isinstance(event, Retrying) for event in events) == 1


def test_an_error_item_is_only_a_warning_and_told_once(transcripts: Path) -> None:
    outcome, events = read(transcripts, "hooks")
    assert outcome.status == "finished"
    assert [event.code for event in events if isinstance(event, Notice)] == ["client_warning"]


def test_tools_of_servers_are_told_with_their_answers(transcripts: Path) -> None:
    _, events = read(transcripts, "mcp_turn")
    assert ToolCalled(id="item_0", tool="mcp", target="probe.ro_echo") in events
    assert ToolAnswered(id="item_0", tool="mcp", ok=True, text="ro:x") in events
    assert ToolAnswered(id="item_4", tool="mcp", ok=False, text="Error executing tool fails") in events


def test_the_tokens_of_a_resumed_thread_are_not_counted_twice(transcripts: Path) -> None:
    assert read(transcripts, "resume")[0].usage
    assert read(transcripts, "resume", resume="01a1fb6b-af84-7251-8cdd-492d16c62cbf")[0].usage == {}


def test_an_answer_in_a_form_is_read_and_a_wrong_one_told(transcripts: Path) -> None:
    outcome, _ = read(transcripts, "output_schema", output_schema={"type": "object"})
    assert outcome.structured_output == {"verdict": "ok"}
    other, _ = read(transcripts, "resume", output_schema={"type": "object"})
    assert (other.status, other.structured_output) == ("finished", None)
    assert "form" in other.message


@pytest.mark.parametrize(
    ("lines", "end", "code"),
    [
        ([], ChildEnd("own", 0, False, "", 0, 1), "worker_crashed"),
        ([], ChildEnd("own", 1, False, "Error loading config.toml: bad", 0, 1), "worker_start_failed"),
        ([b'{"type":"turn.completed","usage":{}}'], ChildEnd("own", 0, False, "", 0, 1), "worker_no_output"),
        ([b'{"type":"turn.completed","usage":{}}'], ChildEnd("own", 1, False, "", 0, 1), "worker_crashed"),
        ([], ChildEnd("stopped", -15, True, "", 0, 1), "worker_cancelled"),
        ([], ChildEnd("timed_out", -9, True, "", 0, 1), "worker_timeout"),
    ],
)
def test_an_end_without_an_answer_has_its_reason(lines: list[bytes], end: ChildEnd, code: str) -> None:
    task = task_with()
    dialogue, _ = hear(lines, task)
    assert judge(dialogue, end, task, "0.169.0").error_code == code


def test_the_token_is_in_no_sentence() -> None:
    task = task_with()
    lines = [b'{"type":"turn.failed","error":{"message":"unexpected status 500 x: t0ken"}}']
    dialogue, _ = hear(lines, task)
    outcome = judge(dialogue, ChildEnd("own", 1, False, "", 0, 1), task, "0.169.0")
    assert "t0ken" not in outcome.message
    assert outcome.provider_status == 500


def test_lines_that_are_no_events_do_no_harm() -> None:
    lines = [b"", b"nonsense", b"[1]", b'{"type":7}', b'{"type":"item.completed","item":3}', b"\xff"]
    _, events = hear(lines, task_with())
    assert [event.code for event in events if isinstance(event, Notice)] == ["line_not_json"]

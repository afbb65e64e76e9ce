"""Transcripts of the real Claude Code 2.1.197 and 2.1.329, read and judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dragoman.workers.base import (
    Denied,
    Notice,
    Retrying,
    Said,
    Started,
    ToolAnswered,
    ToolCalled,
    WorkerEvent,
    WorkerOutcome,
    WorkerTask,
)
from dragoman.workers.child import ChildEnd
from dragoman.workers.claude_outcome import ClaudeRun, judge
from dragoman.workers.claude_rules import ClaudeRules
from dragoman.workers.claude_stream import ClaudeDialogue


def read(recordings: Path, name: str, *, schema: bool = False) -> tuple[WorkerOutcome, list[WorkerEvent]]:
    """Play a recording; the exit code is 0 exactly when the last result is no error, as measured."""
    lines = (recordings / f"{name}.jsonl").read_bytes().splitlines()
    cwd = next((Path(json.loads(line)["cwd"]) for line in lines if b'"init"' in line), Path("/none"))
    task = WorkerTask(
        prompt="p", cwd=cwd, model="m", gateway_url="", token="t", run_id="r", config_folder=Path("/none")
    )
    events: list[WorkerEvent] = []
    dialogue = ClaudeDialogue(task, ClaudeRules((), (), ()), cwd=cwd, on_event=events.append)
    for line in lines:
        assert not list(dialogue.heard(line))
    failed = dialogue.result is None or dialogue.result["is_error"]
    end = ChildEnd("own", 1 if failed else 0, False, "", 0, 1234)
    run = ClaudeRun(
        result=dialogue.result,
        api_error=dialogue.api_error,
        last_said=dialogue.last_said,
        session_id=dialogue.session_id,
        denials=dialogue.denials,
        client_version=dialogue.client_version,
        schema_asked=schema,
    )
    return judge(run, end), events


VERDICTS = {
    # case: (status, error code, HTTP status, worth a retry, words)
    "task_stream": ("finished", None, None, False, "Fixed add(); tests pass."),
    "err_cut_always": (
        "finished",
        None,
        None,
        False,
        "partial text that is long enough to have several chunks in it",
    ),
    "err_e400ctx": ("failed", "worker_context_exceeded", 400, False, ""),
    "err_e401": ("failed", "worker_auth", 401, False, ""),
    "err_e404": ("failed", "provider_error", 404, False, ""),
    "err_e429long": ("failed", "provider_error", 429, True, ""),
    "err_e529": ("failed", "provider_error", 529, True, ""),
    "flag_agent": ("finished", None, None, False, "all done"),
    "flag_budget": ("failed", "worker_budget", None, False, None),
    "flag_fallback404": ("finished", None, None, False, "fromfallback"),
    "flag_maxturns1": ("failed", "worker_max_turns", None, False, ""),
    "flag_resume_missing": ("failed", "session_not_found", None, False, ""),
    "flag_schema_text": ("finished", None, None, False, "still not"),
    "flag_schema_tool": ("finished", None, None, False, '{"ok":true,"n":3}'),
    "perm_deny_abs": ("finished", None, None, False, "done"),
    "perm_dontask_rule1": ("finished", None, None, False, "done"),
    "sse_empty": ("failed", "worker_no_output", None, True, ""),
    "sse_only_thinking": ("failed", "worker_no_output", None, True, ""),
    "sse_sr_null": ("failed", "worker_truncated", None, True, "nul"),
    "sse_sr_pause": ("failed", "worker_truncated", None, True, "pausing"),
    "sse_sr_refusal_empty": ("failed", "worker_refused", None, False, ""),
    "sse_sr_unknown": ("failed", "worker_truncated", None, True, "unk"),
    "sse_wrong_schema": ("finished", None, None, False, "done"),
}


@pytest.mark.parametrize("version", ["197", "329"])
@pytest.mark.parametrize("case", list(VERDICTS))
def test_both_versions_get_the_same_verdict(recordings: Path, version: str, case: str) -> None:
    outcome, _ = read(recordings, f"{version}_{case}")
    status, code, provider_status, retryable, words = VERDICTS[case]
    assert (outcome.status, outcome.error_code) == (status, code)
    assert (outcome.provider_status, outcome.retryable) == (provider_status, retryable)
    if words is not None:
        assert outcome.text == words
    assert bool(outcome.message) == (status != "finished")


@pytest.mark.parametrize(
    ("name", "status", "code", "words"),
    [
        ("197_err_cut_nostop", "failed", "worker_truncated", "full text"),
        ("329_err_cut_nostop", "failed", "provider_error", None),
        ("197_sse_sr_refusal", "failed", "worker_refused", None),
        ("329_sse_sr_refusal", "finished", None, "again"),
        ("197_sse_sr_tooluse_no_tool", "failed", "provider_error", None),
        ("329_sse_sr_tooluse_no_tool", "failed", "provider_error", None),
    ],
)
def test_where_the_versions_differ_a_cut_or_refused_answer_is_still_no_success(
    recordings: Path, name: str, status: str, code: str | None, words: str | None
) -> None:
    outcome, _ = read(recordings, name)
    assert (outcome.status, outcome.error_code) == (status, code)
    if words is not None:
        assert outcome.text == words


@pytest.mark.parametrize("version", ["197", "329"])
def test_a_whole_task_is_told_step_by_step_with_paths_relative_to_the_folder(
    recordings: Path, version: str
) -> None:
    outcome, events = read(recordings, f"{version}_task_stream")
    assert isinstance(events[0], Started)
    assert events[0].client_version == f"2.1.{version}"
    calls = [(event.tool, event.target) for event in events if isinstance(event, ToolCalled)]
    assert calls == [
        ("Read", "calc.py"),
        ("Edit", "calc.py"),
        ("Write", "NOTES.md"),
        ("Bash", "python3 test_calc.py"),
    ]
    answers = [event for event in events if isinstance(event, ToolAnswered)]
    assert [answer.ok for answer in answers] == [True] * 4
    assert {answer.id for answer in answers} == {
        event.id for event in events if isinstance(event, ToolCalled)
    }
    assert [event.text for event in events if isinstance(event, Said)][-1] == outcome.text
    assert outcome.usage["glm-5.2"].output_tokens > 0


@pytest.mark.parametrize("version", ["197", "329"])
def test_edits_outside_the_rule_are_told_as_denied(recordings: Path, version: str) -> None:
    outcome, events = read(recordings, f"{version}_perm_dontask_rule1")
    assert outcome.status == "finished"
    targets = {denial.target for denial in outcome.permission_denials}
    assert {"docs/b.md", "docs/new.md"} <= targets
    assert {event.target for event in events if isinstance(event, Denied)} == targets
    assert "src/a.py" not in targets


@pytest.mark.parametrize("version", ["197", "329"])
def test_every_retry_is_told(recordings: Path, version: str) -> None:
    _, events = read(recordings, f"{version}_err_e529")
    retries = [event for event in events if isinstance(event, Retrying)]
    assert [(retry.attempt, retry.of, retry.status) for retry in retries] == [(n, 3, 529) for n in (1, 2, 3)]
    assert not any(isinstance(event, Said) for event in events)


def test_two_results_give_one_outcome_the_last(recordings: Path) -> None:
    lines = (recordings / "329_flag_agent.jsonl").read_text().splitlines()
    assert sum('"type": "result"' in line for line in lines) == 2
    outcome, events = read(recordings, "329_flag_agent")
    assert (outcome.status, outcome.text) == ("finished", "all done")
    assert any(isinstance(event, ToolCalled) and event.subagent for event in events)


@pytest.mark.parametrize("version", ["197", "329"])
def test_another_model_stepping_in_is_told(recordings: Path, version: str) -> None:
    _, events = read(recordings, f"{version}_flag_fallback404")
    assert [event.code for event in events if isinstance(event, Notice)] == ["model_fallback"]


@pytest.mark.parametrize("version", ["197", "329"])
def test_a_missing_form_is_said_and_the_text_kept(recordings: Path, version: str) -> None:
    outcome, _ = read(recordings, f"{version}_flag_schema_text", schema=True)
    assert (outcome.status, outcome.text, outcome.structured_output) == ("finished", "still not", None)
    assert "form" in outcome.message
    whole, _ = read(recordings, f"{version}_flag_schema_tool", schema=True)
    assert (whole.structured_output, whole.message) == ({"ok": True, "n": 3}, "")


def test_nothing_at_all_is_no_output() -> None:
    run = ClaudeRun(None, None, "", None, (), "2.1.329")
    assert judge(run, ChildEnd("own", 0, False, "", 0, 1)).error_code == "worker_no_output"


def test_a_crash_does_not_print_the_clients_source_code() -> None:
    run = ClaudeRun(None, None, "", None, (), "2.1.197")
    outcome = judge(run, ChildEnd("own", 1, False, "472 | `),process.exit(1)}function a7r()", 0, 1))
    assert outcome.error_code == "worker_crashed"
    assert "function" not in outcome.message

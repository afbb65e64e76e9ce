"""The driver against a fake Claude Code of many bad habits: real processes, real ends."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dragoman.clients.run_header import RunIdInvalid
from dragoman.process.spawn import SpawnPlan
from dragoman.workers.base import (
    Notice,
    Retrying,
    Said,
    Spawned,
    Started,
    WorkerEvent,
    WorkerSetupFailed,
    WorkerTask,
)

if TYPE_CHECKING:
    from tests.workers.conftest import Stage

IsRunning = Callable[[int], bool]


def test_a_normal_run_finishes_with_words_session_turns_and_usage(stage: Stage) -> None:
    play = stage.play("normal")
    outcome = play.outcome
    assert (outcome.status, outcome.text, outcome.error_code) == ("finished", "All done.", None)
    assert (outcome.turns, outcome.exit_code, outcome.survivors) == (2, 0, 0)
    assert outcome.session_id == "11111111-2222-3333-4444-555555555555"
    assert outcome.usage["m"].input_tokens == 7
    assert (outcome.client, outcome.client_version) == ("claude", "2.1.329")
    assert [type(event) for event in play.events] == [Spawned, Started, Said]


def test_the_task_is_never_the_last_block_so_that_no_path_or_command_in_it_is_expanded(stage: Stage) -> None:
    play = stage.play("normal", prompt="/clear @/etc/passwd")
    (message,) = [json.loads(line) for line in play.noted("heard.jsonl").splitlines()]
    first, last = message["message"]["content"]
    assert first["text"] == "/clear @/etc/passwd"
    assert "/" not in last["text"]
    assert "@" not in last["text"]


def test_the_prompt_and_the_token_are_not_in_the_argument_list(stage: Stage) -> None:
    play = stage.play("normal", prompt="a very secret wish")
    arguments = play.noted("argv.json")
    assert "secret wish" not in arguments
    assert stage.task.token not in arguments


def test_the_worker_gets_a_chosen_environment_and_a_private_home(stage: Stage) -> None:
    worker = replace(
        stage.worker, env={**stage.worker.env, "OPENAI_API_KEY": "k", "HTTPS_PROXY": "http://u:p@h"}
    )
    stage.worker = worker
    environment = json.loads(stage.play("normal").noted("environment.json"))
    assert "OPENAI_API_KEY" not in environment
    assert "HTTPS_PROXY" not in environment
    private = stage.task.config_folder.resolve()
    assert environment["HOME"] == str(private / "home")
    assert environment["CLAUDE_CONFIG_DIR"] == str(private / "claude")
    assert environment["DRAGOMAN_RUN"] == stage.task.run_id
    assert environment["ANTHROPIC_AUTH_TOKEN"] == stage.task.token


def test_the_private_folder_and_its_settings_are_for_the_owner_only(stage: Stage) -> None:
    stage.task.config_folder.mkdir(mode=0o755)
    stage.play("normal")
    settings = stage.task.config_folder / "settings.json"
    assert stat.S_IMODE(stage.task.config_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600


def test_a_settings_file_planted_as_a_link_is_replaced_not_followed(stage: Stage, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    stage.task.config_folder.mkdir()
    (stage.task.config_folder / "settings.json").symlink_to(victim)
    stage.play("normal")
    assert victim.read_text() == "untouched"


def test_a_success_claimed_with_a_bad_exit_is_a_crash(stage: Stage) -> None:
    outcome = stage.play("lies").outcome
    assert (outcome.status, outcome.error_code, outcome.exit_code) == ("failed", "worker_crashed", 1)
    assert "exit code 1" in outcome.message


def test_an_empty_answer_is_not_a_success(stage: Stage) -> None:
    outcome = stage.play("answers_empty").outcome
    assert (outcome.status, outcome.error_code) == ("failed", "worker_no_output")


def test_a_silent_exit_143_is_a_crash_that_names_the_signal(stage: Stage) -> None:
    outcome = stage.play("exits_143_silently").outcome
    assert (outcome.status, outcome.error_code, outcome.exit_code) == ("failed", "worker_crashed", 143)
    assert "signal 15" in outcome.message


def test_a_client_killed_from_outside_is_a_crash_that_names_the_signal(stage: Stage) -> None:
    outcome = stage.play("kills_itself").outcome
    assert (outcome.error_code, outcome.exit_code) == ("worker_crashed", -9)
    assert "signal 9" in outcome.message


def test_what_was_said_before_a_death_is_kept(stage: Stage) -> None:
    outcome = stage.play("dies_before_its_result").outcome
    assert (outcome.status, outcome.error_code, outcome.text) == ("failed", "worker_crashed", "Half way.")


def test_a_client_that_refuses_its_flags_says_so(stage: Stage) -> None:
    outcome = stage.play("refuses_to_start").outcome
    assert outcome.error_code == "worker_start_failed"
    assert outcome.message == "error: unknown option '--tools'"


def test_a_program_that_is_gone_is_an_outcome(stage: Stage) -> None:
    missing = replace(stage.client, path=stage.client.path.with_name("gone"))
    stage.worker = replace(stage.worker, client=missing)
    outcome = stage.play().outcome
    assert (outcome.status, outcome.error_code, outcome.exit_code) == ("failed", "worker_start_failed", None)


def test_a_workspace_that_is_gone_is_one_clear_sentence(stage: Stage) -> None:
    with pytest.raises(WorkerSetupFailed, match="does not exist"):
        stage.play("normal", cwd=stage.cwd / "gone")


def test_a_run_id_that_could_add_a_header_is_refused(stage: Stage) -> None:
    with pytest.raises(RunIdInvalid):
        stage.play("normal", run_id="r1\nx-api-key: stolen")


def test_an_api_error_is_a_provider_error_without_the_token(stage: Stage) -> None:
    play = stage.play("api_error")
    outcome = play.outcome
    assert (outcome.status, outcome.error_code) == ("failed", "provider_error")
    assert (outcome.provider_status, outcome.retryable) == (529, True)
    assert stage.task.token not in outcome.message
    assert play.told(Retrying) == [Retrying(attempt=1, of=10, delay_ms=600, status=529, reason="overloaded")]


def test_a_turn_limit_is_told_although_there_is_no_result_text(stage: Stage) -> None:
    outcome = stage.play("turn_limit").outcome
    assert (outcome.error_code, outcome.message) == (
        "worker_max_turns",
        "Reached maximum number of turns (2)",
    )


def test_the_last_of_two_results_counts(stage: Stage) -> None:
    outcome = stage.play("gives_two_results").outcome
    assert (outcome.status, outcome.text, outcome.turns) == ("finished", "The last.", 4)


def test_garbage_lines_are_told_once_and_do_no_harm(stage: Stage) -> None:
    play = stage.play("prints_garbage")
    assert play.outcome.status == "finished"
    assert [notice.code for notice in play.told(Notice)] == ["line_not_json"]


def test_a_50_mb_line_is_dropped_and_told(stage: Stage) -> None:
    play = stage.play("prints_50_mb_line")
    assert play.outcome.status == "finished"
    assert [notice.text for notice in play.told(Notice)] == ["a line of 50.0 MB from the client was not read"]


def test_a_flood_of_errors_does_not_block_the_client(stage: Stage) -> None:
    assert stage.play("floods_stderr").outcome.status == "finished"


@pytest.mark.parametrize("behaviour", ["floods", "floods_without_newline"])
def test_an_endless_stream_ends_with_the_time_limit(stage: Stage, behaviour: str) -> None:
    play = stage.play(behaviour, timeout_s=0.7)
    assert (play.outcome.status, play.outcome.error_code) == ("timed_out", "worker_timeout")
    assert play.outcome.survivors == 0
    assert play.took_s < 5


def test_a_client_that_never_reads_its_input_can_be_stopped(stage: Stage) -> None:
    ready = stage.notes / "environment.json"
    play = stage.play("never_reads", prompt="x" * 3_000_000, stop_when=lambda _: ready.exists())
    assert (play.outcome.status, play.outcome.error_code) == ("stopped", "worker_cancelled")


def test_a_client_that_reads_all_of_its_input_first_is_given_an_end_of_it(stage: Stage) -> None:
    stage.worker = replace(stage.worker, patience=replace(stage.worker.patience, mute_s=0.3))
    outcome = stage.play("reads_to_the_end_first").outcome
    assert (outcome.status, outcome.text) == ("finished", "All done.")


def test_a_stop_of_a_client_that_can_be_told_nothing_any_more_is_a_signal(stage: Stage) -> None:
    stage.worker = replace(stage.worker, patience=replace(stage.worker.patience, mute_s=0.0))
    play = stage.play("hangs_deaf", stop_when=lambda _: (stage.notes / "ready").exists())
    assert play.outcome.status == "stopped"
    assert play.took_s < 5


def test_a_stop_asks_politely_first_and_keeps_the_words(stage: Stage) -> None:
    play = stage.play("hangs", stop_when=lambda _: (stage.notes / "ready").exists())
    assert (play.outcome.status, play.outcome.text) == ("stopped", "Thinking about it.")
    assert play.noted("interrupted") == "yes"
    assert play.outcome.exit_code == 0


def test_a_stop_before_the_start_starts_nothing(stage: Stage) -> None:
    async def main() -> str:
        stop = asyncio.Event()
        stop.set()
        outcome = await stage.worker.run(stage.task, on_event=lambda event: None, stop=stop)
        return outcome.status

    assert asyncio.run(main()) == "stopped"
    assert list(stage.cwd.iterdir()) == []


def test_a_stop_kills_what_ignores_every_signal_in_its_own_session(
    stage: Stage, is_running: IsRunning
) -> None:
    play = stage.play("ignores_everything", stop_when=lambda _: (stage.notes / "ready").exists())
    assert play.outcome.status == "stopped"
    assert play.outcome.survivors == 0
    assert play.took_s < 11
    assert not is_running(int(play.noted("ready")))
    assert not is_running(int(play.noted("grandchild")))


@pytest.mark.parametrize("behaviour", ["leaves_grandchild", "leaves_grandchild_on_the_pipe"])
def test_a_run_that_succeeded_leaves_no_grandchild_either(
    stage: Stage, is_running: IsRunning, behaviour: str
) -> None:
    play = stage.play(behaviour)
    assert play.outcome.status == "finished"
    assert not is_running(int(play.noted("grandchild")))


def test_a_client_that_lingers_after_its_result_is_ended_and_still_counts(stage: Stage) -> None:
    outcome = stage.play("lingers").outcome
    assert (outcome.status, outcome.text) == ("finished", "All done.")


def test_a_cancelled_run_leaves_nothing(stage: Stage, is_running: IsRunning) -> None:
    async def main() -> None:
        task = replace(stage.task, environment={"FAKE_CLAUDE": "ignores_everything"})
        run = asyncio.create_task(stage.worker.run(task, on_event=lambda event: None, stop=asyncio.Event()))
        while not (stage.notes / "ready").exists():
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(asyncio.wait_for(main(), 30))
    assert not is_running(int((stage.notes / "ready").read_text()))
    assert not is_running(int((stage.notes / "grandchild").read_text()))


def test_a_listener_that_fails_ends_the_run_and_is_heard(stage: Stage, is_running: IsRunning) -> None:
    def fail(event: WorkerEvent) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        task = replace(stage.task, environment={"FAKE_CLAUDE": "leaves_grandchild"})
        await stage.worker.run(task, on_event=fail, stop=asyncio.Event())

    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(main(), 30))
    grandchild = stage.notes / "grandchild"
    assert not grandchild.exists() or not is_running(int(grandchild.read_text()))


def test_a_session_that_is_gone_is_begun_afresh_once_and_told(stage: Stage) -> None:
    play = stage.play("session_is_gone", resume="22222222-2222-3333-4444-555555555555")
    assert play.outcome.status == "finished"
    assert [notice.code for notice in play.told(Notice)] == ["session_not_found"]
    assert not any(word.startswith("--resume") for word in json.loads(play.noted("argv.json")))


def test_only_the_exact_command_gets_the_hooks_permission(stage: Stage) -> None:
    def asks(command: str) -> dict[str, object]:
        tool_input = {"tool_name": "Bash", "tool_input": {"command": command}}
        return {"subtype": "hook_callback", "callback_id": "exact_commands", "input": tool_input}

    real_cwd = stage.cwd.resolve()
    commands = ["pytest -k 'a*'", f"cd {real_cwd} && pytest -k 'a*'", "pytest -k 'ab'", "pytest -k 'a*'; id"]
    play = stage.play(
        "asks", questions=[asks(command) for command in commands], allowed_commands=("pytest -k 'a*'",)
    )
    answers = [json.loads(play.noted(f"answer{number}.json"))["response"] for number in range(4)]
    allowed = ["hookSpecificOutput" in answer["response"] for answer in answers]
    assert allowed == [True, True, False, False]
    assert [answer["request_id"] for answer in answers] == ["q0", "q1", "q2", "q3"]
    opening = [json.loads(line) for line in play.noted("heard.jsonl").splitlines()]
    assert opening[0]["request"]["hooks"]["PreToolUse"][0]["matcher"] == "Bash"


def test_a_question_for_permission_is_always_answered_with_no(stage: Stage) -> None:
    question = {"subtype": "can_use_tool", "tool_name": "Write", "input": {"file_path": "/x"}}
    play = stage.play("asks", questions=[question, {"subtype": "something_new"}])
    assert json.loads(play.noted("answer0.json"))["response"]["response"]["behavior"] == "deny"
    assert json.loads(play.noted("answer1.json"))["response"]["response"] == {}


def test_a_sandbox_can_wrap_the_command_line(stage: Stage) -> None:
    seen: list[str] = []

    def confine(plan: SpawnPlan, task: WorkerTask) -> SpawnPlan:
        seen.append(task.run_id)
        return replace(plan, argv=("/usr/bin/env", "CONFINED=1", *plan.argv))

    stage.worker = replace(stage.worker, confine=confine)
    play = stage.play("normal")
    assert json.loads(play.noted("environment.json"))["CONFINED"] == "1"
    assert seen == [stage.task.run_id]


def test_a_read_only_task_has_no_tool_that_writes(stage: Stage) -> None:
    arguments = json.loads(stage.play("normal", read_only=True).noted("argv.json"))
    assert "--tools=Read,Grep,Glob,Bash" in arguments

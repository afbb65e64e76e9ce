"""The real Claude Code in a real terminal, driven by the bridge process through its mailbox."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real_client

StartSession = Callable[..., Any]


def test_rounds_end_as_they_must_and_nothing_typed_is_executed(
    start_session: StartSession, claude: Path
) -> None:
    session = start_session(claude)

    answer = session.send("say **Hello** you.")
    assert (answer["status"], answer["output"], answer["source"]) == ("completed", "**Hello** you.", "hook")

    # Allowed once.
    asked = session.send("run touch one.txt")
    assert asked["status"] == "needs_permission"
    assert asked["suggested_keys"] == [option["key"] for option in asked["options"]]
    assert asked["options"][0] == {"key": "1", "label": "Yes"}
    assert (asked["tool"], asked["tool_input"]["command"]) == ("Bash", "touch one.txt")
    # While it is asked, a prompt is not typed into the question.
    assert session.send("say 1")["status"] == "needs_permission"
    assert not (session.project / "one.txt").exists()
    done = session.press("1")
    assert (done["status"], done["output"]) == ("completed", "It ran.")
    assert (session.project / "one.txt").exists()

    # Refused.
    asked = session.send("run touch two.txt")
    no = next(option["key"] for option in asked["options"] if option["label"].startswith("No"))
    assert session.press(no)["status"] == "interrupted"
    assert not (session.project / "two.txt").exists()

    # A key that nothing waits for is not pressed.
    assert session.press("1")["status"] == "not_submitted"
    assert session.press("escape")["status"] == "not_submitted"

    # An answer that looks like a question, a spinner or a footer is only an answer.
    menu = "❯ 1. Yes\n  2. No\n\nDo you want to proceed?"
    assert session.send(f"say Look:\n\n{menu}")["status"] == "completed"
    spinner = session.send("say ✻ Working… (esc to interrupt)")
    assert (spinner["status"], spinner["output"]) == ("completed", "✻ Working… (esc to interrupt)")

    # What would be a command or a shell line arrives as text.
    for prompt in ("!touch pwned", "/exit", "/compact now", "a trailing \\", "two\nlines 漢字 🎉"):
        answer = session.send(prompt)
        assert answer["status"] == "completed", answer
        assert prompt.strip() in answer["output"]
    assert not (session.project / "pwned").exists()
    refused = session.send("red \x1b[201~\r!touch pwned")
    assert refused["status"] == "not_submitted"
    assert "escape character" in refused["error"]

    failed = session.send("fail now")
    assert (failed["status"], "bad thing happened" in failed["error"]) == ("failed", True)


def test_a_turn_that_outlasts_its_time_is_told_later_and_can_be_stopped(
    start_session: StartSession, claude_329: Path, wait_until: Callable[..., Any]
) -> None:
    session = start_session(claude_329)
    late = session.send("late", timeout_s=1.0)
    assert (late["status"], late["busy"]) == ("timeout", True)
    assert session.send("say too soon")["status"] == "busy"
    finished = wait_until(lambda: session.state().get("finished"), "the late end")
    assert (finished["status"], finished["output"]) == ("completed", "Here at last.")

    assert session.send("slowly", timeout_s=2.0)["status"] == "timeout"
    stopped = session.press("escape")
    assert stopped["status"] == "interrupted"
    assert "After it." in session.send("say After it.")["output"]


def test_a_killed_claude_code_is_reported_and_its_conversation_taken_up(
    start_session: StartSession, claude_329: Path, wait_until: Callable[..., Any]
) -> None:
    session = start_session(claude_329)
    assert session.send("say remembered")["status"] == "completed"
    wait_until(lambda: "turn_duration" in session.transcript(), "the transcript")
    os.kill(session.state()["cc_pid"], signal.SIGKILL)
    wait_until(lambda: session.state().get("status") == "exited", "the end of Claude Code")
    assert session.press("1")["status"] == "exited"
    answer = session.send("say back")
    assert (answer["status"], answer["output"], answer["resumed"]) == ("completed", "back", True)
    wait_until(lambda: "say back" in session.transcript(), "the transcript of the same session")
    assert "remembered" in session.transcript()


def test_a_conversation_that_was_never_written_is_replaced_and_said_to_be(
    start_session: StartSession, claude_329: Path, wait_until: Callable[..., Any]
) -> None:
    session = start_session(claude_329)
    os.kill(session.state()["cc_pid"], signal.SIGKILL)
    wait_until(lambda: session.state().get("status") == "exited", "the end of Claude Code")
    answer = session.send("say new")
    assert (answer["status"], answer["output"]) == ("completed", "new")


def test_a_killed_bridge_comes_back_with_the_same_conversation(
    start_session: StartSession, claude_329: Path, wait_until: Callable[..., Any]
) -> None:
    session = start_session(claude_329)
    assert session.send("say remembered")["status"] == "completed"
    wait_until(lambda: "turn_duration" in session.transcript(), "the transcript")
    first = session.bridge.pid
    os.kill(first, signal.SIGKILL)
    wait_until(
        lambda: session.bridge.pid != first and session.state().get("bridge_pid") == session.bridge.pid,
        "a new bridge",
    )
    wait_until(lambda: session.state().get("status") == "ready", "its Claude Code")
    assert session.send("say back")["output"] == "back"
    assert len(list(Path(session.env["CLAUDE_CONFIG_DIR"]).glob("projects/*/*.jsonl"))) == 1
    assert len(session.said) == 1


def test_a_clean_end_stays_an_end(start_session: StartSession, claude_329: Path) -> None:
    session = start_session(claude_329)
    ended = session.send("/exit", allow_command=True)
    assert (ended["status"], ended["exit_code"]) == ("exited", 0)
    began = time.monotonic()
    assert session.send("say anything")["status"] == "exited"
    assert time.monotonic() - began < 2.0


def test_without_hooks_the_transcript_and_the_screen_tell(
    start_session: StartSession, claude_329: Path
) -> None:
    session = start_session(claude_329, settings={"disableAllHooks": True})
    answer = session.send("say **Hello** you.")
    assert (answer["status"], answer["output"], answer["source"]) == (
        "completed",
        "**Hello** you.",
        "transcript",
    )
    asked = session.send("run touch one.txt")
    assert (asked["status"], asked["source"], len(asked["options"])) == ("needs_permission", "screen", 3)
    assert session.press("1")["output"] == "It ran."
    assert session.send("fail now")["status"] == "failed"
    assert session.state()["hooks"] is False


def test_the_question_whether_to_trust_a_folder_is_asked_and_answered_by_its_rows(
    start_session: StartSession, claude: Path
) -> None:
    session = start_session(claude, trusted=False, ready=False)
    asked = session.send("say hello")
    assert asked["status"] == "needs_permission"
    yes = next(option["key"] for option in asked["options"] if option["label"].startswith("Yes"))
    assert session.press(yes)["status"] in ("completed", "interrupted")
    assert session.send("say hello")["output"] == "hello"

"""Two hundred rounds in one session, and kills in the middle of turns: nothing grows, all is told."""

from __future__ import annotations

import os
import signal
import statistics
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.real_client, pytest.mark.endurance, pytest.mark.timeout(1200)]

ROUNDS = 200
# What the first rounds allocate (pyte's tables, JSON decoders) is no growth.
WARM_UP = 40


def private_kb(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def test_two_hundred_rounds_leave_no_memory_and_no_descriptor_behind(
    start_session: Callable[..., Any], claude_329: Path
) -> None:
    session = start_session(claude_329)
    pid = session.bridge.pid
    memory: list[int] = []
    opened: list[int] = []
    for number in range(ROUNDS):
        if number % 10 == 9:
            asked = session.send(f"run touch soak-{number}")
            assert asked["status"] == "needs_permission", asked
            answer = session.press("1")
            assert answer.get("output") == "It ran.", answer
        else:
            answer = session.send(f"say round {number}")
            assert answer.get("output") == f"round {number}", answer
        memory.append(private_kb(pid))
        opened.append(descriptors(pid))
    before = statistics.median(memory[WARM_UP : WARM_UP + 20])
    after = statistics.median(memory[-20:])
    assert after < before * 1.10, (before, after)
    # A look may fall on the moment in which the log or a result is open.
    assert statistics.median(opened[-20:]) <= statistics.median(opened[WARM_UP : WARM_UP + 20])
    print(f"{before} kB after {WARM_UP} rounds, {after} kB after {ROUNDS}")
    assert session.bridge.pid == pid
    assert not list(session.mailbox.results.iterdir())


def test_kills_in_the_middle_of_turns_are_told_and_the_conversation_goes_on(
    start_session: Callable[..., Any],
    claude_329: Path,
    wait_until: Callable[..., Any],
    alive_in: Callable[[Path], list[int]],
) -> None:
    session = start_session(claude_329)
    assert session.send("say the first words")["output"] == "the first words"
    for number in range(3):
        # Claude Code dies under a turn: told at once, taken up by the next prompt.
        turns = prompts(session)
        asked, answer = in_background(lambda: session.send("slowly"))
        wait_until(lambda old=turns: prompts(session) > old, "a turn, written down")
        os.kill(session.state()["cc_pid"], signal.SIGKILL)
        asked.join(30)
        assert answer[0]["status"] == "exited", answer
        back = session.send(f"say back {number}")
        assert (back["output"], back.get("resumed")) == (f"back {number}", True), back

        # The bridge dies under a turn: told at once, its Claude Code ends, both come back.
        turns = prompts(session)
        asked, answer = in_background(lambda: session.send("slowly"))
        wait_until(lambda old=turns: prompts(session) > old, "a turn, written down")
        bridge, claude = session.bridge.pid, session.state()["cc_pid"]
        os.kill(bridge, signal.SIGKILL)
        asked.join(30)
        assert (answer[0]["status"], "bridge is gone" in answer[0]["error"]) == ("exited", True), answer
        wait_until(lambda old=bridge: session.state().get("bridge_pid") not in (None, old), "a new bridge")
        wait_until(lambda: session.state().get("status") == "ready", "its Claude Code", 40)
        assert claude not in alive_in(session.project)
        assert session.send(f"say again {number}")["output"] == f"again {number}"
    files = list(Path(session.env["CLAUDE_CONFIG_DIR"]).glob("projects/*/*.jsonl"))
    assert len(files) == 1, "all of it is one conversation"
    assert "the first words" in session.transcript()
    assert len(session.said) == 3, session.said


def prompts(session: Any) -> int:
    """How many turns stand in the transcript; Claude Code writes them a moment later than it says so."""
    return session.transcript().count('"content":"slowly"')


def in_background(what: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(what()), daemon=True)
    thread.start()
    return thread, answers

"""The shipped scenarios off the beaten track: what they say when the work does not go as written."""

from __future__ import annotations

import pytest

from dragoman.jobs.claims import read_claims
from dragoman.rehearsal.answer import Speech
from dragoman.rehearsal.asked import Asked, OfferedTool, ToolResult, Wishes
from dragoman.rehearsal.load import load_scenario
from dragoman.rehearsal.play import play

PASSED = "Ran 4 tests in 0.001s\n\nOK"
FAILED = "Exit code 1\nRan 4 tests in 0.001s\n\nFAILED (failures=2)"


def asked(turn: int, *results: str, model: str = "worker") -> Asked:
    return Asked(
        wire="chat",
        model=model,
        digest="0" * 64,
        turn=turn,
        user_text="the packet",
        results=tuple(ToolResult("", text) for text in results),
        earlier=(),
        tools=tuple(OfferedTool(name) for name in ("Read", "Edit", "Bash")),
        cwd="/srv/shop",
        prompt_tokens=100,
        prefix_tokens=0,
        wishes=Wishes(thinking=True),
    )


@pytest.mark.parametrize(
    ("turn", "results", "rule"),
    [
        (0, (), "read"),
        (1, ("def discounted", "import unittest", "# Changes"), "see it fail"),
        (1, ("Permission to read has been denied",), "stuck"),
        (2, (FAILED,), "repair"),
        (2, (PASSED,), "nothing to repair"),
        (2, ("python3: command not found",), "stuck"),
        (3, ("The file /srv/shop/pricing.py has been updated successfully.",), "see it pass"),
        (3, ("Permission to edit has been denied",), "stuck"),
        (4, (PASSED,), "report"),
        (4, (FAILED,), "stuck"),
        (9, (PASSED,), "stuck"),
    ],
)
def test_the_demo_goes_on_only_where_the_last_step_worked(turn: int, results: tuple[str, ...], rule: str):
    assert play(asked(turn, *results), [load_scenario("demo")]).rule == rule


def test_a_demo_that_is_stuck_claims_no_success():
    (speech,) = play(asked(4, FAILED), [load_scenario("demo")]).parts
    assert isinstance(speech, Speech)
    (claim,) = read_claims(speech.text).commands
    assert claim.outcome == "failed"
    assert "FAILED (failures=2)" in speech.text


def test_the_greeting_answers_only_to_its_own_name_and_on_every_turn():
    greeting = load_scenario("greeting")
    for turn in (0, 1, 5):
        assert play(asked(turn, model="rehearsal"), [greeting]).finish == "stop"
    refusal = play(asked(0, model="glm-5.2"), [greeting]).refusal
    assert refusal is not None
    assert refusal.status == 404

"""What goes wrong upstream, as Claude Code meets it: no wait without end, no torn answer for a whole."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.real_client


def test_a_wait_of_an_hour_fails_at_once(claude, bench, upstream, wait_an_hour):
    upstream.play(wait_an_hour)
    began = time.monotonic()
    done = claude.run("Go on.", model=bench.spare_model())
    assert (done.code, done.result["is_error"], done.result["api_error_status"]) == (1, True, 429)
    assert "Rate limit reached." in done.said
    assert (done.retries, len(upstream.asked)) == (0, 1)
    assert time.monotonic() - began < 30


def test_a_quota_that_is_used_up_is_asked_once(claude, bench, upstream, used_up):
    upstream.play(used_up)
    done = claude.run("Go on.", model=bench.spare_model())
    assert (done.code, done.result["is_error"], done.result["api_error_status"]) == (1, True, 429)
    assert (done.retries, len(upstream.asked)) == (0, 1)


def test_a_prompt_that_does_not_fit_is_recognised_after_one_call(claude, upstream, too_long):
    upstream.play(too_long)
    done = claude.run("Read all of it.")
    assert done.code == 1
    assert done.result["terminal_reason"] == "prompt_too_long"
    assert len(upstream.asked) == 1


TORN = [[{"tear": "The answer is"}], [{"say": "The answer is"}, {"cut": True}]]


@pytest.mark.parametrize("torn", TORN, ids=["amid words", "after words"])
def test_a_torn_answer_is_an_error(claude, upstream, torn):
    claude.env["CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK"] = "1"
    upstream.play_by(lambda asked: torn)
    done = claude.run("What is it?")
    assert (done.code, done.result["is_error"]) == (1, True)
    assert done.said.startswith("API Error")
    assert len(upstream.asked) <= 4


def test_after_a_tear_amid_words_the_same_is_asked_in_one_piece(claude, upstream):
    upstream.play([{"tear": "The answer is"}], [{"say": "The answer is four."}])
    done = claude.run("What is it?").assert_fine()
    assert done.said == "The answer is four."
    assert [asked.stream for asked in upstream.asked] == [True, False]


def test_after_a_tear_behind_a_call_the_tool_has_run_once(claude, upstream):
    """2.1.329 goes on from what was whole, or asks for all of it anew in one piece."""
    call = {"call": "Bash", "args": {"command": "echo ran >> runs.txt"}, "id": "call_1"}

    def model_that_goes_on(asked):
        return [{"say": "All done."}] if asked.results else [call]

    upstream.play([call, {"cut": True}], model_that_goes_on, model_that_goes_on)
    done = claude.run("Run it.").assert_fine()
    assert done.said == "All done."
    assert (claude.repository / "runs.txt").read_text() == "ran\n"


def test_an_answer_that_was_too_long_is_gone_on_with(claude, upstream):
    upstream.play(
        [{"say": "Once upon a time there was"}, {"finish": "length"}],
        [{"say": " a gateway."}],
    )
    done = claude.run("Tell me a story.").assert_fine()
    assert done.said.endswith("a gateway.")
    again = upstream.asked[1]
    assert "Once upon a time there was" in again.text
    assert "token limit" in again.text

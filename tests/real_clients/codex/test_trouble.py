"""What goes wrong upstream, as Codex meets it: told once, in words it acts on, and nothing done twice."""

from __future__ import annotations

import signal
import time

import pytest

pytestmark = pytest.mark.real_client

RUNS_ONCE = {"call": "exec_command", "args": {"cmd": "echo ran >> runs.txt"}, "id": "call_1"}


def test_a_prompt_that_does_not_fit_is_told_in_codexs_own_words_after_one_call(codex, upstream, too_long):
    upstream.play(too_long)
    done = codex.run("Read all of it.")
    assert done.code == 1
    assert done.failure is not None
    assert done.failure.startswith("Codex ran out of room in the model's context window")
    assert len(upstream.asked) == 1


def test_a_quota_that_is_used_up_is_asked_once(codex, bench, upstream, used_up):
    upstream.play(used_up)
    done = codex.run("Go on.", model=bench.spare_model())
    assert done.code == 1
    assert done.failure == "Quota exceeded. Check your plan and billing details."
    assert len(upstream.asked) == 1


def test_a_wait_of_an_hour_ends_the_turn_at_once(codex, bench, upstream, wait_an_hour):
    upstream.play(wait_an_hour)
    began = time.monotonic()
    done = codex.run("Go on.", model=bench.spare_model())
    assert done.code == 1
    assert done.failure == "Rate limit reached. (The provider asks to wait 3600 s.)"
    assert len(upstream.asked) == 1
    assert time.monotonic() - began < 30


def test_a_limit_that_passes_does_not_end_the_turn(codex, bench, upstream, slow_down):
    upstream.play(slow_down, [{"say": "Here I am."}])
    done = codex.run("Go on.", model=bench.spare_model()).assert_fine()
    assert done.said == ["Here I am."]
    assert len(upstream.asked) == 2


def model_that_goes_on(asked):
    """Calls until it sees the result, as a model would."""
    return [{"say": "All done."}] if asked.results else [RUNS_ONCE]


@pytest.mark.parametrize("then", ["amid words", "after words", "after another call", "at once"])
def test_after_a_cut_every_tool_has_run_once(codex, upstream, then):
    started = {"call": "exec_command", "args": {"cmd": "echo half >> half.txt"}, "id": "call_2"}
    torn = {
        "amid words": {"tear": "And now"},
        "after words": {"say": "And now"},
        "after another call": started,
        "at once": {"cut": True},
    }[then]
    upstream.play([RUNS_ONCE, torn, {"cut": True}], model_that_goes_on, model_that_goes_on)
    done = codex.run("Run it.").assert_fine()
    assert done.said[-1] == "All done."
    assert (codex.repository / "runs.txt").read_text() == "ran\n"
    half = codex.repository / "half.txt"
    assert not half.exists() or half.read_text() == "half\n"


def test_an_answer_cut_for_ever_ends_as_a_failure(codex, upstream):
    upstream.play_by(lambda asked: [{"say": "It is"}, {"cut": True}])
    done = codex.run("What is it?")
    assert done.code == 1
    assert done.failure is not None
    assert 1 < len(upstream.asked) <= 8


def test_a_late_head_is_waited_for_longer_than_the_idle_timeout(codex, upstream):
    codex.configure(idle_timeout_ms=2_000)
    upstream.play([{"pause_s": 4}, {"say": "Late."}])
    done = codex.run("Take your time.").assert_fine()
    assert done.said == ["Late."]
    assert done.retries == []


def test_a_codex_that_is_ended_ends_the_answer_upstream(codex, upstream):
    upstream.play([{"say": "One moment."}, {"wait": True}])
    process = codex.start("Think hard.")
    upstream.wait_asked()
    process.send_signal(signal.SIGINT)
    codex.finish(process)
    assert upstream.left.wait(10)


def test_a_length_stop_keeps_the_words(codex, upstream):
    upstream.play([{"say": "Once upon a"}, {"finish": "length"}])
    done = codex.run("Tell me a story.")
    assert done.said == ["Once upon a"]
    assert len(upstream.asked) == 1
    assert done.failure == "Incomplete response returned, reason: max_output_tokens"


def slow_first_words(benches, make_codex, *, idle_timeout_s, silence_s):
    """The head comes at once, the first event late, on all three wires at the same time."""
    running = []
    for wire in ("chat", "messages", "responses"):
        bench = benches.get(wire)
        bench.upstream.play([{"head": True}, {"pause_s": silence_s}, {"say": "At last."}])
        codex = make_codex(bench, idle_timeout_ms=idle_timeout_s * 1000)
        running.append((bench, codex, codex.start("Take your time.")))
    for bench, codex, process in running:
        done = codex.finish(process).assert_fine()
        assert (done.said, done.retries) == (["At last."], [])
        assert len(bench.upstream.asked) == 1


def test_a_silence_longer_than_the_idle_timeout_is_filled_with_signs_of_life(benches, make_codex):
    slow_first_words(benches, make_codex, idle_timeout_s=6, silence_s=12)


@pytest.mark.endurance
def test_twenty_seconds_to_the_first_event_pass_an_idle_timeout_of_eight(benches, make_codex):
    slow_first_words(benches, make_codex, idle_timeout_s=8, silence_s=20)

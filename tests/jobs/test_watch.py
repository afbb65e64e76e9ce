"""The watch over a worker, by a clock of its own."""

from __future__ import annotations

import pytest

from dragoman.jobs.watch import Watch, WatchPolicy
from dragoman.workers.base import Alive, Denied, Retrying, Said, Spawned, ToolAnswered, ToolCalled

POLICY = WatchPolicy(stall_warning_s=10, stall_end_s=100, same_denial=3, in_a_row=6)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> Watch:
    return Watch(POLICY, clock=clock)


def call(id: str, tool: str = "Bash") -> ToolCalled:
    return ToolCalled(id=id, tool=tool, target="x")


def test_a_silence_is_told_once_and_ended_later(watch: Watch, clock: Clock) -> None:
    clock.now += 9.9
    assert watch.look() is None
    clock.now += 0.2
    assert [watch.look(), watch.look()] == ["warn", None]
    clock.now += 90
    assert watch.look() == "end"
    assert watch.end_reason == "stalled"


@pytest.mark.parametrize(
    "sign", [Said(text="x"), Alive(), Retrying(attempt=1, of=10, delay_ms=5), Spawned(pid=1, started_at="")]
)
def test_any_sign_of_life_begins_the_silence_anew(watch: Watch, clock: Clock, sign: Said) -> None:
    clock.now += 11
    assert watch.look() == "warn"
    watch.heard(sign)
    clock.now += 11
    assert watch.look() == "warn"


def test_no_tool_is_too_slow(watch: Watch, clock: Clock) -> None:
    watch.heard(call("1"))
    watch.heard(call("2", "Read"))
    clock.now += 5000
    assert (watch.look(), watch.tool) == (None, "Read")
    watch.heard(ToolAnswered(id="2"))
    clock.now += 5000
    assert (watch.look(), watch.tool) == (None, "Bash")
    watch.heard(ToolAnswered(id="1"))
    clock.now += 5000
    assert watch.look() == "end"


def test_zero_means_never(clock: Clock) -> None:
    patient = Watch(WatchPolicy(stall_warning_s=0, stall_end_s=0), clock=clock)
    clock.now += 1e9
    assert patient.look() is None


def test_the_same_refused_call_again_and_again_is_the_end(watch: Watch) -> None:
    for number in range(3):
        assert watch.look() is None
        watch.heard(Denied(id=str(number), tool="Write", target="/etc/passwd"))
    assert (watch.look(), watch.end_reason, watch.denials) == ("end", "permission", 3)


def test_many_different_refusals_in_a_row_are_the_end_too(watch: Watch) -> None:
    for number in range(6):
        assert watch.look() is None
        watch.heard(Denied(id=str(number), tool="Read", target=f"/{number}"))
    assert watch.look() == "end"


def test_a_call_that_goes_through_forgives_the_refusals_before_it(watch: Watch) -> None:
    for number in range(30):
        watch.heard(Denied(id=str(number), tool="Read", target=f"/{number}"))
        if number % 5 == 4:
            watch.heard(ToolAnswered(id="other", ok=True))
        assert watch.look() is None
    assert watch.denials == 30


def test_it_is_told_what_the_worker_turns_to(clock: Clock) -> None:
    busy: list[str] = []
    watch = Watch(POLICY, on_busy=busy.append, clock=clock)
    watch.heard(Said(text="x"))
    watch.heard(call("1"))
    watch.heard(call("2"))
    watch.heard(ToolAnswered(id="1"))
    watch.heard(ToolAnswered(id="2"))
    watch.heard(Retrying(attempt=1, of=2, delay_ms=1))
    watch.heard(Said(text="y"))
    assert busy == ["model", "tool", "model", "retrying_wait", "model"]


def test_a_client_started_afresh_has_no_tool_at_work(watch: Watch, clock: Clock) -> None:
    watch.heard(call("1"))
    watch.heard(Spawned(pid=2, started_at="b"))
    clock.now += 200
    assert watch.look() == "end"


def test_c20_a_clock_that_jumps_back_makes_nobody_silent(watch: Watch, clock: Clock) -> None:
    clock.now -= 500
    assert (watch.quiet_s, watch.look()) == (0.0, None)

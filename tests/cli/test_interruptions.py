"""Ctrl-C interrupts once, never inside a held step, and never twice."""

from __future__ import annotations

import os
import signal

import pytest

from dragoman.cli.interruptions import Interruptions


def _press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), Interruptions().handled():
        _press(number)


def test_a_second_press_does_not_cut_the_clean_up_short() -> None:
    cleaned = False
    with Interruptions().handled():
        try:
            _press()
        except KeyboardInterrupt:
            _press()
            _press(signal.SIGTERM)
            cleaned = True
    assert cleaned


def test_a_held_step_is_finished_before_the_interruption() -> None:
    finished = False
    interruptions = Interruptions()

    def step() -> None:
        nonlocal finished
        with interruptions.held():
            _press()
            finished = True

    with pytest.raises(KeyboardInterrupt), interruptions.handled():
        step()
    assert finished


def test_handlers_are_what_they_were_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Interruptions().handled():
        pass
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before

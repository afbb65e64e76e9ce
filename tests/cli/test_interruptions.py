"""Ctrl-C interrupts once, never inside a held step, and never twice."""

from __future__ import annotations

import os
import signal

import pytest

from dragoman.cli import main
from dragoman.cli.interruptions import Interruptions


def _press(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
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


def test_a_held_step_says_at_once_that_the_key_was_heard(capfd: pytest.CaptureFixture[str]) -> None:
    interruptions = Interruptions()
    said: list[str] = []

    def step() -> None:
        with interruptions.held():
            _press()
            _press()
            said.append(capfd.readouterr().err)

    with pytest.raises(KeyboardInterrupt), interruptions.handled():
        step()
    assert said == ["\ncleaning up; one moment\n"]


def test_an_interruption_while_modules_are_read_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "_run", interrupted)
    assert main.run(["status"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_handlers_are_what_they_were_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Interruptions().handled():
        pass
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before

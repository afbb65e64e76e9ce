"""Every recording of the real terminal ends each round as it must, with hooks and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.bridge.outcome import Outcome
from dragoman.bridge.reading import find_dialog, is_busy, is_ready
from dragoman.bridge.screen import Screen

FIXTURES = Path(__file__).parent.parent / "fixtures" / "bridge"
GOLDEN: dict[str, dict[str, list[dict[str, Any]]]] = json.loads((FIXTURES / "golden.json").read_text())
Play = Callable[..., list[tuple[str, Outcome | None]]]

MODES: dict[str, dict[str, bool]] = {
    "hooks": {},
    "transcript": {"hooks_work": False},
    "screen": {"hooks_work": False, "transcript": False},
}


def as_golden(label: str, outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {"began": label, "status": None}
    told: dict[str, Any] = {"began": label, "status": outcome.status.value, "source": outcome.source}
    if outcome.options:
        told["options"] = [f"{option.key} {option.label}" for option in outcome.options]
        told["tool"] = outcome.tool
    if outcome.error:
        told["error"] = outcome.error
    told["output"] = outcome.output
    return told


CASES = [(name, mode) for name, modes in GOLDEN.items() for mode in modes]


@pytest.mark.parametrize(("name", "mode"), CASES, ids=[f"{name}-{mode}" for name, mode in CASES])
def test_a_recorded_round_ends_with_its_status_options_and_text(name: str, mode: str, play: Play) -> None:
    rounds = play(name, **MODES[mode])
    assert [as_golden(*one) for one in rounds] == GOLDEN[name][mode]


def test_every_recording_with_a_round_is_held_to_its_end() -> None:
    recorded = {
        path.stem for path in (FIXTURES / "terminal").glob("*.jsonl") if '"submit"' in path.read_text()
    }
    assert recorded == set(GOLDEN)


PHASES: dict[str, list[Any]] = json.loads((FIXTURES / "phases.json").read_text())


def phases(name: str) -> list[Any]:
    """What a recording's screen says, from its start to its end; repeated words left out."""
    rows: list[list[Any]] = [
        json.loads(line) for line in (FIXTURES / "terminal" / f"{name}.jsonl").read_text().splitlines()
    ]
    raw = (FIXTURES / "terminal" / f"{name}.bin").read_bytes()
    screen = Screen(rows[0][2], rows[0][3])
    found: list[Any] = []
    for _, kind, *rest in rows[1:]:
        if kind != "o":
            continue
        screen.feed(raw[rest[0] : rest[0] + rest[1]])
        view = screen.view()
        dialog = find_dialog(view)
        if dialog is not None:
            said: Any = [f"{option.key} {option.label}" for option in dialog.options]
        else:
            said = "ready" if is_ready(view) else "busy" if is_busy(view) else "nothing"
        if found[-1:] != [said]:
            found.append(said)
    return found


@pytest.mark.parametrize("name", sorted(PHASES))
def test_a_recording_without_a_round_shows_what_a_start_may_ask(name: str) -> None:
    assert phases(name) == PHASES[name]


def test_every_recording_is_held_to_something() -> None:
    recorded = {path.stem for path in (FIXTURES / "terminal").glob("*.bin")}
    assert recorded == set(GOLDEN) | set(PHASES)


def test_no_answer_that_shows_a_menu_is_taken_for_a_question(play: Play) -> None:
    for name in ("329fs_markdown", "197_markdown"):
        (label, outcome), *rest = play(name)
        assert outcome is not None
        assert (label, outcome.status.value, rest) == ("prompt", "completed", [])
        assert "❯ 1. Yes" in outcome.output


@pytest.mark.parametrize("name", sorted(path.stem for path in (FIXTURES / "terminal").glob("*.bin")))
def test_the_picture_of_a_recorded_screen_draws_the_same_screen(name: str) -> None:
    _, _, cols, rows = json.loads((FIXTURES / "terminal" / f"{name}.jsonl").read_text().splitlines()[0])
    screen = Screen(cols, rows)
    data = (FIXTURES / "terminal" / f"{name}.bin").read_bytes()
    for end in (len(data) // 2, len(data)):
        screen.feed(data[0 if end < len(data) else len(data) // 2 : end])
        drawn = Screen(cols, rows)
        drawn.feed(screen.picture())
        assert drawn.view() == screen.view()
        assert drawn.picture() == screen.picture()

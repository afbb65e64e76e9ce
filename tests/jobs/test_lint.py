"""What a packet lacks is told before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from dragoman.jobs.lint import lint_packet
from dragoman.jobs.packet import parse_packet

GOOD = "Goal: x\nAllowed files:\n- `src/a.py`\nValidation commands:\n- `pytest -q`\n"


def codes(text: str, **options: object) -> list[str]:
    return [remark.code for remark in lint_packet(parse_packet(text), **options)]  # pyright: ignore


def test_a_whole_packet_has_no_remarks() -> None:
    assert codes(GOOD, exists=lambda path: path == "src") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fix the bug.", ["missing_goal", "missing_files", "missing_validation"]),
        (GOOD.replace("Allowed files", "Files likely relevant"), ["files_are_no_scope"]),
        (GOOD.replace("src/a.py", "**"), ["scope_is_everything"]),
        (GOOD.replace("pytest -q", "make all && make test"), ["validation_not_run"]),
        (GOOD.replace("pytest -q", "make test"), ["validation_not_run"]),
        ("Role: reviewer\n" + GOOD, ["review_with_scope"]),
        ("Goal: " + "word " * 10_000 + GOOD[7:], ["very_long"]),
    ],
)
def test_each_gap_is_named(text: str, expected: list[str]) -> None:
    assert codes(text) == expected


def test_a_file_that_cannot_be_there_is_told_and_a_new_one_is_not() -> None:
    packet = GOOD.replace("- `src/a.py`", "- `src/new.py`\n- `scr/typo.py`")
    (remark,) = lint_packet(parse_packet(packet), exists={"src", "."}.__contains__)
    assert remark.code == "scope_matches_nothing"
    assert "scr/typo.py" in remark.text


def test_inside_a_sandbox_any_command_that_needs_no_shell_is_fine() -> None:
    assert codes(GOOD.replace("pytest -q", "make test"), any_command=True) == []
    assert codes(GOOD.replace("pytest -q", "make | tee x"), any_command=True) == ["validation_not_run"]


def test_remarks_are_sentences_of_one_line() -> None:
    for remark in lint_packet(parse_packet("Fix it\nValidation:\n- `" + "x" * 500 + "`")):
        assert "\n" not in remark.text
        assert len(remark.text) < 300


def test_a_run_tells_what_its_packet_lacks_and_refuses_nothing(bench: Any) -> None:
    packet = "Goal: x\nAllowed files:\n- `nowhere/at/all.py`\n- `code_under_test.py`\n"
    result = bench.carry_out(packet=packet, validation=("make all",), report="Done.")
    codes = [remark["code"] for remark in result["lint"]]
    assert codes == ["scope_matches_nothing", "validation_not_run"]
    (told,) = [event for _, event in bench.folder.events() if event["kind"] == "lint"]
    assert told["remarks"] == result["lint"]


def test_a_run_with_a_whole_packet_tells_nothing_of_it(bench: Any) -> None:
    packet = "Goal: x\nAllowed files:\n- `code_under_test.py`\nValidation:\n- `python3 -m unittest -q`\n"
    assert bench.carry_out(packet=packet, report="Done.")["lint"] == []
    assert not [event for _, event in bench.folder.events() if event["kind"] == "lint"]

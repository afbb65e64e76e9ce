"""A worker's report is read as claims and set beside what was observed."""

from __future__ import annotations

import pytest

from dragoman.jobs.claims import ClaimedCommand, CommandsSeen, compare, read_claims
from dragoman.jobs.evidence import Observation
from dragoman.workers.base import Denied, ToolCalled

REPORT = """The discount now rounds half up.

Changed files:
- `pricing.py` - round half up

Commands run:
- `python3 -m unittest -q`: passed (6 tests)
"""
PASSED = Observation(command="python3 -m unittest -q", status="passed", exit_code=0)
FAILED = Observation(command="python3 -m unittest -q", status="failed", exit_code=1)


def test_a_true_report_leaves_no_difference() -> None:
    claims = read_claims(REPORT)
    assert claims.files == ("pricing.py",)
    assert claims.commands == (ClaimedCommand(command="python3 -m unittest -q", outcome="passed"),)
    assert compare(claims, ["pricing.py"], [PASSED]) == []


def test_a_file_claimed_but_untouched_is_named() -> None:
    assert [d.kind for d in compare(read_claims(REPORT), [], [PASSED])] == ["file_not_changed"]


def test_a_file_touched_but_not_claimed_is_named() -> None:
    found = compare(read_claims(REPORT), ["pricing.py", "other.py"], [PASSED])
    assert [(d.kind, d.subject) for d in found] == [("file_not_claimed", "other.py")]


def test_a_pass_that_failed_under_our_eyes_is_named() -> None:
    assert [d.kind for d in compare(read_claims(REPORT), ["pricing.py"], [FAILED])] == [
        "command_claimed_passed"
    ]


def test_a_command_the_report_leaves_out_is_named() -> None:
    other = Observation(command="pytest -q", status="passed", exit_code=0)
    found = compare(read_claims(REPORT), ["pricing.py"], [PASSED, other])
    assert [d.kind for d in found] == ["command_not_claimed"]


def test_a_report_without_sections_claims_nothing() -> None:
    claims = read_claims("All done, every test passed!")
    assert claims.files == ()
    assert claims.commands == ()
    assert compare(claims, ["pricing.py"], [FAILED]) == []


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([("1", "Bash", "python3 -m unittest -q")], []),
        ([("1", "Bash", "cd /ws &&  python3 -m unittest -q | tail")], []),
        ([("1", "command", "python3 -m unittest -q")], []),
        ([("1", "Read", "python3 -m unittest -q")], ["command_not_run"]),
        ([("2", "Bash", "python3 -m unittest -q")], ["command_not_run"]),
        ([], ["command_not_run"]),
    ],
)
def test_a_command_it_says_it_ran_is_looked_for_among_its_calls(
    calls: list[tuple[str, str, str]], expected: list[str]
) -> None:
    seen = CommandsSeen()
    for id, tool, target in calls:
        seen.heard(ToolCalled(id=id, tool=tool, target=target))
    seen.heard(Denied(id="2", tool="Bash"))
    found = compare(read_claims(REPORT), ["pricing.py"], [PASSED], seen_commands=seen)
    assert [difference.kind for difference in found] == expected
    assert compare(read_claims(REPORT), ["pricing.py"], [PASSED]) == []


@pytest.mark.parametrize(
    "said",
    ["None.", "- none", "- (none)", "No files changed.", "- nothing", "N/A", "- No files were changed"],
)
def test_a_worker_that_says_it_changed_no_file_names_none(said: str) -> None:
    assert read_claims(f"Summary: x\nChanged files:\n{said}\n").files == ()


@pytest.mark.parametrize("said", ["- none.py", "- docs/none", "- nothing.txt", "- no_files"])
def test_a_file_with_such_a_name_is_a_file(said: str) -> None:
    assert read_claims(f"Changed files:\n{said}\n").files == (said.removeprefix("- "),)

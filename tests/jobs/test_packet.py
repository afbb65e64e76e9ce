"""A packet is parsed into fields, from headings or labels, and never silently widened."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.jobs.packet import PacketInvalid, named_roots, parse_packet
from dragoman.jobs.request import JobRequest, packet_of

LABELS = """Role: implementation worker
Goal: make the discount round half up
Files allowed:
- `pricing.py`
- tests/test_pricing.py - only if a case is missing
Validation commands:
- `python3 -m unittest -q`
Do not:
- touch the network
"""

HEADINGS = """# Round the discount

## Goal
Make the discount
round half up.

## Allowed files
- src/**
- docs/räksmörgås.md

## Validation
```sh
$ python3 -m unittest -q
pytest -q tests
```
"""


def test_labels_and_bullets_become_fields() -> None:
    packet = parse_packet(LABELS)
    assert packet.role == "implement"
    assert packet.goal == "make the discount round half up"
    assert packet.allowed_files == ("pricing.py", "tests/test_pricing.py")
    assert packet.validation == ("python3 -m unittest -q",)
    assert packet.do_not == ("touch the network",)


def test_headings_and_a_fenced_block_become_fields() -> None:
    packet = parse_packet(HEADINGS)
    assert packet.goal == "Make the discount round half up."
    assert packet.allowed_files == ("src/**", "docs/räksmörgås.md")
    assert packet.validation == ("python3 -m unittest -q", "pytest -q tests")


def test_a_comma_separated_line_lists_several_files() -> None:
    assert parse_packet("Only modify: a.py, b c.py\nGoal: x").allowed_files == ("a.py", "b c.py")


def test_files_likely_relevant_is_not_a_permission() -> None:
    assert parse_packet("Goal: x\nFiles likely relevant:\n- secret.py\n").allowed_files == ()


def test_the_reviewer_role_is_read_only() -> None:
    assert parse_packet("Role: reviewer\nGoal: look at the parser").role == "review"


def test_plain_text_is_its_own_goal() -> None:
    packet = parse_packet("Fix the rounding bug.\n\nMore words.")
    assert packet.goal == "Fix the rounding bug."
    assert packet.allowed_files == ()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "~/x"])
def test_an_allowed_file_outside_the_repository_is_refused(path: str) -> None:
    with pytest.raises(PacketInvalid, match="not inside the repository"):
        parse_packet(f"Goal: x\nAllowed files:\n- `{path}`\n")


def test_an_empty_packet_is_refused() -> None:
    with pytest.raises(PacketInvalid, match="empty"):
        parse_packet(" \n ")


@given(st.text(max_size=400))
def test_any_text_is_parsed_or_refused_and_kept_word_for_word(text: str) -> None:
    try:
        packet = parse_packet(text)
    except PacketInvalid:
        return
    assert packet.text == text
    assert all(".." not in path.split("/") and not path.startswith("/") for path in packet.allowed_files)


S0_PACKET = """Role: implementation worker
Goal:
Fix the parser.
Repo/CWD: /home/u/proj
Files likely relevant:
- `src/parse.py`
- docs/format.md - the grammar
Constraints:
- Only modify `src/parse.py` and `tests/test_parse.py`.
- Keep the API.
Context roots:
- `/home/u/schemas`
Acceptance criteria:
- tests pass
Validation commands:
- `pytest -q tests/test_parse.py`
Do not:
- commit
Return:
- a summary
"""


def test_the_whole_shape_of_a_leads_packet_becomes_fields() -> None:
    packet = parse_packet(S0_PACKET)
    assert (packet.role, packet.goal, packet.repository) == ("implement", "Fix the parser.", "/home/u/proj")
    assert packet.allowed_files == ("src/parse.py", "tests/test_parse.py")
    assert packet.relevant == ("src/parse.py", "docs/format.md")
    assert packet.constraints[1] == "Keep the API."
    assert packet.context_roots == ("/home/u/schemas",)
    assert (packet.acceptance, packet.do_not, packet.returns) == (
        ("tests pass",),
        ("commit",),
        ("a summary",),
    )
    assert {"goal", "relevant", "validation", "context_roots"} <= packet.sections


@pytest.mark.parametrize(
    "line",
    [
        "Please only touch `a.py`.",
        "Expected changes are in `a.py`, see `/api/users`",
        "files allowed: `a.py`",
    ],
)
def test_files_in_ticks_behind_a_scope_phrase_are_a_scope(line: str) -> None:
    assert parse_packet(f"Fix it. {line}\n").allowed_files == ("a.py",)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("- `/srv/schemas`\n- ~/notes\n", ("/srv/schemas", "/home/u/notes")),
        ("/srv/schemas, /srv/schemas", ("/srv/schemas",)),
        ("- docs/\n- /srv/repo/docs\n", ()),
        ("none", ()),
    ],
)
def test_folders_outside_the_repository_are_named_as_context_roots(
    said: str, expected: tuple[str, ...]
) -> None:
    text = f"Goal: x\nContext roots: {said}" if "-" not in said else f"Goal: x\nContext roots:\n{said}"
    assert named_roots(text, Path("/srv/repo"), home=Path("/home/u")) == expected


def test_a_quoted_diff_or_packet_opens_no_section() -> None:
    quoted = "````diff\n ```\n ## Allowed files\n - `**`\n ```\n+only modify `b.py`\n````\n"
    packet = parse_packet(f"Goal: look\nAllowed files:\n- `a.py`\n\n## Diff\n{quoted}")
    assert packet.allowed_files == ("a.py",)


def test_the_word_none_never_allows_everything() -> None:
    assert parse_packet("Goal: x\nAllowed files: none\n").allowed_files == ("none",)
    assert parse_packet("Goal: x\nAllowed files: any\n").allowed_files == ()


def test_a_diff_that_is_handed_in_widens_no_scope() -> None:
    diff = "--- a/x.md\n+++ b/x.md\n@@\n ```\n ## Allowed files\n - `**`\n ```\n+only modify `b.py`\n"
    request = JobRequest(task="Goal: look", cwd="/x", allowed_files=("a.py",), diff=diff)
    assert parse_packet(packet_of(request)).allowed_files == ("a.py",)

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.bridge.prompt import MAX_CHARACTERS, PromptRefused, pieces, plan_typing, same_text

PASTE = re.compile(rb"\x1b\[200~(.*?)\x1b\[201~", re.S)


def typed(prompt: str, **how: bool) -> str:
    return b"".join(PASTE.findall(b"".join(plan_typing(prompt, **how).pieces))).decode()


def test_a_plain_prompt_is_typed_as_written() -> None:
    assert typed("first line\n  second line") == "first line\n  second line"
    assert plan_typing("plain").notes == ()


@pytest.mark.parametrize("prompt", ["!rm -rf build", "  !touch x", "\n\n! ls", "!"])
def test_a_leading_bang_never_stands_first(prompt: str) -> None:
    text = typed(prompt)
    assert text.startswith(" !")
    assert text.strip() == prompt.strip()


@pytest.mark.parametrize("prompt", ["/compact", "/clear now", "  /exit", "\n/model opus", "/a-b:c d", "/"])
def test_a_leading_slash_word_is_no_command(prompt: str) -> None:
    text = typed(prompt)
    assert text == "> " + prompt.strip()
    assert not plan_typing(prompt).is_command


@pytest.mark.parametrize("prompt", ["/etc/passwd is a file", "/home/x/y.py: fix it"])
def test_a_path_at_the_front_is_a_prompt_like_any_other(prompt: str) -> None:
    assert typed(prompt) == prompt


def test_a_deliberate_command_is_one_line_that_begins_with_a_slash() -> None:
    plan = plan_typing(" /compact keep names", allow_command=True)
    assert (plan.text, plan.is_command) == ("/compact keep names", True)
    assert not plan_typing("/compact\nand more", allow_command=True).is_command
    assert typed("!ls", allow_command=True) == " !ls"


def test_a_trailing_backslash_does_not_turn_enter_into_a_line_break() -> None:
    plan = plan_typing("in C:\\dir\\")
    assert plan.text == "in C:\\dir\\."
    assert plan.notes


@pytest.mark.parametrize(
    "prompt",
    [
        "red \x1b[31mtext",
        "end of paste \x1b[201~!ls",
        "stop\x03",
        "\x00",
        "a\x7fb",
        "c1 \x9b31m",
        "zero\u200bwidth",
        "turned \u202e around",
        "half \ud800",
        "",
        " \n ",
        "x" * (MAX_CHARACTERS + 1),
        "y" * 200_000,
    ],
)
def test_what_a_terminal_would_act_on_is_refused_with_a_reason(prompt: str) -> None:
    with pytest.raises(PromptRefused) as refused:
        plan_typing(prompt)
    assert refused.value.message
    assert refused.value.hint


def test_what_is_changed_is_said() -> None:
    assert plan_typing("a\tb").notes == ("tabs were typed as four blanks",)
    assert "NFC" in plan_typing("e\u0301").notes[0]


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf")) | st.just("\n"), min_size=1, max_size=3000)
)
def test_every_accepted_prompt_arrives_whole_in_small_pastes(prompt: str) -> None:
    try:
        plan = plan_typing(prompt)
    except PromptRefused:
        return
    whole = b"".join(plan.pieces)
    assert PASTE.sub(b"", whole) == b""
    parts = [part.decode("utf-8") for part in PASTE.findall(whole)]
    assert "".join(parts) == plan.text
    assert all(part.count("\n") <= 2 and len(part) <= 600 for part in parts)
    assert not plan.text.startswith(("!", "/")) or re.match(r"/[^\s/]*/", plan.text)
    assert not plan.text.endswith("\\")


@given(st.text(max_size=2000))
def test_no_prompt_at_all_gets_an_escape_into_the_terminal(prompt: str) -> None:
    try:
        plan = plan_typing(prompt)
    except PromptRefused:
        return
    inside = b"".join(PASTE.findall(b"".join(plan.pieces)))
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", inside)


def test_pieces_never_cut_a_character() -> None:
    parts = pieces("漢" * 1500)
    assert b"".join(PASTE.findall(b"".join(parts))).decode() == "漢" * 1500


def test_blanks_at_the_ends_of_lines_do_not_count_as_a_change() -> None:
    assert same_text("a  \nb\n", "a\nb")
    assert not same_text("a b", "a  b")

"""Reasoning inside the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import chunks_of, texts

from dragoman.wire.think_tags import ThinkTags
from dragoman.wire.turns import plain, raw


def split(pieces: list[str]) -> dict[str, str]:
    tags = ThinkTags()
    out = {"text": "", "reasoning": ""}
    for piece in pieces:
        for lane, text in tags.feed(raw(piece)):
            out[lane] += plain(text)
    for lane, text in tags.end():
        out[lane] += plain(text)
    return out


@pytest.mark.parametrize(
    ("said", "reasoning", "text"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n<think>\na</think>\n\nb", "a", "b"),
        ("no tags", "", "no tags"),
        ("late <think>a</think>", "", "late <think>a</think>"),
        ("<think>never closed", "never closed", ""),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ("<thin", "", "<thin"),
        ("", "", ""),
    ],
)
def test_only_a_leading_block_of_thoughts_counts(said: str, reasoning: str, text: str) -> None:
    assert split([said]) == {"reasoning": reasoning, "text": text}


def test_a_line_break_that_comes_after_its_tag_is_still_the_tags() -> None:
    assert split(["<think>", "\n", "a</think>", "\n", "b"]) == {"reasoning": "a", "text": "b"}


@given(texts(), texts(), st.lists(st.integers(0, 60), max_size=6).map(sorted))
def test_a_tag_may_be_cut_anywhere(thought: str, text: str, places: list[int]) -> None:
    said = f"<think>{thought}</think>{text}"
    pieces = [
        piece.decode("utf-32-le") for piece in chunks_of(said.encode("utf-32-le"), [4 * p for p in places])
    ]
    assert split(pieces) == split([said])

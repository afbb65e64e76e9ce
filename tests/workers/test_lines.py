"""Lines come out whole or not at all, however the stream was cut into chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dragoman.workers.lines import DroppedLine, LineSplitter, Tail


def split(chunks: list[bytes], limit_bytes: int = 1000) -> list[bytes | DroppedLine]:
    splitter = LineSplitter(limit_bytes)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + list(splitter.rest())


@given(st.lists(st.binary(max_size=20)), st.integers(min_value=1, max_value=9))
def test_the_chunks_do_not_matter(lines: list[bytes], size: int) -> None:
    text = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    assert split(chunks) == text.split(b"\n")[:-1]


@given(st.integers(min_value=0, max_value=40), st.integers(min_value=1, max_value=15))
def test_a_line_over_the_limit_is_dropped_with_its_size_and_the_next_one_is_whole(
    length: int, size: int
) -> None:
    text = b"a" * length + b"\nnext\n"
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    first, second = split(chunks, limit_bytes=20)
    assert first == (b"a" * length if length <= 20 else DroppedLine(length, b"a" * length))
    assert second == b"next"


def test_a_character_cut_between_two_chunks_is_whole_again() -> None:
    letters = "naïve 🎉".encode()
    assert split([letters[:4], letters[4:8], letters[8:] + b"\n"]) == [letters]


def test_the_rest_without_a_newline_is_a_line_too() -> None:
    assert split([b"one\ntw", b"o"]) == [b"one", b"two"]


def test_only_the_beginning_of_a_dropped_line_is_kept() -> None:
    (line,) = split([b"x" * 5000 + b"\n"], limit_bytes=100)
    assert isinstance(line, DroppedLine)
    assert line.size_bytes == 5000
    assert len(line.head) == 200


@given(st.lists(st.binary(max_size=30)))
def test_the_tail_is_the_end_of_everything(chunks: list[bytes]) -> None:
    tail = Tail(limit_bytes=25)
    for chunk in chunks:
        tail.feed(chunk)
    assert tail.text() == b"".join(chunks)[-25:].decode("utf-8", "replace")

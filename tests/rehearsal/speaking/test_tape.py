"""Pace as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.rehearsal.scenario import Pace
from dragoman.rehearsal.speaking.tape import Tape, identifier


def test_a_text_is_spoken_in_chunks_with_the_silence_its_length_takes():
    tape = Tape(Pace(tokens_per_s=10, chunk_tokens=2))
    tape.put(b"head")
    for piece in tape.spoken("a" * 8 + "b" * 8 + "c" * 4):
        tape.put(piece.encode())
    tape.put(b"tail")
    waits = [(frame.wait_s, frame.data) for frame in tape.frames]
    assert waits == [
        (0.0, b"head"),
        (pytest.approx(0.2), b"a" * 8),
        (pytest.approx(0.2), b"b" * 8),
        (pytest.approx(0.1), b"cccctail"),
    ]


def test_without_a_speed_every_chunk_is_still_a_write_of_its_own():
    tape = Tape(Pace(chunk_tokens=1))
    for piece in tape.spoken("abcdefgh"):
        tape.put(piece.encode())
    assert [(frame.wait_s, frame.data) for frame in tape.frames] == [(0.0, b"abcd"), (0.0, b"efgh")]


def test_pauses_add_up():
    tape = Tape(Pace(tokens_per_s=1, chunk_tokens=1))
    tape.put(b"a")
    tape.pause(2)
    for piece in tape.spoken("abcd"):
        tape.put(piece.encode())
    assert [frame.wait_s for frame in tape.frames] == [0.0, 3.0]


@given(text=st.text(), chunk=st.integers(1, 9), speed=st.floats(0, 1000))
def test_speaking_loses_nothing(text: str, chunk: int, speed: float):
    tape = Tape(Pace(tokens_per_s=speed, chunk_tokens=chunk))
    assert "".join(tape.spoken(text)) == text


def test_ids_depend_on_their_seeds_alone():
    assert identifier("msg_", "a", 1) == identifier("msg_", "a", 1)
    assert identifier("msg_", "a", 1) != identifier("msg_", "a", 2)
    assert identifier("msg_", "a", 1).startswith("msg_")

"""Framing rules of server-sent events (WHATWG, and what the three protocols make of them)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.wire import sse


def read(*chunks: bytes) -> list[bytes]:
    reader = sse.SseReader()
    return [payload for chunk in chunks for payload in reader.feed(chunk)] + reader.eof()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_ends_at_a_blank_line_whatever_the_line_ending(end: bytes) -> None:
    assert read(b"data: a" + end + end + b"data: b" + end + end) == [b"a", b"b"]


def test_a_missing_blank_after_the_colon_costs_nothing() -> None:
    assert read(b"data:{}\n\ndata: {}\n\ndata:  {}\n\n") == [b"{}", b"{}", b" {}"]


def test_several_data_lines_are_joined() -> None:
    assert read(b"data: {\ndata: }\n\n") == [b"{\n}"]


def test_comments_event_lines_and_a_byte_order_mark_are_skipped() -> None:
    stream = b"\xef\xbb\xbf: open\r\n\r\nevent: x\r\nid: 1\r\nretry: 5\r\ndata:1\r\n\r\n: ping\n\n"
    assert read(stream) == [b"1"]
    assert read(*[bytes([byte]) for byte in stream]) == [b"1"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c"])
def test_other_separators_do_not_end_a_line(separator: str) -> None:
    payload = f'{{"t":"a{separator}b"}}'.encode()
    assert read(b"data: " + payload + b"\n\n") == [payload]


def test_fields_that_only_start_like_data_are_ignored() -> None:
    assert read(b"database: 1\ndata\n\n") == [b""]


def test_a_last_event_without_its_blank_line_is_delivered_at_the_end() -> None:
    assert read(b"data: 1\n\ndata: [DONE]") == [b"1", b"[DONE]"]


def test_an_endless_event_is_refused() -> None:
    reader = sse.SseReader(max_frame_bytes=100)
    reader.feed(b"data: 0123456789" * 6)
    with pytest.raises(sse.FrameTooLarge):
        reader.feed(b"0123456789")


def test_done_is_recognised_with_blanks_around_it() -> None:
    assert sse.is_done(b" [DONE] ")
    assert not sse.is_done(b'{"t":"[DONE]"}')


def test_separators_are_escaped_on_the_way_out() -> None:
    assert sse.escape_separators('"a\u2028b\u2029c\u0085d\u2030é"'.encode()) == (
        '"a\\u2028b\\u2029c\\u0085d\u2030é"'.encode()
    )


def test_a_written_event_is_read_back() -> None:
    assert sse.frame(b"message_stop", b"{}") == b"event: message_stop\ndata: {}\n\n"
    assert read(sse.frame(b"x", b"1") + sse.data_frame(b"2")) == [b"1", b"2"]


line = st.sampled_from(
    [b"data: a", b"data:b", b"data", b": c", b"event: e", b"", b"data: \xe2\x80\xa8", b"junk"]
)
ending = st.sampled_from([b"\n", b"\r", b"\r\n"])


@settings(max_examples=120, deadline=None)
@given(lines=st.lists(st.tuples(line, ending), max_size=12), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_chunking_gives_the_same_events(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(text + end for text, end in lines)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    assert read(*chunks) == read(stream) == read(*[bytes([byte]) for byte in stream])

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.gateway.legs import PassThrough, failure_frame
from dragoman.wire.errors import failure
from dragoman.wire.meter import UsageMeter
from dragoman.wire.splice import ModelRewriter
from dragoman.wire.turns import Wire


def leg(wire: Wire, asked: str | None = None) -> PassThrough:
    return PassThrough(wire, UsageMeter(wire), ModelRewriter(wire, asked) if asked else None)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


SHARED_KIT = [HealthCheck.function_scoped_fixture]


@settings(max_examples=60, deadline=None, suppress_health_check=SHARED_KIT)
@given(places=st.lists(st.integers(0, 10_000), max_size=20), crlf=st.booleans())
def test_any_cut_of_a_stream_passes_unchanged_and_in_whole_frames(
    kit: Any, places: list[int], crlf: bool
) -> None:
    stream = kit.messages_stream("Hel", "lo \u2028 wörld")
    if crlf:
        stream = stream.replace(b"\n", b"\r\n")
    passing = leg("messages")
    sent = [passing.feed(piece) for piece in cut(stream, places)]
    for piece in sent:
        assert piece == b"" or piece.endswith((b"\n\n", b"\r\n\r\n"))
    assert b"".join(sent) + passing.eof() == stream
    assert passing.finished
    assert passing.content
    assert passing.usage is not None
    assert passing.usage.output_tokens == 7


@settings(max_examples=30, deadline=None, suppress_health_check=SHARED_KIT)
@given(places=st.lists(st.integers(0, 10_000), max_size=20))
def test_only_the_models_name_is_changed(kit: Any, places: list[int]) -> None:
    stream = kit.messages_stream("m-up is my name")
    passing = leg("messages", "asked")
    sent = b"".join(passing.feed(piece) for piece in cut(stream, places)) + passing.eof()
    assert sent == stream.replace(b'"model":"m-up"', b'"model":"asked"')


@pytest.mark.parametrize("wire", ["messages", "chat", "responses"])
def test_a_cut_never_leaves_half_a_frame_behind(kit: Any, wire: Wire) -> None:
    stream = kit.messages_stream("ok") if wire == "messages" else kit.chat_stream("ok")
    if wire == "responses":
        stream = kit.sse(
            {"type": "response.created", "response": {"id": "r", "model": "m"}},
            {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "delta": "ok"},
            {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "delta": "more"},
        )
    half = stream[: stream.index(b'"ok"') + 2]
    half = stream[: stream.index(b"\n\n", len(half)) + 2] + b'data: {"type":"half'
    passing = leg(wire)
    sent = passing.feed(half) + passing.eof()
    assert b"half" not in sent
    last = json.loads(sent.strip().split(b"data: ")[-1])
    assert "error" in last or last["type"] == "response.failed"
    assert passing.failure is not None
    assert passing.failure.retryable


@pytest.mark.parametrize("spaced", [False, True])
def test_content_is_seen_however_its_json_is_spaced(kit: Any, spaced: bool) -> None:
    passing = leg("chat")
    separators = (", ", ": ") if spaced else (",", ":")

    def frame(value: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps(value, separators=separators).encode() + b"\n\n"

    passing.feed(frame(kit.chat_chunk({"role": "assistant", "content": ""})))
    assert not passing.content
    passing.feed(frame(kit.chat_chunk({"content": "x"})))
    assert passing.content


def test_an_error_before_any_content_is_held_back_for_another_to_be_asked(kit: Any) -> None:
    passing = leg("chat")
    assert passing.feed(kit.sse({"error": {"message": "no", "type": "x"}}, named=False)) == b""
    assert passing.failure is not None
    assert not passing.content


BROKEN: dict[str, tuple[Wire, bytes]] = {
    "chat": ("chat", b"data: not json at all\n\n"),
    "messages": ("messages", b"event: x\ndata: not json at all\n\n"),
    "responses": ("responses", b"data: {not json\n\n"),
    "responses, crlf": ("responses", b"data: {not json\r\n\r\n"),
    "responses, overlooked": (
        "responses",
        b'event: error\ndata: {"type":"error","code":"server_error","message":"no"}\n\n',
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("apart", [False, True])
def test_what_breaks_a_stream_is_told_as_one_failure(kit: Any, name: str, apart: bool) -> None:
    wire, broken = BROKEN[name]
    sound = kit.sse(kit.chat_chunk({"content": "x"}), named=False)
    if wire == "messages":
        sound = kit.messages_stream("x").split(b"event: content_block_stop")[0]
    if wire == "responses":
        sound = kit.sse({"type": "response.output_text.delta", "output_index": 0, "delta": "x"})
    passing = leg(wire)
    sent = b"".join(passing.feed(piece) for piece in ([sound, broken] if apart else [sound + broken]))
    sent += passing.feed(b"data: more\n\n") + passing.eof()
    assert passing.finished
    assert passing.failure is not None
    assert sent == sound + failure_frame(wire, passing.failure)


@pytest.mark.parametrize("wire", ["messages", "chat", "responses"])
def test_a_providers_own_failure_passes_as_it_is(kit: Any, wire: Wire) -> None:
    sound = kit.sse(kit.chat_chunk({"content": "x"}), named=False)
    error: dict[str, Any] = {"error": {"message": "no", "type": "server_error"}}
    if wire == "messages":
        sound = kit.messages_stream("x").split(b"event: content_block_stop")[0]
        error = {"type": "error", **error}
    if wire == "responses":
        sound = kit.sse({"type": "response.output_text.delta", "output_index": 0, "delta": "x"})
        error = {"type": "response.failed", "response": {"id": "r", "status": "failed", **error}}
    told = kit.sse(error, named=wire != "chat")
    passing = leg(wire)
    assert passing.feed(sound + told + b"data: more\n\n") + passing.eof() == sound + told


def test_a_frame_without_end_is_passed_on_at_last_instead_of_filling_memory() -> None:
    passing = leg("chat")
    out = b"".join(passing.feed(b"x" * 100_000) for _ in range(12))
    assert len(out) > 1_000_000


def test_signs_of_life_are_what_each_client_takes_for_one() -> None:
    assert leg("chat").keep_alive().startswith(b":")
    for wire in ("messages", "responses"):
        assert json.loads(leg(wire).keep_alive().split(b"data: ")[1]) == {"type": "ping"}


def test_a_failure_frame_speaks_its_wire() -> None:
    found = failure("truncated", "gone")
    assert b"event: error" in failure_frame("messages", found)
    assert b"event: response.failed" in failure_frame("responses", found)
    assert failure_frame("chat", found).startswith(b'data: {"error"')

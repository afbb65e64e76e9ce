"""Reasoning wrapped for a foreign client comes back exactly, or not at all."""

from __future__ import annotations

import base64
import zlib

from hypothesis import given
from hypothesis import strategies as st

from dragoman.wire import envelope
from dragoman.wire.turns import Carrier, Reasoning, raw

carrier = st.builds(
    Carrier,
    kind=st.sampled_from(["signature", "redacted", "encrypted", "reasoning_content"]),
    data=st.text(),
    realm=st.none() | st.text(max_size=10),
    model=st.none() | st.text(max_size=10),
    item_id=st.none() | st.text(max_size=10),
)


@given(text=st.text(), carriers=st.lists(carrier, max_size=3).map(tuple))
def test_a_thought_survives_the_round_trip_unchanged(text: str, carriers: tuple[Carrier, ...]) -> None:
    wrapped = envelope.wrap(raw(text), carriers)
    assert wrapped.isascii()
    assert envelope.unwrap(wrapped) == Reasoning(text=raw(text), carriers=carriers)


def test_the_spelling_of_escapes_is_kept() -> None:
    found = envelope.unwrap(envelope.wrap(rb"a\u00e9\/\n\ud83d\ude00", ()))
    assert found is not None
    assert found.text == rb"a\u00e9\/\n\ud83d\ude00"


def test_a_foreign_blob_is_not_an_envelope() -> None:
    for blob in ("", "gAAAAABk", "ErUB-real", "gw1", "gw1.", "gw1.!!!", "gw1.AAAA", "gw1.ü"):
        assert envelope.unwrap(blob) is None


@given(cut=st.integers(0, 200), letter=st.sampled_from("AZaz09-_"))
def test_a_changed_or_cut_envelope_is_refused_or_unchanged(cut: int, letter: str) -> None:
    whole = envelope.wrap(raw("one two three"), (Carrier(kind="signature", data="SIG", realm="here"),))
    at = len(envelope.PREFIX) + cut % (len(whole) - len(envelope.PREFIX))
    assert envelope.unwrap(whole[:at]) is None
    assert envelope.unwrap(whole[:at] + letter + whole[at + 1 :]) in (None, envelope.unwrap(whole))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(b'{"h":"x","c":[],"t":"' + b"a" * (envelope.MAX_UNWRAPPED_BYTES + 100) + b'"}', 9)
    assert len(bomb) < 100_000
    assert envelope.unwrap(envelope.PREFIX + base64.urlsafe_b64encode(bomb).decode()) is None


def test_a_body_of_the_wrong_shape_is_refused() -> None:
    for body in (b'{"h":"x","c":[],"t":5}', b"[]", b"{}", b'{"h":"x","c":[{"k":"other"}]}'):
        packed = base64.urlsafe_b64encode(zlib.compress(body)).decode()
        assert envelope.unwrap(envelope.PREFIX + packed) is None

"""Call ids every reader accepts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.wire.ids import original_id, safe_id, strict_id

PLAIN = re.compile(r"[A-Za-z0-9_-]+")


@pytest.mark.parametrize("call_id", ["call_1", "toolu_01Ab-c", "c"])
def test_a_plain_id_is_left_alone(call_id: str) -> None:
    assert safe_id(call_id) == strict_id(call_id) == original_id(call_id) == call_id


@given(st.text(min_size=1, max_size=80))
def test_any_id_becomes_plain_and_comes_back(call_id: str) -> None:
    assert PLAIN.fullmatch(safe_id(call_id))
    assert original_id(safe_id(call_id)) == call_id


def test_ids_that_look_alike_stay_apart() -> None:
    assert safe_id("a.b") != safe_id("a:b")


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_strict_ids_are_short_and_differ(one: str, other: str) -> None:
    assert PLAIN.fullmatch(strict_id(one))
    assert len(strict_id(one)) <= 64
    assert (strict_id(one) == strict_id(other)) == (one == other)


def test_an_id_that_only_looks_wrapped_is_kept() -> None:
    assert original_id("dgm_!!!") == "dgm_!!!"

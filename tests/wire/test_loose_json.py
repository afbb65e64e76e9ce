"""Almost-JSON that real clients and upstreams send."""

from __future__ import annotations

import msgspec
import pytest

from dragoman.wire.loose_json import mend_json


@pytest.mark.parametrize(
    ("broken", "value"),
    [
        (rb'{"a":"x\ud83d"}', {"a": "x\ufffd"}),
        (rb'{"a":"\ud83d\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":"x\x0by\n"}', {"a": "x\x0by\n"}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"b":1.0,"a":12345678901234567890}', {"b": 1.0, "a": 12345678901234567890}),
    ],
)
def test_almost_json_becomes_strict_json(broken: bytes, value: object) -> None:
    mended = mend_json(broken)
    assert mended is not None
    assert msgspec.json.decode(mended) == value


@pytest.mark.parametrize("hopeless", [b"", b"{", b'{"a":NaN}', b"[" * 100_000, b"<html>"])
def test_what_is_not_json_stays_refused(hopeless: bytes) -> None:
    assert mend_json(hopeless) is None

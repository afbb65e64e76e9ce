"""Codex's metadata is for its own vendor only, and leaves the rest of the body as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dragoman.wire.responses.private_fields import without_private_fields


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'{"model":"m","client_metadata":{"a":"}"},"z":1.0}', b'{"model":"m","z":1.0}'),
        (b'{"client_metadata":{},"model":"m"}', b'{"model":"m"}'),
        (b'{"model":"m" , "client_metadata" : null }', b'{"model":"m"  }'),
        (b'{"client_metadata":5}', b"{}"),
        (b'{"a":{"client_metadata":{}},"client_metadata":{}}', b'{"a":{"client_metadata":{}}}'),
        (b'{"a":"\\"client_metadata\\":{}"}', b'{"a":"\\"client_metadata\\":{}"}'),
        (b'{"a":{"client_metadata":{}}}', b'{"a":{"client_metadata":{}}}'),
        (b'{ "input" : "client_metadata" }', b'{ "input" : "client_metadata" }'),
    ],
)
def test_only_the_top_level_member_goes(body: bytes, left: bytes) -> None:
    assert without_private_fields(body) == left


@pytest.mark.parametrize("odd", [b"\\ud83d", b"a\nb", b"\xff"])
def test_a_body_no_strict_reader_takes_loses_it_too(odd: bytes) -> None:
    left = without_private_fields(b'{"input":"' + odd + b'","client_metadata":{"cwd":"/home/u"},"z":1}')
    assert b"/home/u" not in left
    assert set(json.loads(left.decode("utf-8", "replace"))) == {"input", "z"}


def test_a_recorded_request_loses_its_folder_and_nothing_else(
    recorded: Callable[[str], list[dict[str, Any]]],
) -> None:
    for sent in recorded("task"):
        body = json.dumps(sent).encode()
        left = without_private_fields(body)
        assert json.loads(left) == {key: value for key, value in sent.items() if key != "client_metadata"}
        assert b"git_commit" in body
        assert b"git_commit" not in left
        same = next(i for i, (a, b) in enumerate(zip(body, left, strict=False)) if a != b)
        assert body.endswith(left[same:])

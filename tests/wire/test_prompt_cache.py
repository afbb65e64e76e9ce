"""Recorded conversations, turn after turn: what went upstream before must come again byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.turns import Wire

DIALECTS: dict[str, Dialect] = {
    "plain": Dialect(),
    "thinking": Dialect(
        realm="d", reasoning_replay="always", reasoning_required=True, thinking_key="thinking"
    ),
    "native": Dialect(realm="a", late_system=True, unsigned_thinking=True, reasoning_replay="always"),
}


@pytest.mark.parametrize("version", ["197", "329"])
@pytest.mark.parametrize("wire", ["chat", "messages", "responses"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_request_of_a_claude_conversation_continues_the_last(
    version: str, wire: Wire, dialect: str, claude_request: Callable[[str], dict[str, Any]]
) -> None:
    bodies: list[bytes] = []
    for number in (1, 2, 3, 4):
        recorded = claude_request(f"{version}_task_{number}")
        # The client moves its cache mark along and changes its billing line; neither goes to this upstream.
        request = translate.decode_request("messages", json.dumps(without_marks(recorded)).encode())
        encoded = translate.encode_request(wire, request, model="up", dialect=DIALECTS[dialect], stream=True)
        bodies.append(encoded.body)
    for one, other in pairwise(bodies):
        prefix = open_end(one)
        assert len(prefix) > 0.6 * len(one)
        assert other.startswith(prefix)


def open_end(body: bytes) -> bytes:
    """A body without what closes its list of messages (and the content of the last one)."""
    return body.rstrip(b'"}]')


def without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_marks(inner) for key, inner in value.items() if key != "cache_control"}
    return [without_marks(inner) for inner in value] if isinstance(value, list) else value


def test_the_noise_of_a_client_build_never_reaches_a_foreign_upstream(
    claude_request: Callable[[str], dict[str, Any]],
) -> None:
    request = translate.decode_request("messages", json.dumps(claude_request("329_task_1")).encode())
    for wire in ("chat", "responses"):
        encoded = translate.encode_request(wire, request, model="up", dialect=Dialect(), stream=True)
        assert b"x-anthropic-billing-header" not in encoded.body
        assert b"cache_control" not in encoded.body

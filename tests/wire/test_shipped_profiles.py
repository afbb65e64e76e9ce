"""What must hold for every profile that is shipped, on every wire and for every family of its models."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from checkers import check_chat_request, check_messages_request
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from responses_checker import check_responses_request
from strategies import broken_conversations
from test_fuzz import SOUND, damaged, run_stream

from dragoman.catalog.profiles import load_profile, make_dialect, profile_names
from dragoman.wire import envelope, translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.turns import Carrier, Request, User, Wire

CODEX = Path(__file__).parents[1] / "fixtures" / "wire" / "codex"
WIRES: tuple[Wire, ...] = ("chat", "messages", "responses")


def models_of(name: str) -> list[str]:
    """A name no family has, and one of each family."""
    families = load_profile(name).families
    return ["m", *(family.models[0].replace("*", "x") for family in families)]


ROUTES: list[tuple[str, Wire, str]] = [
    (name, wire, model) for name in profile_names() for wire in WIRES for model in models_of(name)
]


def dialect_of(name: str, wire: Wire, model: str) -> Dialect:
    return make_dialect(load_profile(name), wire, model, realm=f"provider:{name}")


@given(request=broken_conversations(), route=st.sampled_from(ROUTES))
@settings(max_examples=60, deadline=None)
def test_any_conversation_becomes_a_legal_request_for_every_profile(
    request: Request, route: tuple[str, Wire, str]
) -> None:
    name, wire, model = route
    dialect = dialect_of(name, wire, model)
    # Some take a conversation in which nobody has said anything yet; the judges do not.
    assume(dialect.user_turn_required or any(isinstance(t, User) and t.parts for t in request.turns))
    sent = translate.encode_request(wire, request, model=model, dialect=dialect, stream=True)
    body = json.loads(sent.body)
    match wire:
        case "chat":
            check_chat_request(body, late_system=dialect.late_system)
        case "messages":
            check_messages_request(body, late_system=dialect.late_system)
        case "responses":
            check_responses_request(body)


def sealed(body: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    """A recorded request of Codex as it would be had this very provider thought before its first words."""
    carrier = Carrier(kind="signature", data="c2ln", realm=dialect.realm)
    thought = {
        "type": "reasoning",
        "summary": [],
        "encrypted_content": envelope.wrap(b"hm", (carrier,)),
    }
    items = [item for item in body["input"] if item["type"] != "reasoning"]
    said = [
        i for i, item in enumerate(items) if item["type"].endswith("_call") or item.get("role") == "assistant"
    ]
    if said:
        items.insert(said[0], thought)
    return {**body, "input": items, "reasoning": {"effort": "high", "summary": "auto"}}


@pytest.mark.parametrize("conversation", ["task", "reasoning", "view_image"])
@pytest.mark.parametrize(("name", "wire", "model"), ROUTES)
def test_each_request_of_a_codex_conversation_continues_the_last(
    name: str, wire: Wire, model: str, conversation: str
) -> None:
    dialect = dialect_of(name, wire, model)
    bodies: list[bytes] = []
    for recorded in json.loads((CODEX / f"{conversation}.json").read_text(encoding="utf-8")):
        request = translate.decode_request("responses", json.dumps(sealed(recorded, dialect)).encode())
        sent = translate.encode_request(wire, request, model=model, dialect=dialect, stream=True)
        bodies.append(sent.body)
    for one, other in pairwise(bodies):
        assert other.startswith(one.rstrip(b'"}]'))


@pytest.mark.parametrize(("name", "model"), [("qwen", "m"), ("openrouter", "m")])
def test_a_codex_conversation_without_a_thought_continues_where_any_history_is_taken(
    name: str, model: str
) -> None:
    dialect = dialect_of(name, "messages", model)
    bodies: list[bytes] = []
    for recorded in json.loads((CODEX / "view_image.json").read_text(encoding="utf-8")):
        recorded["reasoning"] = {"effort": "high"}
        request = translate.decode_request("responses", json.dumps(recorded).encode())
        sent = translate.encode_request("messages", request, model=model, dialect=dialect, stream=True)
        assert b'"thinking":{"type":"enabled"' in sent.body
        bodies.append(sent.body)
    for one, other in pairwise(bodies):
        assert other.startswith(one.rstrip(b'"}]'))


@pytest.mark.parametrize("version", ["197", "329"])
@pytest.mark.parametrize(("name", "wire", "model"), ROUTES)
def test_each_request_of_a_claude_conversation_continues_the_last(
    name: str, wire: Wire, model: str, version: str, claude_request: Callable[[str], dict[str, Any]]
) -> None:
    dialect = dialect_of(name, wire, model)
    bodies: list[bytes] = []
    for number in (1, 2, 3, 4):
        recorded = unmarked(claude_request(f"{version}_task_{number}"))
        recorded["system"] = recorded["system"][1:]  # the billing line, which only its vendor gets
        request = translate.decode_request("messages", json.dumps(recorded).encode())
        sent = translate.encode_request(wire, request, model=model, dialect=dialect, stream=True)
        bodies.append(sent.body)
    for one, other in pairwise(bodies):
        assert other.startswith(one.rstrip(b'"}]'))


def unmarked(value: Any) -> Any:
    """Without the cache marks, which the client moves along."""
    if isinstance(value, dict):
        return {key: unmarked(inner) for key, inner in value.items() if key != "cache_control"}
    return [unmarked(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("name", "wire", "model"), ROUTES)
def test_damaged_streams_raise_nothing_with_any_profile(name: str, wire: Wire, model: str) -> None:
    rng = random.Random(f"{name} {wire} {model}")
    for _ in range(25):
        stream = damaged(SOUND[wire], rng)
        run_stream(wire, stream, rng, dialect=dialect_of(name, wire, model))

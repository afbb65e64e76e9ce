"""Codex's requests to a Responses upstream that is not its own vendor."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dragoman.wire import envelope
from dragoman.wire.dialect import Dialect
from dragoman.wire.translate import EncodedRequest, forward_request

THIRD = Dialect(realm="provider:p")
CHECKED = Dialect(realm="provider:p", checked=True, freeform_tools=True, namespace_tools=True)
VENDOR = Dialect(
    realm="openai",
    freeform_tools=True,
    namespace_tools=True,
    additional_tools=True,
    compaction_items=True,
    keeps_client_metadata=True,
)
TRIGGER = {"type": "compaction_trigger"}


def forward(body: object, dialect: Dialect) -> EncodedRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return forward_request("responses", raw, model="up", dialect=dialect)


def asked(*items: object, **fields: object) -> dict[str, Any]:
    hello = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    return {"model": "m", "stream": True, "input": [hello, *items], **fields}


def test_only_codexs_own_vendor_sees_where_the_user_works(
    recorded: Callable[[str], list[dict[str, Any]]],
) -> None:
    for sent in recorded("task"):
        private = sent["client_metadata"]
        for dialect in (THIRD, CHECKED):
            found = forward(sent, dialect)
            assert "client_metadata" not in json.loads(found.body)
            assert b"git_commit" not in found.body
            assert "client metadata left out" in found.shims
        kept = forward(sent, VENDOR)
        assert json.loads(kept.body)["client_metadata"] == private
        assert kept.shims == ()


def test_what_is_left_of_a_request_keeps_its_bytes() -> None:
    body = b'{ "model":"m", "client_metadata" : {"cwd":"/home/u"}, "x":1.50,"input":"\\u00e9"}'
    assert forward(body, THIRD).body == b'{ "model":"up", "x":1.50,"input":"\\u00e9"}'


@pytest.mark.parametrize("dialect", [THIRD, CHECKED])
def test_a_compaction_trigger_becomes_words_and_its_answer_is_read(dialect: Dialect) -> None:
    found = forward(asked(TRIGGER), dialect)
    assert b"compaction_trigger" not in found.body
    assert b"handover" in found.body
    assert found.foreign_answer


def test_the_vendor_gets_the_trigger_as_it_came() -> None:
    body = json.dumps(asked(TRIGGER)).encode()
    found = forward(body, VENDOR)
    assert found.body == body.replace(b'"m"', b'"up"')
    assert not found.foreign_answer


@pytest.mark.parametrize("dialect", [THIRD, CHECKED, VENDOR])
@pytest.mark.parametrize("kind", ["compaction", "compaction_summary"])
def test_a_summary_of_ours_is_words_to_everybody(dialect: Dialect, kind: str) -> None:
    item = {"type": kind, "encrypted_content": envelope.wrap(b"they built a bridge", ())}
    found = forward(asked(item), dialect)
    assert b"they built a bridge" in found.body
    assert b"gw1." not in found.body
    assert not found.foreign_answer


def test_a_user_who_writes_of_compaction_changes_nothing() -> None:
    body = json.dumps(asked(instructions='say "compaction_trigger" and "gw1."')).encode()
    assert forward(body, THIRD).body == body.replace(b'"m"', b'"up"')

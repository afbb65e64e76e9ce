"""Deferred tools of Claude Code, towards upstreams that know no tool search."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dragoman.wire.dialect import Dialect
from dragoman.wire.messages.decode_request import decode
from dragoman.wire.translate import encode_request
from dragoman.wire.turns import Wire


def body(*found: str) -> bytes:
    """A conversation in which a tool search has found these."""
    schema = {"type": "object", "properties": {}}
    tools: list[dict[str, Any]] = [
        {"name": "ToolSearch", "input_schema": schema},
        {"name": "WebFetch", "input_schema": schema, "defer_loading": True},
        {"name": "Other", "input_schema": schema, "defer_loading": True},
    ]
    references = [{"type": "tool_reference", "tool_name": name} for name in found]
    messages: list[dict[str, Any]] = [{"role": "user", "content": 'Say "tool_name": "Other".'}]
    if found:
        call = {"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {"query": "select:WebFetch"}}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": references}
        messages += [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    return json.dumps({"model": "m", "max_tokens": 9, "tools": tools, "messages": messages}).encode()


def offered(wire: Wire, raw: bytes) -> list[str]:
    found = encode_request(wire, decode(raw), model="m", dialect=Dialect(), stream=True)
    return [entry.upstream_name for entry in found.tools.entries]


@pytest.mark.parametrize("wire", ["chat", "messages", "responses"])
def test_a_deferred_tool_is_offered_once_it_was_found(wire: Wire) -> None:
    assert offered(wire, body()) == ["ToolSearch"]
    assert offered(wire, body("WebFetch")) == ["ToolSearch", "WebFetch"]
    assert offered(wire, body("WebFetch", "Other")) == ["ToolSearch", "WebFetch", "Other"]

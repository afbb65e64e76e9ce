"""Tool schemas for strict upstreams."""

from __future__ import annotations

import json

import pytest

from dragoman.wire.schemas import object_schema


def test_a_sound_schema_keeps_its_bytes() -> None:
    spelled = b'{ "type":"object", "properties":{"n":{"maximum":9007199254740991.0}} }'
    assert object_schema(spelled) == spelled


@pytest.mark.parametrize("schema", [None, b"{", b"[1]", b"true"])
def test_no_schema_becomes_an_empty_object(schema: bytes | None) -> None:
    assert json.loads(object_schema(schema)) == {"type": "object", "properties": {}}


def test_a_schema_without_properties_gets_empty_ones() -> None:
    assert json.loads(object_schema(b'{"type":"object"}')) == {"type": "object", "properties": {}}


def test_unions_at_the_root_are_merged_where_they_are_refused() -> None:
    union = {
        "anyOf": [
            {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
            {"type": "object", "properties": {"a": {"x": 1}, "c": {}}, "required": ["a"]},
        ]
    }
    merged = json.loads(object_schema(json.dumps(union).encode(), open_root=False))
    assert merged == {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "required": ["a"]}


def test_everything_an_all_of_requires_is_required() -> None:
    union = {"allOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {}, "b": {}}}
    merged = json.loads(object_schema(json.dumps(union).encode(), open_root=False))
    assert merged["required"] == ["a", "b"]


def test_unions_deeper_down_stay() -> None:
    deep = b'{"type":"object","properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}]}}}'
    assert json.loads(object_schema(deep, open_root=False)) == json.loads(deep)

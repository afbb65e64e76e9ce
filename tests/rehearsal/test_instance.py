"""The smallest value that fits a schema."""

from __future__ import annotations

from typing import Any

import pytest

from dragoman.rehearsal.instance import instance_of


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": ["string", "null"]}, "text"),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "number"}, 0),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"enum": ["low", "high"]}, "low"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 0),
        ({"type": "array", "items": {"type": "string"}}, []),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["text", "text"]),
        (
            {
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"type": "string"}},
                "required": ["a"],
                "$defs": {"A": {"type": "object", "properties": {"x": {"type": "string"}}}},
            },
            {"a": {"x": "text"}},
        ),
        ({"$ref": "#/$defs/Self", "$defs": {"Self": {"$ref": "#/$defs/Self"}}}, None),
        ({}, {}),
    ],
)
def test_a_value_fits_its_schema(schema: dict[str, Any], value: Any):
    assert instance_of(schema, "text") == value

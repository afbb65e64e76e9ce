"""Tool schemas as strict upstreams want them; a schema that is fine already is passed as it was spelled."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from dragoman.wire.turns import RawJson

EMPTY_SCHEMA = b'{"type":"object","properties":{}}'
_UNIONS = ("anyOf", "oneOf", "allOf")

FREEFORM_SCHEMA = (
    b'{"type":"object","properties":{"input":{"type":"string",'
    b'"description":"The whole input of the tool, exactly as the tool wants it."}},"required":["input"]}'
)


def object_schema(schema: RawJson | None, *, open_root: bool = True) -> RawJson:
    """A JSON schema of an object with `properties`.

    Args:
        schema: as the client spelled it; None gives an empty object.
        open_root: whether `anyOf`, `oneOf`, `allOf` may stand at the root; if not, their branches'
            properties are merged into it (the Messages protocol refuses them).
    """
    if schema is None:
        return EMPTY_SCHEMA
    has_properties = b'"properties"' in schema
    has_union = not open_root and any(f'"{word}"'.encode() in schema for word in _UNIONS)
    if has_properties and not has_union and b'"type"' in schema:
        return schema
    try:
        root: Any = msgspec.json.decode(schema)
    except msgspec.DecodeError:
        return EMPTY_SCHEMA
    if not isinstance(root, dict):
        return EMPTY_SCHEMA
    fields = cast("dict[str, Any]", root)
    changed = _merge_unions(fields) if has_union else False
    if fields.get("type") != "object":
        fields["type"] = "object"
        changed = True
    if not isinstance(fields.get("properties"), dict):
        fields["properties"] = {}
        changed = True
    return msgspec.json.encode(fields) if changed else schema


def _merge_unions(root: dict[str, Any]) -> bool:
    changed = False
    for word in _UNIONS:
        branches = root.pop(word, None)
        if not isinstance(branches, list):
            continue
        changed = True
        found = [cast("dict[str, Any]", b) for b in cast("list[Any]", branches) if isinstance(b, dict)]
        properties: dict[str, Any] = dict(root.get("properties") or {})
        for branch in found:
            for name, value in dict(branch.get("properties") or {}).items():
                properties.setdefault(name, value)
        root["properties"] = properties
        required: set[str] = set(root.get("required") or ())
        needed: list[set[str]] = [set(branch.get("required") or ()) for branch in found]
        if needed:
            required |= set[str]().union(*needed) if word == "allOf" else set[str].intersection(*needed)
        if required:
            root["required"] = sorted(required)
    return changed

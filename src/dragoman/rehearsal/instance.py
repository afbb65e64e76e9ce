"""The smallest value that fits a JSON schema: answers side calls that want structure, such as a title."""

from __future__ import annotations

from typing import Any


def instance_of(schema: dict[str, Any], text: str) -> Any:
    """Build a value for the common parts of JSON Schema.

    Args:
        schema: `$ref` into its own `$defs` is followed; what is not understood is left out.
        text: what strings hold.
    """
    return _build(schema, text, schema, depth=0)


def _build(schema: Any, text: str, root: dict[str, Any], *, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > 20:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        target: Any = root
        for part in reference.removeprefix("#/").split("/"):
            target = target.get(part) if isinstance(target, dict) else None
        return _build(target, text, root, depth=depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _build(schema[key][0], text, root, depth=depth + 1)
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "string":
            return text[: schema.get("maxLength", len(text))]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "array":
            item = _build(schema.get("items", {}), text, root, depth=depth + 1)
            return [item] * schema.get("minItems", 0)
        case "null":
            return None
        case _:
            properties = schema.get("properties") or {}
            wanted = schema.get("required", list(properties))
            return {name: _build(properties.get(name), text, root, depth=depth + 1) for name in wanted}

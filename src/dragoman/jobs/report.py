"""The worker's report: the form asked for by role, and what is read when the form is missing.

A model that cannot call tools answers in words although a form was asked for, and a form that comes may
break the schema; then the words are read instead. A report is a claim, whatever form it has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from dragoman.jobs.claims import ClaimedCommand, Claims, Outcome, read_claims

Kind = Literal["query", "review", "implement"]
Source = Literal["structured", "json_in_text", "text"]

_TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
_FENCED = re.compile(r"```(?:json)?\s*\n(\{.*?\})\s*```", re.DOTALL)


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


# The forms leads know from codex-claude-delegate 0.1.
SCHEMAS: dict[Kind, dict[str, Any]] = {
    "query": _object(("answer",), answer={"type": "string"}),
    "review": _object(
        ("findings", "severity"),
        findings=_TEXTS,
        recommendations=_TEXTS,
        severity={"enum": ["critical", "high", "medium", "low", "none"]},
    ),
    "implement": _object(
        ("status", "summary", "changed_files"),
        status={"enum": ["success", "partial", "failed", "needs_user"]},
        summary={"type": "string"},
        changed_files=_TEXTS,
        commands_run=_TEXTS,
        tests=_object(
            ("ran",),
            ran={"type": "boolean"},
            command={"type": "string"},
            passed={"type": "boolean"},
            output_tail={"type": "string"},
        ),
        risks=_TEXTS,
        next_steps=_TEXTS,
    ),
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker reports.

    Attributes:
        source: where the fields were read: from the form asked for, from JSON in its words, or there is none.
        fields: by the role's schema; None when there is only text.
        claims: what it states of files and commands.
    """

    source: Source
    fields: dict[str, Any] | None
    claims: Claims


def read_report(kind: Kind, text: str, structured: object) -> Report:
    """Read a report.

    Parameters:
        kind: the worker's role.
        text: its final words.
        structured: the answer in the form asked for, as the client hands it on, or None.
    """
    if (fields := _fitting(kind, structured)) is not None:
        return Report(source="structured", fields=fields, claims=_claims(fields, text))
    for candidate in (text, *_FENCED.findall(text)):
        if candidate.lstrip().startswith("{") and (fields := _fitting(kind, _decoded(candidate))) is not None:
            return Report(source="json_in_text", fields=fields, claims=_claims(fields, text))
    return Report(source="text", fields=None, claims=read_claims(text))


def _decoded(text: str) -> object:
    try:
        return msgspec.json.decode(text.strip())
    except (msgspec.DecodeError, RecursionError):
        return None


def _fitting(kind: Kind, answer: object) -> dict[str, Any] | None:
    """The answer if it fits the role's schema as far as it is used: names, types, choices."""
    if not isinstance(answer, dict):
        return None
    fields = cast("dict[str, Any]", answer)
    return fields if _fits(SCHEMAS[kind], fields) else None


def _fits(schema: Mapping[str, Any], value: object) -> bool:
    if "enum" in schema:
        return value in schema["enum"]
    match schema["type"]:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "array":
            return isinstance(value, list) and all(
                _fits(schema["items"], item) for item in cast("list[object]", value)
            )
        case _:
            if not isinstance(value, dict):
                return False
            fields = cast("dict[str, object]", value)
            properties: Mapping[str, Any] = schema["properties"]
            return all(name in fields for name in schema["required"]) and all(
                _fits(properties[name], field) for name, field in fields.items() if name in properties
            )


def _claims(fields: Mapping[str, Any], text: str) -> Claims:
    if "changed_files" not in fields:
        return read_claims(text)
    tests: Mapping[str, Any] = fields.get("tests") or {}
    tested = tests.get("command")
    outcomes: dict[str, Outcome] = dict.fromkeys(fields.get("commands_run") or [], "unclear")
    if tested and tests.get("ran"):
        passed = tests.get("passed")
        outcomes[tested] = "unclear" if passed is None else "passed" if passed else "failed"
    return Claims(
        files=tuple(fields["changed_files"]),
        commands=tuple(
            ClaimedCommand(command=command, outcome=outcome) for command, outcome in outcomes.items()
        ),
    )

"""A run's result made small enough for a conversation; the whole of it stays on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

SUMMARY_LIMIT_BYTES = 8 * 1024

_AS_THEY_ARE = (
    "schema",
    "run_id",
    "job_id",
    "job_status",
    "status",
    "error_code",
    "retryable",
    "timed_out",
    "isolation",
    "usage",
    "wall_s",
)

# What a summary starts with, and what each further try makes of it: characters and items.
_SIZES = ((3000, 40), (1500, 20), (700, 10), (300, 5), (120, 2), (40, 0))


def summarize_result(result: Mapping[str, Any], *, limit_bytes: int = SUMMARY_LIMIT_BYTES) -> dict[str, Any]:
    """The part of a result a lead reads: never above the limit as JSON, whatever the run did.

    Lists say how many they leave out (`..._omitted`), texts end in an ellipsis.

    Parameters:
        result: a `result.json`, of any version; fields it lacks are left out.
        limit_bytes: at least 2 KB.
    """
    summary: dict[str, Any] = {}
    for text_limit, list_limit in _SIZES:
        summary = _at_size(result, text_limit, list_limit)
        if len(msgspec.json.encode(summary)) <= limit_bytes:
            return summary
    names = ("schema", "run_id", "job_id", "job_status", "status", "error_code", "retryable", "timed_out")
    return {name: _cut(summary[name], 100) for name in names if name in summary} | {"truncated": True}


def _at_size(result: Mapping[str, Any], text_limit: int, list_limit: int) -> dict[str, Any]:
    summary = {name: _bounded(result[name], 300, 20) for name in _AS_THEY_ARE if name in result}
    for name in ("error", "next"):
        if result.get(name) is not None:
            summary[name] = _cut(result[name], min(text_limit, 500))
    if workspace := _object(result, "workspace"):
        summary["workspace"] = _picked(workspace, ("id", "path", "base"), 300)
    if report := _object(result, "report"):
        summary["report"] = {
            "text": _cut(report.get("text"), text_limit),
            **_picked(report, ("file", "bytes", "sha256", "source"), 200),
            "truncated": bool(report.get("truncated")) or len(str(report.get("text", ""))) > text_limit,
        }
    if "delta" in result:
        _add_list(
            summary, "changed_files", [_file(one) for one in _objects(result["delta"], "files")], list_limit
        )
    if evidence := _object(result, "evidence"):
        summary["evidence"] = _evidence(evidence, text_limit, list_limit)
    if (integrity := _object(result, "integrity")) is not None:
        summary["integrity"] = _bounded(integrity, 200, 10)
    if worker := _object(result, "worker"):
        names = ("client", "client_version", "model", "session_id", "turns", "exit_code", "provider_status")
        summary["worker"] = _picked(worker, names, 100)
        denied = [f"{one.get('tool')} {one.get('target')}" for one in _objects(worker, "permission_denials")]
        if denied:
            _add_list(summary, "permission_denials", [_cut(one, 120) for one in denied], min(5, list_limit))
    if gateway := _object(result, "gateway_usage"):
        summary["gateway_usage"] = _bounded(_object(gateway, "total") or gateway, 100, 10)
    warnings = [_cut(one, min(text_limit, 300)) for one in _list(result, "warnings")]
    _add_list(summary, "warnings", warnings, min(10, list_limit))
    return summary


def _evidence(evidence: Mapping[str, Any], text_limit: int, list_limit: int) -> dict[str, Any]:
    seen: dict[str, Any] = {"verdict": evidence.get("verdict")}
    for moment in ("before", "after"):
        rows = [_command(one, min(text_limit, 400)) for one in _objects(evidence, moment)]
        _add_list(seen, moment, rows, min(10, list_limit))
    differences = [_cut(one.get("text"), 200) for one in _objects(evidence, "differences")]
    _add_list(seen, "differences", differences, min(10, list_limit))
    return seen


def _command(seen: Mapping[str, Any], text_limit: int) -> dict[str, Any]:
    row = _picked(seen, ("command", "status", "exit_code", "reason", "output_file"), 200)
    if seen.get("status") in ("failed", "timed_out") and seen.get("tail"):
        row["tail"] = str(seen["tail"])[-text_limit:]
    return {name: value for name, value in row.items() if value is not None}


def _file(file: Mapping[str, Any]) -> str:
    letter = str(file.get("status", "?"))[:1].upper()
    return _cut(f"{letter} {file.get('path')}", 200)


def _add_list(target: dict[str, Any], name: str, items: list[Any], limit: int) -> None:
    target[name] = items[:limit]
    if len(items) > limit:
        target[f"{name}_omitted"] = len(items) - limit


def _picked(source: Mapping[str, Any], names: tuple[str, ...], limit: int) -> dict[str, Any]:
    return {name: _bounded(source[name], limit, 10) for name in names if name in source}


def _bounded(value: object, text_limit: int, list_limit: int) -> Any:
    match value:
        case str():
            return _cut(value, text_limit)
        case dict():
            items = list(cast("dict[str, object]", value).items())[:list_limit]
            return {_cut(name, 80): _bounded(item, text_limit, list_limit) for name, item in items}
        case list() | tuple():
            parts = cast("list[object]", value)[:list_limit]
            return [_bounded(part, text_limit, list_limit) for part in parts]
        case _:
            return value


def _cut(value: object, limit: int) -> str:
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _object(source: object, name: str) -> dict[str, Any] | None:
    found: object = cast("Mapping[str, Any]", source).get(name) if isinstance(source, Mapping) else None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _list(source: object, name: str) -> list[Any]:
    found: object = cast("Mapping[str, Any]", source).get(name) if isinstance(source, Mapping) else None
    return cast("list[Any]", found) if isinstance(found, list) else []


def _objects(source: object, name: str) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", one) for one in _list(source, name) if isinstance(one, dict)]

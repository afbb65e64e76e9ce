"""A run's result as a lead needs it: what changed, what we saw for ourselves, what the worker says."""

from __future__ import annotations

from typing import Any

from dragoman.mcp.replies import Reply, compact, shown_text

_MOST_DENIALS = 5
# The seed's two words; what nothing could prove has none.
_VERIFIED = {"proved": "passed", "failed": "failed"}


def result_view(result: dict[str, Any]) -> Reply:
    """The parts of a result a lead decides by, under the seed's names; empty parts are left out.

    Args:
        result: as the run wrote it (`dragoman.jobs.run`), with `gateway_usage` when the ledger knows it.
    """
    worker = result.get("worker") or {}
    delta = result.get("delta") or {}
    evidence = result.get("evidence") or {}
    workspace = result.get("workspace") or {}
    files = delta.get("files") or []
    return compact(
        {
            "result_status": result.get("status"),
            "error": result.get("error"),
            "error_code": result.get("error_code"),
            "next": result.get("next"),
            "worktree_path": workspace.get("id") if files else None,
            "server_observed": {
                "changed_files": [_file(item) for item in files],
                "diff_stat": _stat(files),
                "base_commit": workspace.get("base") if files else None,
                "integrity": (result.get("integrity") or {}).get("changed"),
            },
            "server_verified": {
                "status": _VERIFIED.get(str(evidence.get("verdict"))),
                "commands": [_command(item) for item in evidence.get("after") or []],
                "differences": [item.get("text") for item in evidence.get("differences") or []],
            },
            "claude_report": shown_text(str((result.get("report") or {}).get("text") or "")),
            "permission_denials": [
                f"{item.get('tool')} {item.get('target') or ''}".strip()
                for item in (worker.get("permission_denials") or [])[:_MOST_DENIALS]
            ],
            "isolation": _isolation(result.get("isolation") or {}),
            "gateway_usage": _usage(result.get("gateway_usage") or {}),
            "warnings": [
                text
                for text in result.get("warnings") or []
                if text not in {item.get("text") for item in evidence.get("differences") or []}
            ],
        }
    )


def _report(result: dict[str, Any]) -> Reply:
    """The worker's words: whole, or their beginning with where the rest is and its digest."""
    report = result.get("report") or {}
    worker = result.get("worker") or {}
    shown = shown_text(str(report.get("text") or worker.get("text") or ""))
    if "text_truncated" in shown or report.get("truncated"):
        kept = {"text_truncated": True, "text_path": report.get("file"), "text_sha256": report.get("sha256")}
        shown |= {name: value for name, value in kept.items() if value is not None}
    return shown


def _file(item: dict[str, Any]) -> str:
    """`M src/app.py`, `R old -> new`: a line a lead can read, and cheaper than an object."""
    letter = str(item.get("status", "?"))[:1].upper()
    old = item.get("old_path")
    return f"{letter} {old} -> {item.get('path')}" if old else f"{letter} {item.get('path')}"


def _stat(files: list[dict[str, Any]]) -> str | None:
    if not files:
        return None
    added = sum(item.get("added") or 0 for item in files)
    removed = sum(item.get("removed") or 0 for item in files)
    return f"{len(files)} file{'s' if len(files) != 1 else ''}, +{added} -{removed}"


def _command(item: dict[str, Any]) -> Reply:
    seen: Reply = {"command": item.get("command"), "status": item.get("status")}
    if item.get("status") == "failed":
        seen |= {"exit_code": item.get("exit_code"), "tail": str(item.get("tail") or "")[-600:]}
    elif item.get("status") != "passed":
        seen["reason"] = item.get("reason")
    return seen


def _isolation(isolation: dict[str, Any]) -> str | None:
    """One phrase: where it ran and how strongly it was held there."""
    if not isolation:
        return None
    return f"{isolation.get('mode', 'worktree')}, {isolation.get('level', 'none')}"


def _usage(usage: dict[str, Any]) -> Reply:
    total = usage.get("total") or usage
    return {
        name: total.get(name)
        for name in ("requests", "input_tokens", "output_tokens", "cost_usd")
        if total.get(name)
    }

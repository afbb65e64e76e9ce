"""A job's end as `dragoman delegate --json` states it: our result, with S0's names for what S0 states.

Only keys whose meaning exists here are filled; the names are those of `claude-glm52-delegate` 0.0.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

SCHEMA = "delegate.result.v1"
_TRANSIENT = frozenset({429, 500, 502, 503, 504, 529})


def delegate_result(job: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Join a job and its run's result.

    Args:
        job: as the control API shows it.
        result: as the control API hands it out.
    """
    worker, delta = _object(result, "worker"), _object(result, "delta")
    listed = cast("list[object]", delta.get("files") or [])
    files = [cast("dict[str, Any]", one) for one in listed if isinstance(one, dict)]
    changed = [str(one.get("path")) for one in files]
    provider_status = worker.get("provider_status")
    timed_out = bool(result.get("timed_out")) or result.get("error_code") == "worker_timeout"
    transient = provider_status in _TRANSIENT
    workspace = _object(result, "workspace")
    report = _object(result, "report")
    return {
        "schema": SCHEMA,
        "ok": result.get("status") == "success",
        "status": result.get("status"),
        "error_code": result.get("error_code"),
        "error": result.get("error"),
        "next": result.get("next"),
        "retryable": bool(result.get("retryable")),
        "job_id": job.get("job_id"),
        "run_id": job.get("run_id"),
        "role": "implement" if job.get("type") == "implement" else "review",
        "model": worker.get("model") or job.get("model"),
        "worktree_path": workspace.get("id") if changed else None,
        "changed_files": changed,
        "change_summary": {
            "added": [_path(one) for one in files if one.get("status") == "added"],
            "modified": [_path(one) for one in files if one.get("status") not in ("added", "deleted")],
            "deleted": [_path(one) for one in files if one.get("status") == "deleted"],
        },
        "result": report.get("text") or worker.get("text"),
        "failure_reason": "timeout" if timed_out else None,
        "final_returncode": worker.get("exit_code"),
        "final_api_error_status": provider_status,
        "final_timed_out": timed_out,
        "final_transient_error": transient,
        "safe_to_retry_later": (transient or timed_out) and not changed,
        "overall_wall_ms": round(float(result.get("wall_s") or 0.0) * 1000),
        "isolation": result.get("isolation"),
        "workspace": result.get("workspace"),
        "integrity": result.get("integrity"),
        "evidence": result.get("evidence"),
        "gateway_usage": result.get("gateway_usage"),
        "report": result.get("report"),
        "warnings": result.get("warnings") or [],
        "phases_s": result.get("phases_s"),
    }


def _path(file: Mapping[str, Any]) -> str:
    return str(file.get("path"))


def _object(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = source.get(name)
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}

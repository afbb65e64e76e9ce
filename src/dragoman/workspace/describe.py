"""Workspaces, and what is done with them, as JSON: one shape for command line, tools and console."""

from __future__ import annotations

from typing import Any

from .apply import ApplyResult, Preview
from .changes import NO_MODE, Change
from .conflicts import Conflict, Side
from .delta import Delta
from .export import Exported
from .names import shown
from .store import Workspace
from .trash import CleanupEntry


def describe_workspace(workspace: Workspace) -> dict[str, Any]:
    """A workspace."""
    return {
        "id": workspace.id,
        "path": str(workspace.path),
        "repository": str(workspace.repository),
        "branch": workspace.branch,
        "base_commit": workspace.base,
        "head": workspace.head,
        "dirty_policy": workspace.dirty,
        "sparse": list(workspace.sparse),
        "created_at": workspace.created_at,
        "discarded_at": workspace.discarded_at,
        "applied": [
            {
                "at": entry.at,
                "preview_token": entry.token,
                "paths": None if entry.names is None else list(entry.names),
            }
            for entry in workspace.applied
        ],
    }


def describe_change(change: Change) -> dict[str, Any]:
    """A changed file."""
    return {
        "status": change.status,
        "file": change.path,
        "old_file": change.old_path,
        "old_mode": None if change.old_mode == NO_MODE else change.old_mode,
        "mode": None if change.new_mode == NO_MODE else change.new_mode,
        "binary": change.added_lines is None,
        "added": change.added_lines,
        "deleted": change.deleted_lines,
    }


def describe_conflict(conflict: Conflict) -> dict[str, Any]:
    """A path in the way."""
    return {
        "file": conflict.path,
        "kind": conflict.kind,
        "message": conflict.message,
        "base": _side(conflict.base),
        "ours": _side(conflict.ours),
        "theirs": _side(conflict.theirs),
        "other_file": None if conflict.other is None else shown(conflict.other),
        "hunks": [{"line": h.line, "ours": h.ours, "theirs": h.theirs} for h in conflict.hunks],
    }


def describe_delta(found: Delta) -> dict[str, Any]:
    """A worker's delta."""
    return {
        "changes": [describe_change(change) for change in found.changes],
        "added": found.added_lines,
        "deleted": found.deleted_lines,
        "skipped": [{"file": shown(item.name), "reason": item.reason} for item in found.skipped],
        "ignored_changes": [
            {"file": item.path, "rule": item.rule, "source": item.source, "linenum": item.line}
            for item in found.ignored
        ],
        "ignored_total": found.ignored_total,
    }


def describe_preview(preview: Preview) -> dict[str, Any]:
    """A preview."""
    return {
        "preview": True,
        "preview_token": preview.token,
        "base_commit": preview.base,
        "main_head": preview.head,
        "planned_changes": [describe_change(change) for change in preview.changes],
        "conflicts": [conflict.message for conflict in preview.conflicts],
        "conflict_details": [describe_conflict(conflict) for conflict in preview.conflicts],
        "merge": {"strategy": "three_way", "merged": list(preview.merged)},
        "already_applied": preview.already_applied,
        "left_out": list(preview.left_out),
        "patch": preview.patch.decode("utf-8", "replace"),
    }


def describe_result(result: ApplyResult) -> dict[str, Any]:
    """An apply that was carried out."""
    return {
        "preview": False,
        "applied_files": [change.path for change in result.changes],
        "changes": [describe_change(change) for change in result.changes],
        "merge": {"strategy": "three_way", "merged": list(result.merged)},
        "already_applied": result.already_applied,
        "main_head": result.head,
        "left_out": list(result.left_out),
        "cleanup_performed": result.discarded,
        "kept_because": list(result.kept_because),
    }


def describe_export(exported: Exported) -> dict[str, Any]:
    """A branch made from a delta."""
    return {
        "branch": exported.branch,
        "commit_sha": exported.commit,
        "base_commit": exported.base,
        "tree_sha": exported.tree,
        "file_count": exported.file_count,
    }


def describe_cleanup(entry: CleanupEntry) -> dict[str, Any]:
    """What cleanup did about one workspace."""
    return {"id": entry.id, "action": entry.action, "reasons": list(entry.reasons), "done": entry.done}


def _side(side: Side | None) -> dict[str, str] | None:
    return None if side is None else {"mode": side.mode, "id": side.id}

"""`claude_apply` and `claude_cleanup`: bringing a worker's change to the user, and clearing up after it."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError
from dragoman.jobs.consent import check_applicable
from dragoman.jobs.folder import RunFolder
from dragoman.mcp.caller import Caller
from dragoman.mcp.inputs import ApplyInput, CleanupInput, InvalidInput
from dragoman.mcp.place import Desk
from dragoman.mcp.replies import Reply, next_action
from dragoman.process.locks import is_locked
from dragoman.workspace import (
    ApplyResult,
    Change,
    Preview,
    Workspace,
    apply,
    cleanup,
    open_repository,
    open_workspace,
    patch,
    preview,
    recover,
)
from dragoman.workspace.describe import describe_cleanup

# Ids of the seed's worktrees were paths; what follows the last slash is the id here.
_SEED_FOLDER = ".claude/worktrees/"
_SHOWN_PATCH_BYTES = 2_000


class WrongRepository(DragomanError):
    """The workspace belongs to another repository than the call."""

    code = "worktree_not_found"
    http_status = 404


class NotConfirmed(DragomanError):
    """The user has not been asked, as far as the caller says."""

    code = "confirmation_required"
    http_status = 409


class NoPreview(DragomanError):
    """No preview was made, so nobody can have agreed to it."""

    code = "preview_token_required"
    http_status = 409


async def claude_apply(desk: Desk, caller: Caller, asked: ApplyInput) -> Reply:
    """Preview a worker's change, or apply exactly what was previewed.

    Raises:
        DragomanError: refused, with conflicts or without a token; the user's files are untouched.
    """
    if asked.preview and (asked.cleanup or asked.preview_token):
        raise InvalidInput("a preview writes nothing, so it takes neither cleanup nor preview_token")
    cwd = await asyncio.to_thread(desk.place, caller, asked.cwd)
    opened = await asyncio.to_thread(_open, desk, cwd, asked.worktree_path)
    await asyncio.to_thread(check_applicable, RunFolder(desk.jobs.home.runs / opened.id), asked.paths)
    again = {"worktree_path": opened.id, "preview": True}
    if asked.preview:
        seen = await asyncio.to_thread(preview, opened, paths=asked.paths, with_patch=asked.include_patch)
        return await asyncio.to_thread(_preview_reply, desk, opened, seen, asked)
    if asked.preview_token is None:
        error = NoPreview("claude_apply needs the preview_token of a preview the user has seen")
        return _refused(error, next_action("claude_apply", "preview it first", **again))
    if not asked.confirmed_by_user:
        error = NotConfirmed("claude_apply writes into the user's files: ask, then set confirmed_by_user")
        args = {"worktree_path": opened.id, "preview_token": asked.preview_token, "confirmed_by_user": True}
        return _refused(error, next_action("claude_apply", "once the user agreed", **args))
    done = await asyncio.to_thread(
        apply, opened, token=asked.preview_token, paths=asked.paths, cleanup=asked.cleanup
    )
    return _applied_reply(done)


async def claude_cleanup(desk: Desk, caller: Caller, asked: CleanupInput) -> Reply:
    """Discard the workspaces of this repository whose work was applied; say why the rest is kept."""
    cwd = await asyncio.to_thread(desk.place, caller, asked.cwd)
    return await asyncio.to_thread(_clean, desk, cwd, asked)


def _open(desk: Desk, cwd: Path, named: str) -> Workspace:
    """The workspace of an id, which must belong to the repository of the call."""
    recover(desk.state)
    opened = open_workspace(desk.state, named.removeprefix(_SEED_FOLDER))
    if opened.repository != open_repository(cwd).root:
        raise WrongRepository(
            f"the worktree {opened.id} belongs to another repository", hint="claude_result, for the right id"
        )
    return opened


def _preview_reply(desk: Desk, opened: Workspace, seen: Preview, asked: ApplyInput) -> Reply:
    ready = not seen.conflicts and not seen.already_applied
    reply: Reply = {
        "preview": True,
        "worktree_path": opened.id,
        "preview_token": seen.token if ready else None,
        "planned_changes": [_change(change) for change in seen.changes],
        "merged": list(seen.merged),
        "conflicts": [conflict.message for conflict in seen.conflicts],
        "left_out": list(seen.left_out),
        "already_applied": seen.already_applied or None,
        "error_code": "conflict" if seen.conflicts else None,
        "interaction": {
            "state": "apply_preview" if ready else "needs_user" if seen.conflicts else "applied",
            "headline": _preview_headline(seen),
        },
    }
    if asked.include_patch:
        reply |= _patch(desk, opened, seen, asked.patch_max_bytes)
    if ready:
        args = {"worktree_path": opened.id, "preview_token": seen.token, "confirmed_by_user": True}
        # The token is above already; a next call that repeats it would say it twice.
        args.pop("preview_token")
        reply["next_actions"] = [next_action("claude_apply", "with the token, once the user agreed", **args)]
    return reply


def _preview_headline(seen: Preview) -> str:
    if seen.conflicts:
        return f"{len(seen.conflicts)} in the way; nothing can be applied as it is."
    if seen.already_applied:
        return "Already applied."
    return f"{len(seen.changes)} file{'s' if len(seen.changes) != 1 else ''} would change. Show the user."


def _patch(desk: Desk, opened: Workspace, seen: Preview, most_bytes: int) -> Reply:
    """The patch: its beginning here, all of it in a file, with its digest."""
    whole = seen.patch or patch(opened)
    file = opened.folder / "preview.patch"
    file.touch(mode=0o600)
    file.write_bytes(whole)
    shown = whole[: min(most_bytes, _SHOWN_PATCH_BYTES)].decode("utf-8", "replace")
    return {
        "patch": shown,
        "patch_truncated": len(whole) > len(shown.encode()) or None,
        "patch_path": str(file),
        "patch_bytes": len(whole),
        "diff_sha256": hashlib.sha256(whole).hexdigest(),
    }


def _applied_reply(done: ApplyResult) -> Reply:
    count = len(done.changes)
    return {
        "applied_files": [change.path for change in done.changes],
        "merged": list(done.merged),
        "already_applied": done.already_applied or None,
        "cleanup_performed": done.discarded,
        "kept_because": list(done.kept_because),
        "left_out": list(done.left_out),
        "interaction": {
            "state": "applied",
            "headline": "Already applied."
            if done.already_applied
            else f"Applied {count} file{'s' if count != 1 else ''}.",
        },
    }


def _clean(desk: Desk, cwd: Path, asked: CleanupInput) -> Reply:
    root = open_repository(cwd).root
    runs = desk.jobs.home.runs
    entries = cleanup(
        desk.state,
        in_use=lambda id: is_locked(RunFolder(runs / id).lock_file),
        older_than=timedelta(hours=asked.older_than_hours),
        repository=root,
        execute=not asked.dry_run,
    )
    told = [_entry(describe_cleanup(entry)) for entry in entries]
    going = sum(item["action"] != "keep" for item in told)
    return {
        "dry_run": asked.dry_run,
        "entries": told,
        "next_actions": [next_action("claude_cleanup", "do it", dry_run=False)]
        if going and asked.dry_run
        else [],
        "interaction": {
            "state": "cleanup_preview" if asked.dry_run else "cleaned",
            "headline": f"{going} of {len(told)} {'would go' if asked.dry_run else 'went'} to the trash.",
        },
    }


def _entry(described: dict[str, Any]) -> Reply:
    return {
        "worktree_name": described["id"],
        "action": described["action"],
        "removed": (described["done"] and described["action"] != "keep") or None,
        "reasons": described["reasons"],
    }


def _change(change: Change) -> Reply:
    shown: Reply = {"status": change.status, "file": change.path, "old_file": change.old_path}
    if change.added_lines is None:
        shown["binary"] = True
    else:
        shown["lines"] = f"+{change.added_lines} -{change.deleted_lines}"
    return shown


def _refused(error: DragomanError, action: Reply) -> Reply:
    return {
        "error": error.message,
        "error_code": error.code,
        "retryable": False,
        "next_actions": [action],
    }

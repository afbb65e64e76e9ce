"""Discarding workspaces, bringing them back, and clearing up what is no longer needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from .changes import diff_trees
from .delta import take_result
from .errors import WorkspaceError, WorkspaceExists, WorkspaceNotFound
from .git import Git
from .names import shown
from .store import (
    Workspace,
    all_trash,
    all_workspaces,
    private_folder,
    read_record,
    trash_folder,
    workspace_folder,
    write_record,
)


@dataclass(frozen=True)
class CleanupEntry:
    """What cleanup did, or would do, about one workspace.

    Attributes:
        id: of the workspace.
        action: `discard` to the trash, `keep` as it is, `purge` from the trash for good.
        reasons: why, in words.
        done: whether it was carried out.
    """

    id: str
    action: Literal["discard", "keep", "purge"]
    reasons: tuple[str, ...]
    done: bool


def discard(workspace: Workspace, *, now: datetime | None = None) -> Workspace:
    """Move a workspace to the trash, from where `restore` brings it back.

    A rename, so it takes no longer for a large tree.

    Raises:
        WorkspaceExists: the trash holds one of this id.
        WorkspaceNotFound: it is not there any more.
    """
    target = trash_folder(workspace.store, workspace.id)
    private_folder(target.parent)
    if target.exists():
        raise WorkspaceExists(f"the trash already holds a workspace {workspace.id}")
    marked = replace(workspace, discarded_at=(now or datetime.now(UTC)).isoformat(timespec="microseconds"))
    try:
        workspace.folder.rename(target)
    except FileNotFoundError:
        raise WorkspaceNotFound(f"there is no workspace {workspace.id}") from None
    marked = replace(marked, folder=target)
    write_record(marked)
    return marked


def restore(store: Path, id: str) -> Workspace:
    """Bring a workspace back from the trash, exactly as it was.

    Raises:
        WorkspaceNotFound: the trash holds none of this id.
        WorkspaceExists: there is a workspace of this id.
    """
    source, target = trash_folder(store, id), workspace_folder(store, id)
    if not source.is_dir():
        raise WorkspaceNotFound(f"the trash holds no workspace {id}", hint="dragoman workspace list --trash")
    if target.exists():
        raise WorkspaceExists(f"workspace {id} exists")
    private_folder(target.parent)
    source.rename(target)
    restored = replace(read_record(target), discarded_at=None)
    write_record(restored)
    return restored


def keep_reasons(workspace: Workspace, git: Git, *, result_tree: str | None = None) -> tuple[str, ...]:
    """Say why a workspace must not be cleared away; nothing when all its work has been applied.

    Args:
        workspace: which.
        git: the program.
        result_tree: its result, if already known.
    """
    try:
        if result_tree is None:
            taken = take_result(workspace, git)
            if taken.skipped:
                return (f"{shown(taken.skipped[0].name)} could not be applied",)
            result_tree = taken.tree
        if result_tree == workspace.base_tree:
            return ()
        keep = workspace.keep(git)
        everything = {c.name for c in diff_trees(keep, workspace.base_tree, result_tree, renames=False)}
        open_names = set(everything)
        for entry in workspace.applied:
            if entry.names is None:
                after = {c.name for c in diff_trees(keep, entry.result_tree, result_tree, renames=False)}
                open_names &= after
            else:
                after = {
                    shown(c.name) for c in diff_trees(keep, entry.result_tree, result_tree, renames=False)
                }
                open_names -= {n for n in open_names if shown(n) in entry.names and shown(n) not in after}
    except WorkspaceError as problem:
        return (problem.message,)
    if not open_names:
        return ()
    first = ", ".join(shown(name) for name in sorted(open_names)[:3])
    more = f" and {len(open_names) - 3} more" if len(open_names) > 3 else ""
    return (f"not applied: {first}{more}",)


def cleanup(
    store: Path,
    *,
    git: Git | None = None,
    repository: Path | None = None,
    older_than: timedelta = timedelta(0),
    trash_older_than: timedelta | None = None,
    execute: bool = False,
    in_use: Callable[[str], bool] = lambda _: False,
    now: datetime | None = None,
) -> list[CleanupEntry]:
    """Move finished workspaces to the trash, and remove what lay there long enough.

    Work that was not applied is never cleared away by this, whatever its age.

    Args:
        store: the state folder.
        git: the program; looked up when not given.
        repository: top of the only repository whose workspaces are looked at; None for all.
        older_than: least age of a workspace.
        trash_older_than: least time in the trash before removal for good; None leaves the trash alone.
        execute: whether to do it, or only to say what would be done.
        in_use: tells whether something is at work in a workspace.
        now: the time.
    """
    git = git or Git.find()
    now = now or datetime.now(UTC)
    entries: list[CleanupEntry] = []
    for workspace in all_workspaces(store):
        if repository is not None and workspace.repository != repository:
            continue
        reasons: Sequence[str]
        if in_use(workspace.id):
            reasons = ("in use",)
        elif now - datetime.fromisoformat(workspace.created_at) < older_than:
            reasons = ("too recent",)
        else:
            reasons = keep_reasons(workspace, git)
        if reasons:
            entries.append(CleanupEntry(workspace.id, "keep", tuple(reasons), done=True))
            continue
        why = "all of it was applied" if workspace.applied else "it holds no change"
        if execute:
            discard(workspace, now=now)
        entries.append(CleanupEntry(workspace.id, "discard", (why,), done=execute))
    if trash_older_than is not None:
        for trashed in all_trash(store):
            since = datetime.fromisoformat(trashed.discarded_at or trashed.created_at)
            if now - since >= trash_older_than:
                if execute:
                    shutil.rmtree(trashed.folder)
                entries.append(
                    CleanupEntry(trashed.id, "purge", (f"in the trash since {since:%F}",), execute)
                )
    return entries

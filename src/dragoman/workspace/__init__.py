"""Workspaces: clones in which a worker may write, and the safe way of its changes into the user's files.

This room knows git and nothing else. The whole path of a change:

    repository = open_repository(Path("/home/me/app"))
    workspace = create_workspace(repository, store, id="run-1", dirty="snapshot")
    ...                             # a worker changes files in workspace.path, starting in workspace.cwd
    delta(workspace)                # what it changed, whatever it committed, amended or checked out
    seen = preview(workspace)       # three-way merge on tree objects, conflicts as objects, a token
    apply(workspace, token=seen.token)  # all of it or nothing; index, HEAD and refs stay as they are
    export(workspace, "topic")      # or a branch of it instead
    discard(workspace)              # to the trash; restore(store, "run-1") brings it back

`store` is the state folder. Until `apply`, the user's files and `.git` stay byte-identical.
`recover(store)` is to be called when a process starts: it completes or takes back what a killed apply left.
`baseline(workspace)` gives a throw-away clone at the base. `Workspace.object_stores` are folders the
worker's git needs to read. `settle(workspace)` takes the base again after a setup command.
"""

from __future__ import annotations

from .apply import ApplyResult, Preview, apply, preview
from .baseline import baseline
from .changes import Change
from .clean import check_clean
from .conflicts import Conflict, Hunk, Side
from .create import create_workspace, worktree_include
from .delta import Delta, IgnoredFile, delta, patch
from .errors import WorkspaceError
from .export import Exported, export
from .git import Git
from .names import printable, shown, unshown
from .recover import Recovered, recover
from .repository import Repository, open_repository
from .settle import settle
from .standing import standing
from .store import Workspace, all_trash, all_workspaces, open_workspace
from .trash import CleanupEntry, cleanup, discard, restore

__all__ = [
    "ApplyResult",
    "Change",
    "CleanupEntry",
    "Conflict",
    "Delta",
    "Exported",
    "Git",
    "Hunk",
    "IgnoredFile",
    "Preview",
    "Recovered",
    "Repository",
    "Side",
    "Workspace",
    "WorkspaceError",
    "all_trash",
    "all_workspaces",
    "apply",
    "baseline",
    "check_clean",
    "cleanup",
    "create_workspace",
    "delta",
    "discard",
    "export",
    "open_repository",
    "open_workspace",
    "patch",
    "preview",
    "printable",
    "recover",
    "restore",
    "settle",
    "shown",
    "standing",
    "unshown",
    "worktree_include",
]

"""Taking a workspace's base again after a setup command ran in it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from .changes import NO_MODE, diff_trees
from .create import make_clone
from .delta import take_result
from .git import Git
from .repository import open_repository
from .store import Workspace, write_record

_SETUP_MESSAGE = "After the setup command"


def settle(workspace: Workspace, *, git: Git | None = None) -> Workspace:
    """Take the base again, after a setup command changed files: what it did is not the worker's doing.

    The clone's git folder is made anew, since the command may have done anything to it.

    Args:
        workspace: in which nobody has worked yet.
        git: the program; looked up when not given.

    Returns:
        The workspace with its new base; the same one if no file changed.
    """
    git = git or Git.find()
    keep = workspace.keep(git)
    tree = take_result(workspace, git).tree
    if tree == workspace.base_tree:
        return workspace
    changed = diff_trees(keep, workspace.base_tree, tree, renames=False)
    gone = [change.name for change in changed if change.new_mode == NO_MODE]
    kept = [change.name for change in changed if change.new_mode != NO_MODE]
    for names, how in ((gone, ("--force-remove",)), (kept, ("--add", "--replace"))):
        if names:
            stdin = b"\0".join(names) + b"\0"
            keep.run(
                *("update-index", "-z", *how, "--stdin"),
                work_tree=workspace.path,
                index=keep.index,
                stdin=stdin,
            )
    base = keep.commit(tree, [workspace.base], _SETUP_MESSAGE)
    repository = open_repository(workspace.repository, git=git)
    old = Path(tempfile.mkdtemp(prefix="git-", dir=workspace.folder))
    (workspace.path / ".git").rename(old / "git")
    shutil.rmtree(old)
    patterns = keep.dir / "info" / "sparse-checkout"
    make_clone(
        repository,
        keep,
        workspace.path,
        base,
        workspace.branch,
        patterns=patterns.read_text(errors="surrogateescape") if patterns.is_file() else "",
        cone=bool(workspace.sparse) or repository.settings.sparse_cone,
    )
    settled = replace(workspace, base=base, base_tree=tree)
    write_record(settled)
    return settled

"""Exporting a worker's delta as a branch of the user's repository."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .changes import GITLINK, diff_trees
from .conflicts import Conflict
from .delta import take_result
from .errors import ApplyConflict, BranchExists, InvalidRequest, NoChanges
from .git import Git
from .keep import Keep
from .names import printable
from .repository import Repository, open_repository
from .settings import GUARD
from .store import Workspace


@dataclass(frozen=True)
class Exported:
    """A branch made from a delta.

    Attributes:
        branch: its name, without `refs/heads/`.
        commit: what it points to.
        base: the commit below it: the user's HEAD at the start, or a snapshot of their files on top of that.
        tree: the worker's result.
        file_count: files that differ from the base.
    """

    branch: str
    commit: str
    base: str
    tree: str
    file_count: int


def export(
    workspace: Workspace,
    branch: str,
    *,
    git: Git | None = None,
    message: str | None = None,
    force: bool = False,
) -> Exported:
    """Make a branch that holds the delta, on top of what the worker started from.

    The user's files, index and HEAD stay as they are; only objects and the one ref are written.

    Args:
        workspace: whose delta.
        branch: name of the branch.
        git: the program; looked up when not given.
        message: of the commit.
        force: whether an existing branch may be moved.

    Raises:
        InvalidRequest: not a name for a branch.
        BranchExists: it exists and may not be moved, or is checked out somewhere.
        ApplyConflict: the delta holds submodule pointers or files that cannot be part of a commit.
        NoChanges: the worker changed nothing.
        WorkspaceDamaged, GitFailed: as in `delta`.
    """
    git = git or Git.find()
    repository = open_repository(workspace.repository, git=git)
    ref = f"refs/heads/{branch}"
    if branch.startswith("-") or repository.read("check-ref-format", ref, ok=(0, 1)).status:
        raise InvalidRequest(f"{branch!r} cannot name a branch", hint="use letters, digits, '-', '_' and '/'")
    old = repository.read("rev-parse", "--verify", "--quiet", ref, ok=(0, 1)).text
    if old and not force:
        raise BranchExists(f"branch {branch} exists", hint="choose another name, or move it with --force")
    if old and f"branch {ref}" in repository.read("worktree", "list", "--porcelain", "-z").text.split("\0"):
        raise BranchExists(f"branch {branch} is checked out and is not moved", hint="choose another name")

    keep = workspace.keep(git)
    result = take_result(workspace, git)
    changes = diff_trees(keep, workspace.base_tree, result.tree, renames=False)
    if not changes:
        raise NoChanges(f"workspace {workspace.id} holds no change against its base")
    refused = [item.name for item in result.skipped]
    refused += [change.name for change in changes if GITLINK in (change.old_mode, change.new_mode)]
    if refused:
        raise ApplyConflict(
            f"{printable(refused[0])} cannot be part of a commit",
            conflicts=[
                Conflict(name, "unsupported_file", f"{printable(name)}: cannot be exported")
                for name in refused
            ],
        )
    text = message or f"Changes of workspace {workspace.id}"
    commit = _commit(keep, repository, result.tree, workspace.base, text)
    _hand_over(keep, repository, commit, workspace.head)
    update = ("update-ref", "-m", "dragoman export")
    git.run(
        [*GUARD, "--git-dir", os.fspath(repository.git_dir), *update, ref, commit, old or "0" * len(commit)],
        cwd=repository.root,
    )
    return Exported(branch, commit, workspace.base, result.tree, len(changes))


def _commit(keep: Keep, repository: Repository, tree: str, parent: str, message: str) -> str:
    """Make the commit in the user's name, where the user has one configured."""
    env: dict[str, str] = {}
    for key, part in (("user.name", "NAME"), ("user.email", "EMAIL")):
        value = repository.read("config", "--get", key, ok=(0, 1)).text
        if value:
            env |= {f"GIT_AUTHOR_{part}": value, f"GIT_COMMITTER_{part}": value}
    return keep.run("commit-tree", tree, "-p", parent, "-F", "-", stdin=message.encode(), env=env).text


def _hand_over(keep: Keep, repository: Repository, commit: str, known: str) -> None:
    """Copy the objects of a commit that the user's store has not into it."""
    pack = keep.run("pack-objects", "--revs", "--stdout", "-q", stdin=f"{commit}\n^{known}\n".encode()).out
    # The keep's configuration, the user's store: nothing the repository configures is asked.
    env = {"GIT_OBJECT_DIRECTORY": os.fspath(repository.object_stores[0])}
    keep.run("-c", "core.fsync=committed", "unpack-objects", "-q", stdin=pack, env=env)

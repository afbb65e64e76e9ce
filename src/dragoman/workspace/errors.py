"""What can go wrong with a workspace, each in one sentence with the next thing to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dragoman.errors import DragomanError, ExitCode

if TYPE_CHECKING:
    from .conflicts import Conflict


class WorkspaceError(DragomanError):
    """Root of this room's errors."""

    http_status = 409


class GitMissing(WorkspaceError):
    """There is no `git` program on PATH."""

    code = "git_not_found"


class GitTooOld(WorkspaceError):
    """`git` is older than the version merges on tree objects need."""

    code = "git_too_old"


class GitFailed(WorkspaceError):
    """A git command ended with an unexpected status; the message holds its first lines, bounded."""

    code = "git_failed"
    http_status = 500


class NotARepository(WorkspaceError):
    """The folder does not belong to a git work tree."""

    code = "not_git_repo"
    exit_code = ExitCode.USAGE
    http_status = 400


class UnsupportedRepository(WorkspaceError):
    """A bare repository, or one whose configuration moves its work tree somewhere else."""

    code = "unsupported_repository"
    exit_code = ExitCode.USAGE
    http_status = 400


class NoCommits(WorkspaceError):
    """The repository has no commit to start from, so there is nothing to compare a result with."""

    code = "no_commits"
    exit_code = ExitCode.NEEDS_USER


class DirtyRepository(WorkspaceError):
    """The user has uncommitted work and the policy is to ask.

    Attributes:
        paths: what is uncommitted, as names for display, at most 50 of them.
        total: how many there are.
    """

    code = "dirty_workspace"
    exit_code = ExitCode.NEEDS_USER

    def __init__(self, message: str, *, paths: Sequence[str], total: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.paths = tuple(paths)
        self.total = total


class StoreInsideRepository(WorkspaceError):
    """The state folder lies inside the repository, where its files would be part of the user's work."""

    code = "store_inside_repository"
    exit_code = ExitCode.USAGE


class InvalidRequest(WorkspaceError):
    """An id, a path or a branch name that cannot be used."""

    code = "invalid_input"
    exit_code = ExitCode.USAGE
    http_status = 400


class WorkspaceExists(WorkspaceError):
    """The id is taken."""

    code = "workspace_exists"


class WorkspaceNotFound(WorkspaceError):
    """No workspace of this id is in the store (or in the trash)."""

    code = "worktree_not_found"
    http_status = 404


class WorkspaceDamaged(WorkspaceError):
    """The workspace's folder, its record or the objects it was made from are gone."""

    code = "metadata_missing"


class TokenRequired(WorkspaceError):
    """`apply` was called without the token of a preview."""

    code = "preview_token_required"
    exit_code = ExitCode.NEEDS_USER


class TokenMismatch(WorkspaceError):
    """What would be applied now is not what was previewed."""

    code = "token_mismatch"
    exit_code = ExitCode.CONFLICT


class NoChanges(WorkspaceError):
    """The workspace holds no change against its base."""

    code = "no_changes"


class ApplyConflict(WorkspaceError):
    """Something stands in the way of the change; nothing was written.

    Attributes:
        conflicts: one object for each path in the way.
    """

    code = "conflict"
    exit_code = ExitCode.CONFLICT

    def __init__(self, message: str, *, conflicts: Sequence[Conflict], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.conflicts = tuple(conflicts)


class BranchExists(WorkspaceError):
    """A branch of the name exists and may not be moved."""

    code = "branch_exists"


class RepositoryBusy(WorkspaceError):
    """Another apply, or another git command, holds the repository's lock."""

    code = "lock_busy"


class ApplyRolledBack(WorkspaceError):
    """The apply stopped half-way and everything it had written was taken back."""

    code = "apply_rolled_back"


class RecoveryNeeded(WorkspaceError):
    """An interrupted apply could not be taken back completely, because files changed since.

    Attributes:
        saved: display name of each path and the file its old content was saved in.
    """

    code = "dirty_recovery_needed"
    exit_code = ExitCode.NEEDS_USER

    def __init__(self, message: str, *, saved: Sequence[tuple[str, str]], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.saved = tuple(saved)

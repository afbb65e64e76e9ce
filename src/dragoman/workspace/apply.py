"""Previewing and applying a worker's delta."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from .changes import Change, diff_trees
from .conflicts import Conflict
from .delta import diff_patch
from .errors import (
    ApplyConflict,
    ApplyRolledBack,
    DragomanError,
    RecoveryNeeded,
    TokenMismatch,
    TokenRequired,
)
from .git import Git
from .journal import Journal, clear_journal, journal_file, write_journal
from .keep import Keep
from .locks import repository_key, repository_lock, take_index_lock
from .names import shown
from .plan import DirtyOverlap, Plan, conflict_list, plan_apply
from .prepare import folder_mode, prepare_files
from .recover import recover_one
from .repository import Repository, open_repository
from .store import Applied, Workspace, note_applied, saved_folder, scratch_folder
from .trash import discard, keep_reasons
from .writer import Moved, folders_of, roll_back, run_steps

_LOCK_WAIT_S = 10.0


@dataclass(frozen=True)
class Preview:
    """What an apply would do now.

    Attributes:
        token: to be handed to `apply`, which refuses if anything it stands for changed.
        base: the commit the worker started from.
        head: the user's HEAD commit.
        changes: what would change in the user's files, renames paired.
        conflicts: what stands in the way; with any, `apply` refuses.
        merged: names, for display, where both sides' edits were combined.
        already_applied: whether the user's files hold the whole change already.
        left_out: changed files not asked for by `paths`, as names for display.
        result_tree: the worker's whole result.
        patch: the changes as a patch for the user's files as they are; empty with conflicts.
    """

    token: str
    base: str
    head: str
    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]
    merged: tuple[str, ...]
    already_applied: bool
    left_out: tuple[str, ...]
    result_tree: str
    patch: bytes


@dataclass(frozen=True)
class ApplyResult:
    """What an apply did.

    Attributes:
        changes: what changed in the user's files, renames paired.
        merged: names, for display, where both sides' edits were combined.
        already_applied: nothing was written, since the change was there.
        head: the user's HEAD commit, which stays where it is.
        left_out: changed files not asked for.
        workspace: the record after it.
        discarded: whether the workspace went to the trash.
        kept_because: why it did not, if that was asked for.
    """

    changes: tuple[Change, ...]
    merged: tuple[str, ...]
    already_applied: bool
    head: str
    left_out: tuple[str, ...]
    workspace: Workspace
    discarded: bool
    kept_because: tuple[str, ...]


def preview(
    workspace: Workspace,
    *,
    git: Git | None = None,
    paths: Sequence[str] = (),
    on_dirty: DirtyOverlap = "refuse",
    include_ignored: Sequence[str] = (),
    with_patch: bool = False,
) -> Preview:
    """Say what `apply` would do, and give the token for it. The user's repository is only read.

    Args:
        workspace: whose delta.
        git: the program; looked up when not given.
        paths: names of changed files, or folders, to limit it to.
        on_dirty: `refuse` where the user has uncommitted edits in a file the delta changes, or `merge` into
            them.
        include_ignored: names of ignored files, or folders, that count as changes.
        with_patch: whether to make the patch.

    Raises:
        NoChanges: the worker changed nothing.
        InvalidRequest: a path is not in the delta.
        WorkspaceDamaged: see `delta`.
        RecoveryNeeded: an interrupted apply could not be taken back.
        RepositoryBusy: an apply is under way.
        GitFailed: an object cannot be read.
    """
    git = git or Git.find()
    repository = open_repository(workspace.repository, git=git)
    with repository_lock(workspace.store, repository.root, wait_s=_LOCK_WAIT_S):
        _recover_first(workspace.store, repository)
        with scratch_folder(workspace) as scratch:
            plan = plan_apply(
                workspace,
                repository,
                git,
                scratch,
                paths=paths,
                on_dirty=on_dirty,
                include_ignored=include_ignored,
            )
    keep = workspace.keep(git)
    patch = b""
    if with_patch and plan.target is not None and not plan.conflicts:
        patch = diff_patch(keep, plan.ours, plan.target)
    return Preview(
        token=plan.token,
        base=workspace.base,
        head=plan.head,
        changes=_display(keep, plan),
        conflicts=plan.conflicts,
        merged=tuple(shown(name) for name in plan.merged),
        already_applied=plan.already_applied,
        left_out=_left_out(plan),
        result_tree=plan.result_tree,
        patch=patch,
    )


def apply(
    workspace: Workspace,
    *,
    token: str | None,
    git: Git | None = None,
    paths: Sequence[str] = (),
    on_dirty: DirtyOverlap = "refuse",
    include_ignored: Sequence[str] = (),
    cleanup: bool = False,
    now: datetime | None = None,
    checkpoint: Callable[[str], None] = lambda _: None,
) -> ApplyResult:
    """Write the delta into the user's files: all of it, or nothing.

    HEAD, refs and index stay as they are, so the change shows up as unstaged edits. Files are exchanged by
    rename under git's own index lock, with a journal that `recover` uses if the process is killed.

    Args:
        workspace: whose delta.
        token: of the preview that was confirmed.
        git: the program; looked up when not given.
        paths, on_dirty, include_ignored: as in the preview.
        cleanup: whether to discard the workspace afterwards, if nothing of its delta is left out.
        now: the time to record.
        checkpoint: called with the name of each stage as it is reached; for tests that interrupt.

    Raises:
        TokenRequired: no token.
        TokenMismatch: something changed since the preview.
        ApplyConflict: something stands in the way.
        RepositoryBusy: another apply, or a git command, is at work.
        ApplyRolledBack: it stopped half-way, and everything was taken back.
        RecoveryNeeded: it could not all be taken back.
        NoChanges, InvalidRequest, WorkspaceDamaged, GitFailed: as in `preview`.
    """
    if not token:
        raise TokenRequired(
            f"applying workspace {workspace.id} needs the token of a preview",
            hint=f"dragoman apply {workspace.id} --preview",
        )
    git = git or Git.find()
    repository = open_repository(workspace.repository, git=git)
    store = workspace.store
    with repository_lock(store, repository.root, wait_s=_LOCK_WAIT_S) as descriptor:
        _recover_first(store, repository)
        with scratch_folder(workspace) as scratch:
            work = _Work(
                workspace, repository, git, scratch, descriptor, checkpoint, now or datetime.now(UTC)
            )
            plan, workspace = work.run(token, paths, on_dirty, include_ignored)
    keep = workspace.keep(git)
    changes = _display(keep, plan)
    reasons = keep_reasons(workspace, git, result_tree=plan.result_tree) if cleanup else ()
    if cleanup and not reasons:
        discard(workspace)
    return ApplyResult(
        changes=changes,
        merged=tuple(shown(name) for name in plan.merged),
        already_applied=plan.already_applied,
        head=plan.head,
        left_out=_left_out(plan),
        workspace=workspace,
        discarded=cleanup and not reasons,
        kept_because=reasons,
    )


def _recover_first(store: Path, repository: Repository) -> None:
    file = journal_file(store, repository_key(repository.root))
    if file.exists():
        recovered = recover_one(store, file)
        if recovered.saved:
            raise RecoveryNeeded(
                f"an interrupted apply in {repository.root} was taken back, but for files that changed since",
                saved=recovered.saved,
                hint="compare the saved files with yours, then try again",
            )


def _display(keep: Keep, plan: Plan) -> tuple[Change, ...]:
    if plan.target is None or not plan.changes:
        return ()
    return diff_trees(keep, plan.ours, plan.target, renames=True, lines=True)


def _left_out(plan: Plan) -> tuple[str, ...]:
    if plan.names is None:
        return ()
    return tuple(shown(change.name) for change in plan.delta if change.name not in plan.names)


@dataclass(frozen=True)
class _Work:
    """One apply, under the lock."""

    workspace: Workspace
    repository: Repository
    git: Git
    scratch: Path
    lock_fd: int
    checkpoint: Callable[[str], None]
    now: datetime

    def run(
        self, token: str, paths: Sequence[str], on_dirty: DirtyOverlap, include_ignored: Sequence[str]
    ) -> tuple[Plan, Workspace]:
        key = repository_key(self.repository.root)
        file = journal_file(self.workspace.store, key)
        name = f"dragoman-{key}-{secrets.token_hex(4)}"
        journal = Journal(
            workspace=self.workspace.id,
            root=self.repository.root,
            staging=_staging_place(self.repository) / name,
            lock=self.repository.git_dir / "index.lock",
            lock_content=name,
            phase="locking",
        )
        write_journal(file, journal)
        try:
            take_index_lock(journal.lock, journal.lock_content)
            self.checkpoint("locked")
            plan = plan_apply(
                self.workspace,
                self.repository,
                self.git,
                self.scratch,
                paths=paths,
                on_dirty=on_dirty,
                include_ignored=include_ignored,
            )
            if plan.already_applied:
                noted = self._note(plan, token)
                clear_journal(file, journal)
                return plan, noted
            self._check(plan, token)
            self.checkpoint("planned")
            ready = self._prepare(journal, plan, token)
            self.checkpoint("prepared")
            write_journal(file, ready)
        except BaseException as problem:
            clear_journal(file, journal)  # nothing of the user's was touched yet
            if isinstance(problem, OSError):
                raise ApplyRolledBack(
                    f"the apply could not begin ({_reason(problem)}); nothing was written",
                    hint=f"dragoman apply {self.workspace.id} --preview",
                ) from None
            raise
        self._write(file, ready)
        noted = self._note(plan, token)
        with contextlib.suppress(OSError):  # it is done; what is left of it, `recover` removes
            clear_journal(file, journal)
        self.checkpoint("cleared")
        return plan, noted

    def _check(self, plan: Plan, token: str) -> None:
        if plan.conflicts:
            raise ApplyConflict(
                f"workspace {self.workspace.id} cannot be applied: {conflict_list(plan.conflicts)}",
                conflicts=plan.conflicts,
                hint="resolve them, or apply the other files with --paths",
            )
        if plan.token != token:
            raise TokenMismatch(
                f"workspace {self.workspace.id} or your files changed since the preview",
                hint=f"dragoman apply {self.workspace.id} --preview",
            )

    def _prepare(self, journal: Journal, plan: Plan, token: str) -> Journal:
        """Write every new file beside the user's tree and look at every old one."""
        root = self.repository.root
        steps = prepare_files(
            self.workspace.keep(self.git), root, journal.staging, self.scratch, plan, self.lock_fd
        )
        self._check_unmoved(plan)
        new_folders, old_folders = folders_of(root, steps)
        return replace(
            journal,
            phase="writing",
            steps=steps,
            new_folders=new_folders,
            old_folders=old_folders,
            folder_mode=folder_mode(root),
            entry=self._entry(plan, token),
        )

    def _check_unmoved(self, plan: Plan) -> None:
        """Check that the files just looked at are still the ones the plan was made from."""
        keep = self.workspace.keep(self.git)
        said = keep.run(
            *("diff-files", "-z", "--name-only", "--ignore-submodules=all"),
            work_tree=self.repository.root,
            index=plan.index,
        )
        moved = set(said.out.split(b"\0")) & {change.name for change in plan.changes}
        if moved or (self.repository.head() or self.workspace.head) != plan.head:
            raise TokenMismatch(
                "your files changed while they were being applied to; nothing was written",
                hint=f"dragoman apply {self.workspace.id} --preview",
            )

    def _write(self, file: Path, journal: Journal) -> None:
        self.checkpoint("writing")
        try:
            run_steps(journal, lambda: self.checkpoint("step"))
            write_journal(file, replace(journal, phase="done", steps=()))
        except BaseException as problem:
            # Should this fail in its turn, journal and staging stay, and `recover` has another try.
            kept = roll_back(journal, saved_folder(self.workspace.store, journal.lock_content))
            write_journal(file, replace(journal, phase="locking", steps=()))
            clear_journal(file, journal)
            if kept:
                raise RecoveryNeeded(
                    f"the apply stopped ({_reason(problem)}) and was taken back, "
                    "but for files that changed meanwhile",
                    saved=kept,
                    hint="compare the saved files with yours",
                ) from None
            if isinstance(problem, (Moved, OSError)):
                raise ApplyRolledBack(
                    f"the apply stopped ({_reason(problem)}); everything was taken back",
                    hint=f"dragoman apply {self.workspace.id} --preview",
                ) from None
            raise
        self.checkpoint("done")

    def _entry(self, plan: Plan, token: str) -> Applied:
        names = None if plan.names is None else tuple(shown(name) for name in sorted(plan.names))
        return Applied(self.now.isoformat(timespec="microseconds"), token, plan.result_tree, names)

    def _note(self, plan: Plan, token: str) -> Workspace:
        return note_applied(self.workspace, self._entry(plan, token))


def _reason(problem: BaseException) -> str:
    if isinstance(problem, (Moved, DragomanError)):
        return str(problem)
    if isinstance(problem, OSError):
        return problem.strerror or type(problem).__name__
    return "interrupted"


def _staging_place(repository: Repository) -> Path:
    """Choose where to prepare files: on the file system of the work tree, out of sight if possible."""
    if repository.git_dir.stat().st_dev == repository.root.stat().st_dev:
        return repository.git_dir
    return repository.root

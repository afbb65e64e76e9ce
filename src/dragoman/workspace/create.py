"""Making a workspace: a shared clone of the user's repository in the state folder.

The clone is built piece by piece instead of by `git clone --shared`: the same result, but nothing runs on
the user's git folder, no remote with its credentials comes along, and the files are checked out with our
own index.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .changes import GITLINK
from .errors import (
    DirtyRepository,
    GitFailed,
    InvalidRequest,
    NoCommits,
    StoreInsideRepository,
    WorkspaceExists,
)
from .keep import Keep, copy_surroundings, make_keep, write_alternates
from .names import printable, shown
from .repository import Repository
from .settings import render
from .snapshot import copy_index, read_index, split_names, take_snapshot
from .store import (
    DirtyPolicy,
    Workspace,
    check_id,
    private_folder,
    trash_folder,
    workspace_folder,
    write_record,
)

_SNAPSHOT_MESSAGE = "Uncommitted work at the start"
_LISTED_PATHS = 50


def create_workspace(
    repository: Repository,
    store: Path,
    *,
    id: str,
    dirty: DirtyPolicy = "ask",
    sparse: Sequence[str] = (),
    include: Sequence[str] = (),
    now: datetime | None = None,
) -> Workspace:
    """Make a clone for a worker and record what it starts from. The repository is only read.

    Args:
        repository: the user's repository.
        store: the state folder.
        id: name of the new workspace.
        dirty: `ask` refuses when there is uncommitted work, `committed` starts from HEAD without it,
            `snapshot` starts from the files as they are, untracked ones included, ignored ones not.
        sparse: folders to check out, with the files beside and above them; all when empty.
        include: patterns as in `.gitignore`; ignored files they match are copied in.
        now: the time to record.

    Raises:
        NoCommits: there is no commit to start from.
        DirtyRepository: uncommitted work, and the policy is `ask`.
        StoreInsideRepository: the store lies in the user's work tree.
        WorkspaceExists, InvalidRequest: the id is taken, also by something in the trash, or unusable.
        GitFailed: an object is missing (a partial clone), or the disk is full.
    """
    resolved = Path(os.path.realpath(store))
    if resolved.is_relative_to(repository.root):
        raise StoreInsideRepository(
            f"the state folder {resolved} lies inside the repository {repository.root}",
            hint="set DRAGOMAN_HOME to a folder outside of it",
        )
    head = repository.head()
    if head is None:
        raise NoCommits(
            f"{repository.root} has no commit yet, so there is nothing to compare the work with",
            hint="git add -A && git commit",
        )
    folder = workspace_folder(resolved, check_id(id))
    if trash_folder(resolved, id).exists():
        raise WorkspaceExists(f"a discarded workspace {id} is in the trash", hint="choose another id")
    private_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise WorkspaceExists(f"workspace {id} exists already", hint="choose another id") from None
    try:
        return _build(repository, folder, id, head, dirty, tuple(sparse), include, now or datetime.now(UTC))
    except BaseException as problem:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(problem, GitFailed) and repository.settings.partial:
            raise GitFailed(
                f"{repository.root} is a partial clone and not all files needed are there",
                hint="git config --unset remote.origin.partialclonefilter && git fetch --refetch",
            ) from None
        raise


def _build(
    repository: Repository,
    folder: Path,
    id: str,
    head: str,
    dirty: DirtyPolicy,
    sparse: tuple[str, ...],
    include: Sequence[str],
    now: datetime,
) -> Workspace:
    keep = make_keep(repository, folder / "keep.git")
    base = take_base(repository, keep, head, dirty)
    keep.run("update-ref", "--no-deref", "HEAD", base)
    branch = repository.branch()
    base_tree = keep.tree_of(base)
    workspace = Workspace(
        id=id,
        folder=folder,
        repository=repository.root,
        git_dir=repository.git_dir,
        user_objects=repository.object_stores,
        prefix=repository.prefix,
        head=head,
        branch=branch,
        base=base,
        base_tree=base_tree,
        dirty=dirty,
        sparse=sparse,
        submodules=(),
        included=(),
        refused_filters=tuple(sorted(repository.settings.refused_filters)),
        created_at=now.isoformat(timespec="microseconds"),
    )
    patterns = plan_patterns(sparse)
    if not patterns and repository.settings.sparse:
        patterns = _user_patterns(repository)
    cone = bool(sparse) or repository.settings.sparse_cone
    check_out(keep, base, workspace.path, patterns, cone=cone)
    make_clone(repository, keep, workspace.path, base, branch, patterns=patterns, cone=cone)
    workspace = replace(
        workspace,
        submodules=tuple(
            (shown(name), entry.id) for name, entry in read_index(keep, keep.index, only=GITLINK).items()
        ),
    )
    if include:
        workspace = replace(workspace, included=copy_ignored(repository, keep, workspace.path, include))
    if repository.prefix:
        workspace.cwd.mkdir(parents=True, exist_ok=True)
    write_record(workspace)
    return workspace


def take_base(repository: Repository, keep: Keep, head: str, dirty: DirtyPolicy) -> str:
    """Name the commit the worker starts from, made first if it is a snapshot."""
    if dirty == "committed":
        return head
    scratch = keep.dir / "index.start"
    try:
        return _take_snapshot_base(repository, keep, head, dirty, scratch)
    finally:
        scratch.unlink(missing_ok=True)


def _take_snapshot_base(
    repository: Repository, keep: Keep, head: str, dirty: DirtyPolicy, scratch: Path
) -> str:
    taken = take_snapshot(keep, repository.root, repository.index, scratch, untracked=dirty == "snapshot")
    head_tree = keep.tree_of(head)
    if dirty == "snapshot":
        return head if taken == head_tree else keep.commit(taken, [head], _SNAPSHOT_MESSAGE)
    names = split_names(keep.run("diff-tree", "-r", "-z", "--name-only", head_tree, taken).out)
    listed = keep.run(
        *("ls-files", "-z", "--others", "--exclude-standard", "--directory", "--no-empty-directory"),
        work_tree=repository.root,
        index=scratch,
    )
    names += split_names(listed.out)
    if names:
        first = ", ".join(printable(name) for name in names[:3]) + (", …" if len(names) > 3 else "")
        raise DirtyRepository(
            f"{repository.root} has uncommitted work ({first})",
            paths=[shown(name) for name in names[:_LISTED_PATHS]],
            total=len(names),
            hint="choose dirty_policy snapshot (start from it) or committed (start without it)",
        )
    return head


def check_out(keep: Keep, commit: str, tree: Path, patterns: str, *, cone: bool) -> None:
    """Write the files of a commit into a new folder, with the keep's index.

    Args:
        keep: our git folder; its sparse patterns are set here.
        commit: what to write.
        tree: where; it is created.
        patterns: contents of `info/sparse-checkout`, empty for all files.
        cone: whether the patterns are folders only.
    """
    tree.mkdir(mode=0o700, exist_ok=True)
    if patterns:
        _set_sparse(keep.dir, patterns, cone=cone)
    keep.run("read-tree", "-m", "-u", commit, work_tree=tree, index=keep.index)


def _set_sparse(git_dir: Path, patterns: str, *, cone: bool) -> None:
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info" / "sparse-checkout").write_text(patterns, encoding="utf-8", errors="surrogateescape")
    with (git_dir / "config").open("a", encoding="utf-8") as config:
        values = (("core.sparseCheckout", "true"), ("core.sparseCheckoutCone", "true" if cone else "false"))
        config.write(render(values))


def make_clone(
    repository: Repository,
    keep: Keep,
    tree: Path,
    commit: str,
    branch: str | None,
    *,
    patterns: str = "",
    cone: bool = True,
    stores: Sequence[Path] = (),
) -> None:
    """Give a checked-out folder a git folder of its own, sharing objects with the keep and the user.

    It has the user's branches and tags as they are, no remote, and stands on the user's branch at `commit`.
    """
    git, git_dir = repository.git, tree / ".git"
    git.run(["init", "--quiet", "--template=", f"--object-format={repository.object_format}", str(tree)])
    values = (
        *repository.settings.plain,
        *repository.settings.filters,
        ("user.name", "dragoman worker"),
        ("user.email", "worker@localhost"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
    )
    with (git_dir / "config").open("a", encoding="utf-8", errors="surrogateescape") as config:
        config.write(render(values))
    write_alternates(git_dir / "objects", stores or [keep.objects, *repository.object_stores])
    copy_surroundings(repository, git_dir)
    if patterns:
        _set_sparse(git_dir, patterns, cone=cone)
    here = f"refs/heads/{branch}" if branch else None
    seen = ("refs/heads", "refs/tags", "refs/remotes")
    refs = repository.read("for-each-ref", "--format=%(objectname) %(refname)", *seen).text
    lines = {line.split(" ", 1)[1]: line for line in refs.split("\n") if line}
    if here:
        lines[here] = f"{commit} {here}"
    packed = "".join(f"{lines[name]}\n" for name in sorted(lines))
    (git_dir / "packed-refs").write_text(packed, encoding="utf-8", errors="surrogateescape")
    head = f"ref: {here}\n" if here else f"{commit}\n"
    (git_dir / "HEAD").write_text(head, encoding="utf-8", errors="surrogateescape")
    copy_index(keep.index, git_dir / "index")


def plan_patterns(folders: Sequence[str]) -> str:
    """Write cone patterns for folders: all below them, and the files directly in each folder above them.

    Args:
        folders: names relative to the top, with `/`; empty means no patterns at all.

    Raises:
        InvalidRequest: a name leaves the work tree.
    """
    if not folders:
        return ""
    wanted: set[str] = set()
    for folder in folders:
        parts = [part for part in folder.split("/") if part not in ("", ".")]
        if ".." in parts or folder.startswith("/") or "\n" in folder:
            raise InvalidRequest(f"{folder!r} is not a folder of the repository", hint="name it from the top")
        if not parts:
            return ""
        wanted.add("/".join(parts))
    whole = {w for w in wanted if not any(w.startswith(f"{other}/") for other in wanted)}
    above = {"/".join(w.split("/")[:n]) for w in whole for n in range(1, w.count("/") + 1)}
    lines = ["/*", "!/*/"]
    for name in sorted(whole | above):
        lines.append(f"/{_escape(name)}/")
        if name in above:
            lines.append(f"!/{_escape(name)}/*/")
    return "\n".join(lines) + "\n"


def _escape(name: str) -> str:
    for character in "\\*?[":
        name = name.replace(character, "\\" + character)
    return name


def _user_patterns(repository: Repository) -> str:
    file = repository.git_dir / "info" / "sparse-checkout"
    return file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else ""


def copy_ignored(
    repository: Repository, keep: Keep, tree: Path, patterns: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """Copy ignored files of the user into the worker's tree, where asked for.

    Args:
        repository: whose files.
        keep: our git folder, for matching.
        tree: the worker's tree.
        patterns: as in `.gitignore`. Only files that the repository ignores and these match are copied;
            symbolic links and anything below one are not.

    Returns:
        Names copied, with the SHA-256 of their content.
    """
    chosen = keep.dir / "include"
    chosen.write_text("\n".join(patterns) + "\n", encoding="utf-8")
    ignored = ("ls-files", "-z", "--others", "--ignored")

    def listed(*rules: str) -> set[bytes]:
        return set(split_names(keep.run(*ignored, *rules, work_tree=repository.root, index=keep.index).out))

    asked = listed("--exclude-from", str(chosen)) & listed("--exclude-standard")
    copied: list[tuple[str, str]] = []
    for name in sorted(asked):
        source, target = repository.root / os.fsdecode(name), tree / os.fsdecode(name)
        inside = Path(os.path.realpath(source)) == source
        if not inside or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
        copied.append((shown(name), hashlib.sha256(target.read_bytes()).hexdigest()))
    return tuple(copied)


def worktree_include(repository: Repository) -> tuple[str, ...]:
    """Read the patterns of `.worktreeinclude` at the top of the repository, for
    `create_workspace(include=...)`.

    Only to be used where the user opted in: the file may have come with the repository.
    """
    file = repository.root / ".worktreeinclude"
    if file.is_symlink() or not file.is_file():
        return ()
    lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return tuple(line for line in lines if line.strip() and not line.startswith("#"))

"""Working out what an apply would write, without writing it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .changes import GITLINK, NO_MODE, Change, diff_raw, diff_trees, read_diff
from .checks import check_disk
from .conflicts import Conflict, Side
from .delta import take_result
from .errors import InvalidRequest, NoChanges
from .git import Git
from .keep import Keep
from .merge import merge_trees
from .names import is_under, printable, unshown
from .repository import Repository
from .settings import is_true
from .snapshot import Skipped, copy_index, hash_files, read_index, split_names
from .store import Workspace
from .trees import Entry, edit_tree, look_up

DirtyOverlap = Literal["refuse", "merge"]


@dataclass(frozen=True)
class Plan:
    """What an apply would do.

    Attributes:
        token: names exactly this plan; see `plan_token`.
        head: the user's HEAD commit.
        result_tree: the worker's whole result.
        ours: a tree of the user's files: HEAD's, but for the files the delta concerns, which are as on disk.
        index: an index of just those files, with their stat data.
        target: the tree the user's files would become; None with conflicts from the merge.
        changes: what would be written, without renames: one entry for each file.
        conflicts: what stands in the way.
        names: the part of the delta asked for; None for all.
        delta: the worker's changes, all of them, without renames.
        merged: names both sides changed and the merge combined.
        crlf: names whose new content is written with CRLF, as the user's file has it.
    """

    token: str
    head: str
    result_tree: str
    ours: str
    index: Path
    target: str | None
    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]
    names: frozenset[bytes] | None
    delta: tuple[Change, ...]
    merged: tuple[bytes, ...]
    crlf: frozenset[bytes]

    @property
    def already_applied(self) -> bool:
        """Whether the user's files hold the whole change already."""
        return not self.changes and not self.conflicts


def plan_apply(
    workspace: Workspace,
    repository: Repository,
    git: Git,
    scratch: Path,
    *,
    paths: Sequence[str] = (),
    on_dirty: DirtyOverlap = "refuse",
    include_ignored: Sequence[str] = (),
) -> Plan:
    """Merge the worker's delta into the user's files, on tree objects only.

    Args:
        workspace: whose delta.
        repository: the user's repository.
        git: the program.
        scratch: folder for temporary files, which the plan refers to.
        paths: names of changed files, or folders, to limit it to; everything when empty.
        on_dirty: what to do where the user has uncommitted edits in a file the delta changes.
        include_ignored: names of ignored files, or folders, that count as changes.

    Raises:
        NoChanges: the worker changed nothing.
        InvalidRequest: a path is not in the delta.
        WorkspaceDamaged, GitFailed: see `take_result`.
    """
    keep = workspace.keep(git)
    base_tree = workspace.base_tree
    result = take_result(workspace, git, include_ignored)
    everything = diff_trees(keep, base_tree, result.tree, renames=False)
    if not everything and not result.skipped:
        raise NoChanges(f"workspace {workspace.id} holds no change against its base")
    wanted = _choose(keep, workspace, result.tree, everything, paths)
    chosen = tuple(change for change in everything if wanted is None or change.name in wanted)
    theirs = result.tree
    if wanted is not None:
        theirs = edit_tree(keep, base_tree, {change.name: _entry(change) for change in chosen})

    head = repository.head() or workspace.head
    ours = _look_at_users(keep, repository, scratch, head, [change.name for change in chosen])
    while True:
        merge = merge_trees(keep, workspace.base, base_tree, ours.tree, theirs)
        raw = b"" if merge.conflicts else diff_raw(keep, ours.tree, merge.tree, renames=False)
        changes = read_diff(raw)
        # A merge may follow a moved folder to files that were not looked at yet.
        more = {change.name for change in changes} - ours.disk.keys()
        if not more:
            break
        ours = _look_at_users(keep, repository, scratch, head, [*ours.disk, *more])

    conflicts = list(merge.conflicts)
    if wanted is None:
        conflicts += _unsupported(result.skipped)
    conflicts += _unsupported(ours.unreadable)
    conflicts += _submodules(chosen)
    if not merge.conflicts:
        conflicts += _moved(keep, base_tree, ours, chosen)
    at_base = {change.name: _old_entry(change) for change in everything}
    changed_since = {name for name, entry in ours.disk.items() if entry != at_base.get(name)}
    if on_dirty == "refuse":
        touched = {change.name for change in changes} | {conflict.name for conflict in conflicts}
        dirty = {name for name in touched & changed_since if ours.disk[name] != ours.head.get(name)}
        conflicts = [conflict for conflict in conflicts if conflict.name not in dirty]
        conflicts += [_dirty(name, at_base.get(name), ours.disk[name]) for name in sorted(dirty)]
    in_the_way = {conflict.name for conflict in conflicts}
    checked = check_disk(
        keep,
        repository.root,
        ours.index,
        merge.tree,
        [change for change in changes if change.name not in in_the_way],
        frozenset(workspace.refused_filters),
    )
    conflicts += checked.conflicts
    conflicts.sort(key=lambda conflict: conflict.name)
    both = {change.name for change in chosen} & {change.name for change in changes} & changed_since
    return Plan(
        token=plan_token(workspace, head, theirs, raw, conflicts, on_dirty),
        head=head,
        result_tree=result.tree,
        ours=ours.tree,
        index=ours.index,
        target=None if merge.conflicts else merge.tree,
        changes=changes,
        conflicts=tuple(conflicts),
        names=wanted,
        delta=everything,
        merged=tuple(sorted(both)),
        crlf=checked.crlf,
    )


@dataclass(frozen=True)
class _Users:
    """The user's files, as far as the delta concerns them.

    Attributes:
        tree: HEAD's tree with these files as they are on disk.
        disk: what is on disk.
        head: what HEAD has.
        index: an index of the files on disk.
        unreadable: files that could not be read.
    """

    tree: str
    disk: Mapping[bytes, Entry | None]
    head: Mapping[bytes, Entry | None]
    index: Path
    unreadable: tuple[Skipped, ...]


def _look_at_users(
    keep: Keep, repository: Repository, scratch: Path, head: str, names: Sequence[bytes]
) -> _Users:
    """Read the user's files of these names; the rest of a large repository is not looked at."""
    head_tree = keep.tree_of(head)
    before = look_up(keep, head_tree, names)
    index = scratch / "index.ours"
    modes = _recorded_modes(keep, repository, scratch, names, before)
    found = hash_files(keep, repository.root, index, names, seed=modes)
    disk = dict(found.entries)
    left_out = _left_out_by_sparse(keep, repository, scratch) if repository.settings.sparse else set[bytes]()
    for name, entry in before.items():
        submodule = entry is not None and entry.mode == GITLINK  # left alone, whatever it contains
        if submodule or (name in left_out and disk.get(name) is None):
            disk[name] = entry
    skipped = tuple(item for item in found.skipped if disk.get(item.name) is None)
    disk.update({item.name: before.get(item.name) for item in skipped})
    return _Users(edit_tree(keep, head_tree, disk), disk, before, index, skipped)


def _recorded_modes(
    keep: Keep,
    repository: Repository,
    scratch: Path,
    names: Sequence[bytes],
    head: Mapping[bytes, Entry | None],
) -> Mapping[bytes, Entry | None]:
    """Where the user's disk cannot tell executables or symbolic links, take what the index or HEAD says."""
    plain = dict(repository.settings.plain)
    if is_true(plain.get("core.filemode", "true")) and is_true(plain.get("core.symlinks", "true")):
        return {}
    copy = scratch / "index.user"
    copy_index(repository.index, copy)
    staged = read_index(keep, copy) if copy.exists() else {}
    return {name: staged.get(name) or head.get(name) for name in names}


def _left_out_by_sparse(keep: Keep, repository: Repository, scratch: Path) -> set[bytes]:
    """Name the files the user's sparse checkout leaves out."""
    copy = scratch / "index.user"
    copy_index(repository.index, copy)
    listed = keep.run("-c", "core.sparseCheckout=false", "ls-files", "-z", "-t", index=copy).out
    return {line[2:] for line in split_names(listed) if line.startswith(b"S ")}


def plan_token(
    workspace: Workspace,
    head: str,
    theirs: str,
    raw: bytes,
    conflicts: Iterable[Conflict],
    on_dirty: DirtyOverlap,
) -> str:
    """Name a plan by all it depends on.

    That is: the workspace, its base, the user's HEAD, the worker's files, what is in the user's files at
    every path that would be written and what would be there after. Edits elsewhere do not change it.
    """
    digest = hashlib.sha256(b"dragoman apply 1\0")
    for part in (workspace.id, workspace.base_tree, head, theirs, on_dirty):
        digest.update(part.encode() + b"\0")
    digest.update(raw)
    for conflict in conflicts:
        digest.update(b"\0" + conflict.kind.encode() + b" " + conflict.name)
        digest.update(str((conflict.base, conflict.ours, conflict.theirs)).encode())
    return digest.hexdigest()


def _choose(
    keep: Keep, workspace: Workspace, result: str, everything: tuple[Change, ...], paths: Sequence[str]
) -> frozenset[bytes] | None:
    """Turn the paths asked for into names of the delta; a moved file brings its old name along."""
    if not paths:
        return None
    tops = frozenset(unshown(path).rstrip(b"/") for path in paths)
    moved = {
        change.name: change.old_name
        for change in diff_trees(keep, workspace.base_tree, result, renames=True)
        if change.status == "renamed"
    }
    chosen = {change.name for change in everything if is_under(change.name, tops)}
    for top in sorted(tops):
        if not any(is_under(name, frozenset({top})) for name in chosen):
            raise InvalidRequest(
                f"{printable(top)} is not among the changes of workspace {workspace.id}",
                hint=f"dragoman workspace show {workspace.id}",
            )
    chosen |= {old for new, old in moved.items() if new in chosen and old is not None}
    return frozenset(chosen)


def _unsupported(skipped: Iterable[Skipped]) -> list[Conflict]:
    conflicts: list[Conflict] = []
    for item in skipped:
        text = printable(item.name)
        match item.reason:
            case "nested_repository":
                what = f"{text}: is a repository of its own and cannot be applied"
            case "in_submodule":
                what = f"{text}: is a submodule; what was put into it cannot be applied"
            case "unreadable":
                what = f"{text}: cannot be read"
        kind = "submodule" if item.reason == "in_submodule" else "unsupported_file"
        conflicts.append(Conflict(item.name, kind, what))
    return conflicts


def _submodules(chosen: Iterable[Change]) -> list[Conflict]:
    return [
        Conflict(
            change.name,
            "submodule",
            f"{printable(change.name)}: a submodule pointer changed; submodules are never applied",
            base=_side(change.old_mode, change.old_id),
            theirs=_side(change.new_mode, change.new_id),
        )
        for change in chosen
        if GITLINK in (change.old_mode, change.new_mode)
    ]


def _moved(keep: Keep, base_tree: str, ours: _Users, chosen: Iterable[Change]) -> list[Conflict]:
    """Find files the worker changed in place and the user moved: the merge follows, we ask first."""
    gone = [
        change
        for change in chosen
        if NO_MODE not in (change.old_mode, change.new_mode) and ours.disk.get(change.name) is None
    ]
    if not gone:
        return []
    moves = {
        change.old_name: change.name
        for change in diff_trees(keep, base_tree, ours.tree, renames=True)
        if change.status == "renamed"
    }
    return [
        Conflict(
            change.name,
            "renamed_in_main" if change.name in moves else "deleted_in_main",
            f"{printable(change.name)}: the worker changed it, you "
            + (f"moved it to {printable(moves[change.name])}" if change.name in moves else "removed it"),
            base=_side(change.old_mode, change.old_id),
            theirs=_side(change.new_mode, change.new_id),
            other=moves.get(change.name),
        )
        for change in gone
    ]


def _dirty(name: bytes, base: Entry | None, disk: Entry | None) -> Conflict:
    return Conflict(
        name,
        "dirty",
        f"{printable(name)}: you have uncommitted edits in it",
        base=Side(base.mode, base.id) if base else None,
        ours=Side(disk.mode, disk.id) if disk else None,
    )


def _entry(change: Change) -> Entry | None:
    return None if change.new_mode == NO_MODE else Entry(change.new_mode, change.new_id)


def _old_entry(change: Change) -> Entry | None:
    return None if change.old_mode == NO_MODE else Entry(change.old_mode, change.old_id)


def _side(mode: str, content: str) -> Side | None:
    return None if mode == NO_MODE else Side(mode, content)


def conflict_list(conflicts: Iterable[Conflict]) -> str:
    """Name the first few conflicts in one line."""
    listed = list(conflicts)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return "; ".join(conflict.message for conflict in listed[:3]) + more

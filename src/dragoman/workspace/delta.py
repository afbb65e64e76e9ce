"""What the worker changed: the files in its tree against the recorded base.

Commits, amends, resets and branch switches in the worker's clone make no difference, since its files are
compared and nothing in its git folder is believed, but for two hints of its index: files it added by force,
and folders it does not check out.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .changes import GITLINK, Change, diff_trees
from .errors import GitFailed, InvalidRequest, WorkspaceDamaged
from .git import Git
from .keep import Keep
from .names import is_under, shown, unshown
from .snapshot import Skipped, find_changed, hash_files, read_index, split_names
from .store import Workspace, check_tree, scratch_folder
from .trees import Entry, edit_tree

_IGNORED_LISTED = 100
_INDEX_LIMIT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class IgnoredFile:
    """A file the worker made that an ignore rule keeps out of the delta.

    Attributes:
        path: its name, or its folder's with a final `/` when everything in it is ignored.
        rule, source, line: the rule and where it stands; empty and 0 when git did not say.
    """

    path: str
    rule: str
    source: str
    line: int


@dataclass(frozen=True)
class Delta:
    """The worker's result.

    Attributes:
        base_tree: what it is measured against.
        tree: the result as a tree, held in the keep.
        changes: changed files, sorted by name, renames paired.
        skipped: files that cannot be part of a tree, such as repositories inside the tree.
        ignored: files kept out by ignore rules, at most 100 of them.
        ignored_total: how many there are.
    """

    base_tree: str
    tree: str
    changes: tuple[Change, ...]
    skipped: tuple[Skipped, ...]
    ignored: tuple[IgnoredFile, ...]
    ignored_total: int

    @property
    def added_lines(self) -> int:
        """Lines added over all text files."""
        return sum(change.added_lines or 0 for change in self.changes)

    @property
    def deleted_lines(self) -> int:
        """Lines deleted over all text files."""
        return sum(change.deleted_lines or 0 for change in self.changes)

    @property
    def submodules(self) -> tuple[str, ...]:
        """Submodule pointers that changed; these are never applied."""
        return tuple(c.path for c in self.changes if GITLINK in (c.old_mode, c.new_mode))


def delta(
    workspace: Workspace,
    *,
    git: Git | None = None,
    include_ignored: Sequence[str] = (),
    ignored: bool = True,
) -> Delta:
    """Find what the worker changed against the recorded base. Writes only into the keep.

    Args:
        workspace: whose tree to look at; no worker should be writing in it.
        git: the program; looked up when not given.
        include_ignored: names of ignored files, or folders, that count as changes all the same.
        ignored: whether to list the ignored files.

    Raises:
        WorkspaceDamaged: the tree, its `.git` or the base's objects are gone.
        GitFailed: git could not read or write an object.
    """
    git = git or Git.find()
    taken = take_result(workspace, git, include_ignored)
    keep = workspace.keep(git)
    listed, total = _ignored(workspace, keep, include_ignored) if ignored else ((), 0)
    return Delta(
        base_tree=workspace.base_tree,
        tree=taken.tree,
        changes=diff_trees(keep, workspace.base_tree, taken.tree, renames=True, lines=True),
        skipped=taken.skipped,
        ignored=listed,
        ignored_total=total,
    )


def patch(
    workspace: Workspace, *, git: Git | None = None, paths: Sequence[str] = (), tree: str | None = None
) -> bytes:
    """Give the delta as a patch that `git apply` takes on the base: binary files, modes and renames included.

    Args:
        workspace: whose delta.
        git: the program; looked up when not given.
        paths: names, or folders, to limit it to.
        tree: a result already taken (`Delta.tree`); else the files are looked at again.
    """
    git = git or Git.find()
    keep = workspace.keep(git)
    return diff_patch(keep, workspace.base_tree, tree or take_result(workspace, git).tree, paths)


def diff_patch(keep: Keep, old: str, new: str, paths: Sequence[str] = ()) -> bytes:
    """Give the difference of two trees as a patch, independent of the account's diff settings."""
    return keep.run(
        *("diff-tree", "-r", "-p", "-M", "--binary", "--full-index", "--no-color", "--no-ext-diff"),
        *("--no-textconv", "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--diff-algorithm=myers"),
        *(old, new, "--", *(unshown(path) for path in paths)),
    ).out


@dataclass(frozen=True)
class Result:
    """The worker's files as a tree in the keep, and files that could not be part of it."""

    tree: str
    skipped: tuple[Skipped, ...]


def take_result(workspace: Workspace, git: Git, include_ignored: Sequence[str] = ()) -> Result:
    """Turn the worker's files into a tree in the keep.

    Raises:
        WorkspaceDamaged: the tree, its `.git`, its index or the base's objects are gone.
        InvalidRequest: no ignored file has one of the names to include.
    """
    check_tree(workspace)
    keep = workspace.keep(git)
    if not keep.index.is_file() or not keep.has(workspace.base_tree):
        raise WorkspaceDamaged(
            f"the commit workspace {workspace.id} started from is no longer in {workspace.repository}",
            hint=f"the worker's files are still in {workspace.path}",
        )
    names = find_changed(keep, workspace.path, keep.index, untracked=True)
    names.update(_matching(workspace, keep, include_ignored))
    with scratch_folder(workspace) as scratch:
        hint = _worker_hint(workspace, keep, scratch)
        names |= hint.forced
        found = hash_files(keep, workspace.path, scratch / "index.result", names, own_disk=True)
        submodules = {
            unshown(name): (commit, _look_at_submodule(workspace, keep, scratch, unshown(name)))
            for name, commit in workspace.submodules
        }
    edits = {name: entry for name, entry in found.entries.items() if entry or name not in hint.sparse}
    skipped = [item for item in found.skipped if item.name not in submodules]
    for raw, (commit, seen) in submodules.items():
        match seen:
            case "untouched":
                edits.pop(raw, None)
            case "filled":
                skipped.append(Skipped(raw, "in_submodule"))
            case Entry() as entry if entry.id != commit:
                edits[raw] = entry
            case None:
                edits[raw] = None
            case _:
                pass
    return Result(edit_tree(keep, workspace.base_tree, edits), tuple(skipped))


def _look_at_submodule(
    workspace: Workspace, keep: Keep, scratch: Path, name: bytes
) -> Entry | Literal["untouched", "filled"] | None:
    """See what became of a submodule's folder, which was empty at the start.

    Returns:
        The commit of a repository put there, None when the folder is gone, else whether it is still empty.
    """
    folder = workspace.path / os.fsdecode(name)
    if folder.is_symlink() or not folder.is_dir():
        return None
    if (folder / ".git").exists():
        index = scratch / "index.submodule"
        index.unlink(missing_ok=True)
        run = ("update-index", "-z", "--add", "--stdin")
        done = keep.run(*run, work_tree=workspace.path, index=index, stdin=name + b"\0", ok=(0, 128))
        return read_index(keep, index).get(name, "filled") if done.status == 0 else "filled"
    return "filled" if any(folder.iterdir()) else "untouched"


def _matching(workspace: Workspace, keep: Keep, include: Sequence[str]) -> list[bytes]:
    if not include:
        return []
    tops = frozenset(unshown(name).rstrip(b"/") for name in include)
    listed = keep.run(
        *("ls-files", "-z", "--others", "--ignored", "--exclude-standard"),
        work_tree=workspace.path,
        index=keep.index,
    )
    found = [name for name in split_names(listed.out) if is_under(name, tops)]
    missing = [top for top in tops if not any(is_under(name, frozenset({top})) for name in found)]
    if missing:
        raise InvalidRequest(
            f"no ignored file is named {shown(missing[0])}", hint=f"dragoman workspace show {workspace.id}"
        )
    return found


@dataclass(frozen=True)
class _Hint:
    """What the worker's index adds to the sight of its files: added by force, and left out as sparse."""

    forced: frozenset[bytes] = frozenset()
    sparse: frozenset[bytes] = frozenset()


def _worker_hint(workspace: Workspace, keep: Keep, scratch: Path) -> _Hint:
    """Read the worker's index for files it added by force (`git add -f`) and folders it does not check out.

    The index is the worker's: it is read as data, from a copy, and one that git cannot read is no hint at
    all.
    """
    copy = scratch / "index.worker"
    if _is_untouched(workspace.path / ".git" / "index", keep.index):
        return _Hint()
    try:
        descriptor = os.open(workspace.path / ".git" / "index", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return _Hint()
    with os.fdopen(descriptor, "rb") as source:
        details = os.fstat(descriptor)
        if not stat.S_ISREG(details.st_mode) or details.st_size > _INDEX_LIMIT_BYTES:
            return _Hint()
        copy.write_bytes(source.read())
    try:
        # Our sparse patterns must not be applied to it: they would clear the very marks that are looked for.
        listed = keep.run("-c", "core.sparseCheckout=false", "ls-files", "-z", "-t", index=copy).out
        ours = set(split_names(keep.run("ls-files", "-z", index=keep.index).out))
    except GitFailed:
        return _Hint()
    tagged = split_names(listed)
    return _Hint(
        forced=frozenset(line[2:] for line in tagged) - ours,
        sparse=frozenset(line[2:] for line in tagged if line.startswith(b"S ")),
    )


def _is_untouched(theirs: Path, ours: Path) -> bool:
    """Tell whether the worker's index is still the copy it was given, by size and time."""
    try:
        left, right = theirs.lstat(), ours.lstat()
    except OSError:
        return False
    return (left.st_size, left.st_mtime_ns) == (right.st_size, right.st_mtime_ns)


def _ignored(workspace: Workspace, keep: Keep, include: Sequence[str]) -> tuple[tuple[IgnoredFile, ...], int]:
    """List ignored files, but for those copied in at the start and unchanged since."""
    listed = keep.run(
        *("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"),
        work_tree=workspace.path,
        index=keep.index,
    )
    tops = frozenset(unshown(name).rstrip(b"/") for name in include)
    copied = dict(workspace.included)
    names = [
        name
        for name in split_names(listed.out)
        if not is_under(name.rstrip(b"/"), tops)
        and not _is_as_copied(workspace, name, copied.get(shown(name)))
    ]
    first = names[:_IGNORED_LISTED]
    return tuple(_explain(workspace, keep, keep.index, first)), len(names)


def _is_as_copied(workspace: Workspace, name: bytes, digest: str | None) -> bool:
    if digest is None:
        return False
    try:
        descriptor = os.open(os.fsencode(workspace.path) + b"/" + name, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _explain(workspace: Workspace, keep: Keep, index: Path, names: list[bytes]) -> list[IgnoredFile]:
    if not names:
        return []
    said = keep.run(
        *("check-ignore", "-z", "-v", "--no-index", "--stdin"),
        work_tree=workspace.path,
        index=index,
        stdin=b"\0".join(names) + b"\0",
        env={"GIT_LITERAL_PATHSPECS": "0"},  # this command refuses to run with it
        ok=(0, 1),
    )
    fields = said.out.split(b"\0")
    rules = {fields[n + 3]: fields[n : n + 3] for n in range(0, len(fields) - 3, 4)}
    found: list[IgnoredFile] = []
    for name in names:
        source, line, rule = rules.get(name, [b"", b"0", b""])
        shown_source = re.sub(rb"^.*/keep\.git/", b".git/", source)
        found.append(IgnoredFile(shown(name), shown(rule), shown(shown_source), int(line or b"0")))
    return found

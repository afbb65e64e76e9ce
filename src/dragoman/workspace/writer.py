"""Writing prepared files into the user's work tree, and taking that back.

Every path is walked from the top by open folders, never through a symbolic link. An old file is moved away,
looked at, and only then is the new one linked in its place, which fails if something came there meanwhile:
nothing of the user's is ever overwritten, and what is taken back is the very file that was there.
"""
# pathlib knows neither names that are bytes nor open folders.
# ruff: noqa: PTH108

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from .journal import Identity, Journal, Step
from .names import parents, printable, shown

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EACCES, errno.ENOSYS)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Moved(Exception):
    """A file was no longer what had been checked."""

    def __init__(self, name: bytes, what: str) -> None:
        super().__init__(f"{printable(name)} {what}")


class WorkTree:
    """Folders of a work tree, opened step by step from its top. Close it after use."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _FOLDER)
        self._kept: tuple[bytes, int] | None = None

    def close(self) -> None:
        """Close every folder."""
        self._forget()
        os.close(self._root)

    def __enter__(self) -> WorkTree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _forget(self) -> None:
        if self._kept is not None:
            os.close(self._kept[1])
            self._kept = None

    def folder(self, name: bytes, *, make_mode: int | None = None) -> int:
        """Open a folder; the descriptor stays ours and is good until the next call.

        Args:
            name: relative to the top, empty for the top.
            make_mode: permissions to make missing folders with; None to fail on them.

        Raises:
            OSError: missing, or something on the way is not a folder.
        """
        if not name:
            return self._root
        if self._kept is not None and self._kept[0] == name:
            return self._kept[1]
        self._forget()
        at = os.dup(self._root)
        for part in name.split(b"/"):
            try:
                try:
                    below = os.open(part, _FOLDER, dir_fd=at)
                except FileNotFoundError:
                    if make_mode is None:
                        raise
                    os.mkdir(part, make_mode, dir_fd=at)
                    below = os.open(part, _FOLDER, dir_fd=at)
                    os.fchmod(below, make_mode)  # whatever the umask of a daemon is
            finally:
                os.close(at)
            at = below
        self._kept = (name, at)
        return at

    def look(self, name: bytes) -> os.stat_result | None:
        """Look at a file without following a link; None when it, or a folder above it, is not there."""
        above, _, last = name.rpartition(b"/")
        try:
            return os.lstat(last, dir_fd=self.folder(above))
        except OSError as problem:
            if problem.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def remove_folder(self, name: bytes) -> bool:
        """Remove a folder if it is empty, and say whether it was."""
        above, _, last = name.rpartition(b"/")
        self._forget()
        try:
            os.rmdir(last, dir_fd=self.folder(above))
        except OSError:
            return False
        return True


def run_steps(journal: Journal, step_done: Callable[[], None]) -> None:
    """Carry out every step of a journal that is already on disk.

    Args:
        journal: in phase `writing`.
        step_done: called after each step.

    Raises:
        Moved: a file was not what had been checked; the caller takes everything back.
        OSError: the disk refused.
    """
    staging = os.fsencode(journal.staging)
    with WorkTree(journal.root) as tree:
        removals = [step for step in journal.steps if step.new is None]
        for step in removals:
            _take(tree, staging, step)
            step_done()
        for folder, _ in sorted(journal.old_folders, reverse=True):
            tree.remove_folder(folder)
        for step in journal.steps:
            if step.new is None:
                continue
            if step.had is not None:
                _take(tree, staging, step)
            _put(tree, staging, step, journal.folder_mode)
            step_done()


def _take(tree: WorkTree, staging: bytes, step: Step) -> None:
    """Move the old file away, and put it back if it is not the one that was checked."""
    above, _, last = step.name.rpartition(b"/")
    old = staging + b"/old/%d" % step.number
    try:
        os.rename(last, old, src_dir_fd=tree.folder(above))
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise Moved(step.name, "disappeared") from None
        raise
    if Identity.of(os.lstat(old)) != step.had:
        raise Moved(step.name, "was changed a moment ago")


def _put(tree: WorkTree, staging: bytes, step: Step, folder_mode: int) -> None:
    above, _, last = step.name.rpartition(b"/")
    try:
        place = tree.folder(above, make_mode=folder_mode)
    except OSError as problem:
        if problem.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Moved(step.name, "is now behind something that is not a folder") from None
        raise
    try:
        _link(staging + b"/new/" + step.name, last, place)
    except FileExistsError:
        raise Moved(step.name, "appeared a moment ago") from None


def _link(source: bytes, name: bytes, folder: int) -> None:
    """Give a file a name in a folder, never over another file.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(source, name, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        # A file system without hard links: look, then rename.
        with contextlib.suppress(FileNotFoundError):
            os.lstat(name, dir_fd=folder)
            raise FileExistsError(errno.EEXIST, "exists") from None
        os.rename(source, name, dst_dir_fd=folder)


def roll_back(journal: Journal, saved: Path) -> list[tuple[str, str]]:
    """Put everything back as it was before the first step. May be repeated after being interrupted.

    Args:
        journal: in phase `writing`.
        saved: where a file goes that cannot go back, because something else has taken its place since, and
            where a new file goes that was edited since.

    Returns:
        For each such file its display name and where it is now; empty when all is as before.
    """
    kept: list[tuple[str, str]] = []
    staging = os.fsencode(journal.staging)
    modes = dict(journal.old_folders)
    with WorkTree(journal.root) as tree:
        # What was written goes first, then the folders made for it: a removed file may have had such a
        # folder's name.
        for step in reversed([step for step in journal.steps if step.new is not None]):
            _untake(tree, staging, step, modes, saved, kept)
        for folder in sorted(journal.new_folders, reverse=True):
            tree.remove_folder(folder)
        for step in reversed([step for step in journal.steps if step.new is None]):
            _untake(tree, staging, step, modes, saved, kept)
    return kept


def _untake(
    tree: WorkTree,
    staging: bytes,
    step: Step,
    modes: dict[bytes, int],
    saved: Path,
    kept: list[tuple[str, str]],
) -> None:
    above, _, last = step.name.rpartition(b"/")
    old = staging + b"/old/%d" % step.number
    there = tree.look(step.name)
    taken = os.lstat(old) if os.path.lexists(old) else None
    if there is not None and step.new is not None and step.new.same_file(there):
        place = tree.folder(above)
        if Identity.of(there) == step.new:
            os.unlink(last, dir_fd=place)
        else:  # ours, but edited since
            kept.append((shown(step.name), _save(saved, step.name, last, place)))
        there = None
    if taken is None:
        return
    if there is not None and os.path.samestat(there, taken):
        os.unlink(old)  # put back by a take-back that was interrupted
        return
    try:
        if there is not None:
            raise FileExistsError(errno.EEXIST, "something else is there")
        for folder in parents(step.name):
            tree.folder(folder, make_mode=modes.get(folder, 0o755))
        _link(old, last, tree.folder(above))
    except OSError as problem:
        if problem.errno not in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
            raise
        kept.append((shown(step.name), _save(saved, step.name, old, None)))
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(old)


def _save(saved: Path, name: bytes, source: bytes, folder: int | None) -> str:
    """Move a file that has no place of its own to where it is kept, also onto another disk."""
    saved.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = sum(1 for _ in saved.iterdir())
    target = saved / f"{number}-{os.fsdecode(name.rpartition(b'/')[2])}"
    try:
        os.rename(source, target, src_dir_fd=folder)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        if stat.S_ISLNK(os.lstat(source, dir_fd=folder).st_mode):
            target.symlink_to(os.fsdecode(os.readlink(source, dir_fd=folder)))
        else:
            descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as old, target.open("xb") as new:
                shutil.copyfileobj(old, new)
        os.unlink(source, dir_fd=folder)
    return str(target)


def folders_of(
    root: Path, steps: tuple[Step, ...]
) -> tuple[tuple[bytes, ...], tuple[tuple[bytes, int], ...]]:
    """Find which folders the steps make, and which they may empty, with their permissions."""
    needed = {parent for step in steps if step.new is not None for parent in parents(step.name)}
    emptied = {parent for step in steps if step.new is None for parent in parents(step.name)} - needed
    new: list[bytes] = []
    for folder in sorted(needed):
        path = os.fsencode(root) + b"/" + folder
        if not os.path.lexists(path) or not stat.S_ISDIR(os.lstat(path).st_mode):
            new.append(folder)
    old = [(f, stat.S_IMODE(os.lstat(os.fsencode(root) + b"/" + f).st_mode)) for f in sorted(emptied)]
    return tuple(new), tuple(old)

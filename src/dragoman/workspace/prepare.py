"""Preparing the files an apply writes, beside the user's tree and on the same disk."""
# pathlib knows neither names that are bytes nor open folders.
# ruff: noqa: PTH101, PTH123

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from .changes import NO_MODE, Change
from .journal import Identity, Step
from .keep import Keep
from .names import parents
from .plan import Plan
from .trees import look_up


def prepare_files(
    keep: Keep, root: Path, staging: Path, scratch: Path, plan: Plan, lock_fd: int
) -> tuple[Step, ...]:
    """Write every new file as a checkout would, and look at every old one.

    Args:
        keep: where the new contents are.
        root: top of the user's work tree.
        staging: a folder to be made on the same file system.
        scratch: folder for temporary files.
        plan: without conflicts.
        lock_fd: inherited by the commands that write, so that recovery waits for them.

    Returns:
        What is to be exchanged, in the plan's order.
    """
    new_folder, old_folder = staging / "new", staging / "old"
    for folder in (staging, new_folder, old_folder):
        folder.mkdir(mode=0o700)
    _check_out(keep, plan, new_folder, scratch / "index.target", lock_fd)
    top = stat.S_IMODE(root.stat().st_mode)
    steps: list[Step] = []
    for number, change in enumerate(plan.changes):
        path = os.fsencode(root) + b"/" + change.name
        old = os.lstat(path) if change.old_mode != NO_MODE else None
        new = None
        if change.new_mode != NO_MODE:
            prepared = os.fsencode(new_folder) + b"/" + change.name
            _finish(prepared, change, old, top, crlf=change.name in plan.crlf)
            new = Identity.of(os.lstat(prepared))
        steps.append(Step(number, change.name, Identity.of(old) if old else None, new))
    return tuple(steps)


def folder_mode(root: Path) -> int:
    """Permissions for new folders: those of the work tree's top, but never writable for all."""
    return 0o700 | (stat.S_IMODE(root.stat().st_mode) & 0o775)


def _check_out(keep: Keep, plan: Plan, folder: Path, index: Path, lock_fd: int) -> None:
    """Write the new files with the attributes of the target tree, not of the files that are there now."""
    assert plan.target is not None
    names = [change.name for change in plan.changes if change.new_mode != NO_MODE]
    if not names:
        return
    lines = [
        f"{change.new_mode} {change.new_id}\t".encode() + change.name
        for change in plan.changes
        if change.new_mode != NO_MODE
    ]
    lines += _attributes(keep, plan.target, names)
    keep.run("update-index", "-z", "--index-info", index=index, stdin=b"\0".join(lines) + b"\0")
    keep.run(
        *("checkout-index", "-z", "--stdin"),
        work_tree=folder,
        index=index,
        stdin=b"\0".join(names) + b"\0",
        pass_fds=(lock_fd,),
    )


def _attributes(keep: Keep, target: str, names: Sequence[bytes]) -> list[bytes]:
    """List the `.gitattributes` files that decide how these files are written."""
    folders = {b"", *(parent for name in names for parent in parents(name))}
    wanted = [folder + b"/.gitattributes" if folder else b".gitattributes" for folder in folders]
    found = look_up(keep, target, wanted)
    return [f"{entry.mode} {entry.id}\t".encode() + name for name, entry in found.items() if entry]


def _finish(path: bytes, change: Change, old: os.stat_result | None, top_mode: int, *, crlf: bool) -> None:
    """Give a prepared file the line endings, permissions and owner its predecessor had."""
    details = os.lstat(path)
    if not stat.S_ISREG(details.st_mode):
        return
    if crlf:
        _write_crlf(path)
    executable = change.new_mode == "100755"
    if old is not None and stat.S_ISREG(old.st_mode):
        mode = stat.S_IMODE(old.st_mode) & 0o777
        if executable != bool(mode & 0o100):
            mode = mode | ((mode & 0o444) >> 2) if executable else mode & ~0o111
        if (old.st_uid, old.st_gid) != (details.st_uid, details.st_gid):
            _give(path, old)
    else:
        mode = 0o600 | (top_mode & 0o664)
        mode |= 0o100 | (top_mode & (mode & 0o444) >> 2) if executable else 0
    os.chmod(path, mode)


def _give(path: bytes, old: os.stat_result) -> None:
    try:
        os.chown(path, old.st_uid, old.st_gid, follow_symlinks=False)
    except PermissionError:
        return  # only root may; the file is then ours, as after a checkout by git


def _write_crlf(path: bytes) -> None:
    with open(path, "r+b") as file:
        content = file.read()
        if b"\r\n" not in content:
            file.seek(0)
            file.write(content.replace(b"\n", b"\r\n"))

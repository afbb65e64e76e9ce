"""Private files and folders: 0600 and 0700 whatever the umask, replaced in one step or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def ensure_private_folder(folder: Path) -> None:
    """Make `folder` and its missing parents 0700; narrow `folder` itself when it exists wider.

    Raises:
        OSError: it cannot be made, is not a folder, or belongs to somebody else.
    """
    if not folder.parent.is_dir():
        _make_missing(folder.parent)
    try:
        folder.mkdir(PRIVATE_FOLDER)
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder") from None
    if folder.stat().st_mode & 0o777 != PRIVATE_FOLDER:
        folder.chmod(PRIVATE_FOLDER)


def _make_missing(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_missing(folder.parent)
    try:
        folder.mkdir(PRIVATE_FOLDER)
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder") from None
        return
    folder.chmod(PRIVATE_FOLDER)


def write_new_private_file(path: Path, content: bytes) -> bool:
    """Write `content` to a new 0600 file that appears whole; False when `path` exists already.

    Safe with several processes at once: exactly one of them gets True.
    """
    draft = _write_draft(path, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def write_private_file(path: Path, content: bytes) -> None:
    """Replace `path` (0600) in one step; readers see the old or the new content, never a part."""
    draft = _write_draft(path, content)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def read_small_file(path: Path, *, max_bytes: int = 1 << 20) -> bytes | None:
    """The content of a regular file of ours, or None when it is absent, a symlink, or too large."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        try:
            content = file.read(max_bytes + 1)
        except OSError:
            return None
    return content if len(content) <= max_bytes else None


def _write_draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(draft, flags, PRIVATE_FILE)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), PRIVATE_FILE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft

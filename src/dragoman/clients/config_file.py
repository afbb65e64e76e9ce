"""A client's configuration file on disk: read as it is, replaced whole or not at all."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dragoman.clients.editing import EditRefused

BOM = "\ufeff"
MAX_BYTES = 8 << 20

# A running desktop client or a virus scanner may hold the file for a moment; together about a second.
RETRY_DELAYS_S = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)


class ChangedMeanwhile(EditRefused):
    """The file was changed by somebody else between reading and writing."""

    code = "client_config_changed"


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A file as it was read.

    Attributes:
        path: as the client names it.
        real: where it really is, links followed.
        content: its bytes, None when there is none.
    """

    path: Path
    real: Path
    content: bytes | None

    @property
    def text(self) -> str:
        """The text without a byte order mark.

        Raises:
            EditRefused: it is not UTF-8; the line is named.
        """
        try:
            return (self.content or b"").decode("utf-8").removeprefix(BOM)
        except UnicodeDecodeError as error:
            line = (self.content or b"").count(b"\n", 0, error.start) + 1
            message = f"{self.path}, line {line} is not UTF-8 text; the file was left alone"
            raise EditRefused(message, line=line) from None

    def encoded(self, text: str) -> bytes:
        """A new text as bytes, with the byte order mark if there was one."""
        had_mark = (self.content or b"").startswith(BOM.encode())
        return ((BOM if had_mark else "") + text).encode()


def read_client_file(path: Path) -> ClientFile:
    """Read a client's file, following links.

    Raises:
        EditRefused: it is no regular file, too large, or cannot be read.
    """
    try:
        real = path.resolve(strict=False)
        content = real.read_bytes() if real.exists() else None
        if content is not None and not real.is_file():
            raise EditRefused(f"{path} is no regular file; it was left alone")
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its links run in a circle"
        raise EditRefused(f"{path} cannot be read: {reason or error}", hint=f"check {path}") from None
    if content is not None and len(content) > MAX_BYTES:
        raise EditRefused(f"{path} is larger than 8 MiB: not a client's configuration")
    return ClientFile(path, real, content)


def replace_client_file(
    file: ClientFile,
    content: bytes | None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    replace: Callable[[Path, Path], None] = os.replace,
) -> None:
    """Put new content in a file's place in one step; None takes the file away.

    Mode and owner stay, a link stays a link. A crash at any moment leaves the old or the new file.

    Args:
        file: as it was read; nothing is written when it has changed since.
        content: the new content.
        sleep: waits between tries on a locked file.
        replace: moves the draft into place.

    Raises:
        ChangedMeanwhile: somebody else wrote it.
        EditRefused: it is read-only, or cannot be written.
    """
    real = file.real
    found = read_client_file(file.path)
    if found.content != file.content or found.real != real:
        raise ChangedMeanwhile(f"{file.path} was changed while it was edited", hint="run the command again")
    mode = real.stat().st_mode & 0o7777 if file.content is not None else 0o600
    if not mode & 0o222:
        hint = f"chmod u+w {file.path}, or: dragoman setup --print"
        raise EditRefused(f"{file.path} is read-only; it was left alone", hint=hint)
    try:
        if content is None:
            real.unlink(missing_ok=True)
            return
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = _write_draft(real, content, mode, keep_owner=file.content is not None)
        try:
            _retry_locked(lambda: replace(draft, real), sleep)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        hint = f"close what holds {file.path} open, or: dragoman setup --print"
        raise EditRefused(f"{file.path} cannot be written: {error.strerror or error}", hint=hint) from None


def _write_draft(real: Path, content: bytes, mode: int, *, keep_owner: bool) -> Path:
    draft = real.with_name(f".{real.name}.dragoman-{os.getpid()}-{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as opened:
            if keep_owner:
                owner = real.stat()
                if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(opened.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(opened.fileno(), mode)
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _retry_locked(action: Callable[[], None], sleep: Callable[[float], None]) -> None:
    for delay_s in RETRY_DELAYS_S:
        try:
            return action()
        except PermissionError:
            sleep(delay_s)
    return action()

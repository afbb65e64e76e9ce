"""A worker's session carried from an earlier run's private folder into a new one's.

A session is found only with the same configuration folder, and by Claude Code only from the same working
directory. Each run has a folder of its own, so a session that is gone on with is copied: the earlier run
keeps its own as it was.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import Literal

# Claude Code 2.1.197 and 2.1.329 name the folder of a working directory so; longer names are cut and hashed.
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9]")


def carry_session(
    client: Literal["claude", "codex"], session_id: str, earlier: Path, config_folder: Path, *, cwd: Path
) -> bool:
    """Copy one session.

    Args:
        client: whose.
        session_id: which; as the client told it.
        earlier: the earlier run's private folder.
        config_folder: the new run's; made when missing.
        cwd: where the new run works.

    Returns:
        Whether the session was there. Without it the client will not find it, and the task begins afresh.

    Raises:
        OSError: it cannot be copied.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", session_id):
        return False
    config_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    match client:
        case "claude":
            return _carry_claude(session_id, earlier / "claude", config_folder / "claude", cwd)
        case "codex":
            return _carry_codex(session_id, earlier / "codex", config_folder / "codex")


def _carry_claude(session_id: str, earlier: Path, target: Path, cwd: Path) -> bool:
    found = next(iter(_real(earlier, sorted(earlier.glob(f"projects/*/{session_id}.jsonl")))), None)
    if found is None:
        return False
    own = _NOT_IN_A_NAME.sub("-", str(cwd.resolve()))
    same_place = found.parent.name == own or len(own) > 200
    folder = target / "projects" / (found.parent.name if same_place else own)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy(found, folder / found.name)
    return True


def _carry_codex(session_id: str, earlier: Path, target: Path) -> bool:
    found = _real(earlier, sorted(earlier.glob(f"sessions/**/*{session_id}*.jsonl")))
    for file in found:
        place = target / file.relative_to(earlier)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _copy(file, place)
    return bool(found)


def _real(folder: Path, found: list[Path]) -> list[Path]:
    """The plain files that lie in the folder by their real names: it was the worker's to write.

    A link a confined worker left there would have us, who are not confined, hand it what it leads to.
    """
    top = folder.resolve()
    plain = [path for path in found if stat.S_ISREG(path.lstat().st_mode)]
    return [path for path in plain if path.resolve() == top / path.relative_to(folder)]


def _copy(source: Path, target: Path) -> None:
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as read:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as write:
            shutil.copyfileobj(read, write)

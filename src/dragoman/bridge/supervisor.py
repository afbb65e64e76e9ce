"""The supervisor's folder: the rules of the lead, written once, never overwritten, renewed on request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from dragoman.config.files import ensure_private_folder, write_new_private_file, write_private_file
from dragoman.config.paths import Home
from dragoman.config.schema import Bridge as BridgeSettings
from dragoman.errors import DragomanError

STALE_NOTICE = "Supervisor rules are stale. Run: dragoman migrate-supervisor"
RULES = ("CLAUDE.md", "AGENTS.md")
MEMORY = "MEMORY.md"

_BEGIN = "<!-- dragoman:rules begin"
_END = "<!-- dragoman:rules end -->"


class SupervisorUnreadable(DragomanError):
    """A file of the supervisor's folder cannot be read or written."""

    code = "supervisor_unreadable"


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration did to one file.

    Attributes:
        name: the file.
        what: whether it was renewed, made, or right already.
        backup: the file as it was, when it was changed.
    """

    name: str
    what: Literal["renewed", "created", "current"]
    backup: Path | None = None


def supervisor_home(home: Home, settings: BridgeSettings) -> Path:
    """Where the lead works: the configured folder, else one in the state folder."""
    chosen = settings.supervisor_home
    return Path(chosen).expanduser().absolute() if chosen else home.state / "supervisor"


def ensure_supervisor(folder: Path) -> list[str]:
    """Make what is missing; overwrite nothing.

    Returns:
        Names of the files that were made.

    Raises:
        SupervisorUnreadable: the folder cannot be written.
    """
    try:
        ensure_private_folder(folder)
        made = [name for name in RULES if write_new_private_file(folder / name, _block(name).encode())]
        if write_new_private_file(folder / MEMORY, _shipped(MEMORY).encode()):
            made.append(MEMORY)
    except OSError as error:
        raise SupervisorUnreadable(f"cannot write {folder}: {error.strerror or error}") from error
    return made


def is_stale(folder: Path) -> bool:
    """Whether the rules there are other than ours: an older block, or none at all."""
    return any(_block(name).strip() not in _read(folder / name) for name in RULES)


def migrate_supervisor(folder: Path) -> list[Migrated]:
    """Renew our marked block in each file of rules; what stands around it stays, `MEMORY.md` is not touched.

    A file without our block (somebody's own, or another bridge's) gets it in front. The file as it was stays
    beside it, as `NAME.backup-<digest>`.

    Raises:
        SupervisorUnreadable: a file cannot be read or written.
    """
    made = ensure_supervisor(folder)
    done: list[Migrated] = []
    for name in RULES:
        path = folder / name
        old, block = _read(path), _block(name)
        if name in made:
            done.append(Migrated(name, "created"))
            continue
        new = _replaced(old, block)
        if new == old:
            done.append(Migrated(name, "current"))
            continue
        backup = (
            folder / f"{name}.backup-{hashlib.sha256(old.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
        )
        try:
            write_new_private_file(backup, old.encode("utf-8", "surrogateescape"))
            write_private_file(path, new.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise SupervisorUnreadable(f"cannot write {path}: {error.strerror or error}") from error
        done.append(Migrated(name, "renewed", backup))
    return done


def update_supervisor(folder: Path) -> list[Migrated]:
    """What an update of dragoman does: renew the rules where there are some, make none where there are none.

    Raises:
        SupervisorUnreadable: a file cannot be read or written.
    """
    return migrate_supervisor(folder) if folder.is_dir() else []


def _replaced(old: str, block: str) -> str:
    begin = old.find(_BEGIN)
    end = old.find(_END, begin)
    if begin < 0 or end < 0:
        return f"{block}\n{old}" if old.strip() else block
    return old[:begin] + block.rstrip("\n") + old[end + len(_END) :]


def _block(name: str) -> str:
    text = _shipped(name)
    version = hashlib.sha256(text.encode()).hexdigest()[:8]
    note = "renewed by `dragoman migrate-supervisor`; write outside of it"
    return f"{_BEGIN} {version} ({note}) -->\n{text}{_END}\n"


def _shipped(name: str) -> str:
    return (resources.files("dragoman.bridge") / "rules" / name).read_text(encoding="utf-8")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SupervisorUnreadable(f"cannot read {path}: {error.strerror}") from error

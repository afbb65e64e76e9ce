"""Guards at the door: where work may be delegated, how much of it, and by whom. Nothing starts before them.

Pure but for looking at paths; the command line and the tools call the same functions, so they refuse the
same things in the same words. Allow roots are for what comes over a connection; a person who types a command
obeys them only where `delegation.cli_roots` says so, and the dangerous roots always.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from dragoman.errors import DragomanError, ExitCode

DEPTH_VARIABLE = "BRIDGE_DEPTH"
# A lead starts us (0 or 1), we start a worker (2): whoever is at 2 already is a worker.
DEEPEST = 2

MAX_TASK_BYTES = 512 * 1024
MAX_PATHS = 500
MAX_PATH_BYTES = 4096
MAX_CONTEXT_ROOTS = 5

# Never a place to work in, whatever is allowed.
_EXACT_NAMES = (
    "/ /bin /boot /dev /etc /home /lib /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys /tmp /usr "
    "/var /Users /System /Library /Applications /private /private/tmp /private/var /private/etc"
)
_EXACT = frozenset(_EXACT_NAMES.split())
# Nothing below these either, but where an allow root lies inside.
_BELOW = ("/bin", "/boot", "/etc", "/lib", "/lib64", "/sbin", "/usr", "/System", "/Library", "/private/etc")
_NEVER_BELOW = ("/dev", "/proc", "/sys")
# Keys, logins and what other agents keep; relative to the user's home.
_PRIVATE = (
    ".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure", ".password-store", ".codex", ".claude",
    ".config/gcloud", ".config/gh", ".local/share/keyrings", "Library/Keychains",
)  # fmt: skip

_SHOWN = 120


class Refused(DragomanError):
    """Something a guard turned away; `code` says which guard."""

    code = "invalid_input"
    http_status = 400
    exit_code = ExitCode.USAGE


def check_cwd(
    cwd: str | os.PathLike[str],
    *,
    home: Path,
    allow_roots: Sequence[Path] | None,
    private: Iterable[Path] = (),
) -> Path:
    """The real folder work is asked for in, symlinks and `..` resolved.

    Args:
        cwd: an absolute path as it was given.
        home: the user's home.
        allow_roots: real folders it must lie in (see `real_roots`); None for a person at a terminal.
        private: folders of our own that nobody works in, such as the state folder.

    Raises:
        Refused: `invalid_input` (not absolute, control characters), `cwd_not_found`, `dangerous_root`,
            `cwd_not_allowed`.
    """
    given = os.fspath(cwd)
    _check_name(given, "the working folder")
    if not Path(given).is_absolute():
        raise Refused(f"the working folder {_shown(given)} is not an absolute path")
    try:
        real = Path(given).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise Refused(f"the working folder {_shown(given)} does not exist", code="cwd_not_found") from error
    if not real.is_dir():
        raise Refused(f"the working folder {_shown(given)} is not a folder", code="cwd_not_found")
    if (reason := _danger(real, home.resolve(), allow_roots or (), private)) is not None:
        raise Refused(
            f"{_shown(real)} is {reason}: nothing is delegated there",
            code="dangerous_root",
            http_status=403,
            hint="work in a repository of your own",
        )
    if allow_roots is not None and not any(real.is_relative_to(root) for root in allow_roots):
        raise Refused(
            f"{_shown(real)} lies outside the folders that may be delegated",
            code="cwd_not_allowed",
            http_status=403,
            hint=f"dragoman setup --write --allow-root {_shown(real)}",
        )
    return real


def _danger(real: Path, home: Path, allow_roots: Sequence[Path], private: Iterable[Path]) -> str | None:
    """Why nobody should work in a real folder, or None."""
    if str(real) in _EXACT or real == home:
        return "the home folder" if real == home else "a folder of the system"
    if home.is_relative_to(real):
        return "a folder with the home folder in it"
    if any(real.is_relative_to(folder) for folder in _NEVER_BELOW):
        return "a folder of the system"
    secrets = [home / name for name in _PRIVATE]
    if any(real.is_relative_to(folder.resolve()) for folder in (*secrets, *private)):
        return "a folder with keys, logins or state in it"
    covered = any(real.is_relative_to(root) and str(root) not in _EXACT for root in allow_roots)
    if not covered and any(real.is_relative_to(folder) for folder in _BELOW):
        return "a folder of the system"
    return None


def roots_for(
    asked_by: Literal["person", "connection"],
    *,
    allow_roots: Iterable[str],
    cli_roots: bool,
    home: Path,
) -> tuple[Path, ...] | None:
    """The allow roots that hold for somebody, or None when none do.

    Args:
        asked_by: a person who types a command, or a connection (MCP, the control API).
        allow_roots: `delegation.allow_roots`, or the connection's own (`CODEX_CLAUDE_ALLOW_ROOTS`).
        cli_roots: `delegation.cli_roots`.
        home: what `~` stands for.
    """
    if asked_by == "person" and not cli_roots:
        return None
    return real_roots(allow_roots, home=home)


def connection_roots(env: Mapping[str, str], configured: Iterable[str]) -> tuple[str, ...]:
    """The allow roots of one connection: its own variable replaces the configured ones when it is set."""
    own = env.get("DRAGOMAN_DELEGATION_ALLOW_ROOTS") or env.get("CODEX_CLAUDE_ALLOW_ROOTS")
    if not own:
        return tuple(configured)
    return tuple(part.strip() for part in own.replace(",", os.pathsep).split(os.pathsep) if part.strip())


def real_roots(roots: Iterable[str], *, home: Path) -> tuple[Path, ...]:
    """Allow roots as real paths: `~` opened, symlinks resolved; relative and missing ones left out."""
    found: list[Path] = []
    for root in roots:
        path = Path(home, root[2:]) if root.startswith("~/") else home if root == "~" else Path(root)
        if path.is_absolute() and path.is_dir():
            found.append(path.resolve())
    return tuple(dict.fromkeys(found))


def check_task(task: str, *, limit_bytes: int = MAX_TASK_BYTES) -> None:
    """Check that a task is text of a bearable size.

    Raises:
        Refused: `limit_exceeded` or `invalid_input`.
    """
    # A character has one byte at least: no need to encode what is too long anyway.
    size = len(task) if len(task) > limit_bytes else len(task.encode("utf-8", "surrogatepass"))
    if size > limit_bytes:
        raise Refused(
            f"the task has {size // 1024} KB; at most {limit_bytes // 1024} KB are taken",
            code="limit_exceeded",
            http_status=413,
            hint="put long material into a file of the repository and name the file in the task",
        )
    if (bad := _control_character(task, allowed="\n\r\t")) is not None:
        raise Refused(f"the task has a control character (U+{ord(bad):04X}) in it")


def check_paths(
    paths: Sequence[str], root: Path, *, what: str = "file", limit: int = MAX_PATHS
) -> tuple[str, ...]:
    """Check names or globs that must stay inside a folder, and return them as clean relative ones.

    A name is followed through symlinks as far as it exists, so a link that leads out is refused even for a
    file that does not exist yet.

    Args:
        paths: relative to `root`, or absolute inside it.
        root: a real folder.
        what: what to call one of them.
        limit: how many are taken.

    Raises:
        Refused: `limit_exceeded`, `invalid_input` or `file_escapes_cwd`.
    """
    if len(paths) > limit:
        raise Refused(
            f"{len(paths):,} {what}s are named; at most {limit} are taken",
            code="limit_exceeded",
            http_status=413,
            hint="name folders (`src/`) or globs (`tests/**`) instead of single files",
        )
    return tuple(dict.fromkeys(_inside(path, root, what) for path in paths))


def _inside(path: str, root: Path, what: str) -> str:
    _check_name(path, f"the {what}")
    name = path.strip()
    given = PurePosixPath(name)
    if given.is_absolute() and given.is_relative_to(root.as_posix()):
        name = given.relative_to(root.as_posix()).as_posix() + ("/" if name.endswith("/") else "")
        given = PurePosixPath(name)
    outside = given.is_absolute() or name.startswith("~") or ".." in given.parts or not name
    if not outside:
        # Up to the first wildcard it is a path; what follows can only be below.
        fixed = list(_until_glob(given.parts))
        outside = not Path(root, *fixed).resolve().is_relative_to(root)
    if outside:
        raise Refused(
            f"the {what} {_shown(path)} is not inside {_shown(root)}",
            code="file_escapes_cwd",
            http_status=403,
            hint="name it relative to the repository's top, for example `src/app.py`",
        )
    return name.removeprefix("./")


def _until_glob(parts: tuple[str, ...]) -> Iterable[str]:
    for part in parts:
        if any(sign in part for sign in "*?["):
            return
        yield part


def check_context_roots(
    roots: Sequence[str],
    primary: Path,
    *,
    home: Path,
    allow_roots: Sequence[Path] | None,
    private: Iterable[Path] = (),
) -> tuple[Path, ...]:
    """Check folders that may be read beside the repository: real, allowed, apart from it and each other.

    Args:
        roots: absolute paths, at most five.
        primary: the repository.
        home, allow_roots, private: see `check_cwd`.

    Raises:
        Refused: see `check_cwd`; `invalid_input` when two overlap; `limit_exceeded`.
    """
    if len(roots) > MAX_CONTEXT_ROOTS:
        raise Refused(
            f"{len(roots):,} context roots are named; at most {MAX_CONTEXT_ROOTS} are taken",
            code="limit_exceeded",
            http_status=413,
        )
    found: list[Path] = []
    kept_out = tuple(private)
    for root in roots:
        real = check_cwd(root, home=home, allow_roots=allow_roots, private=kept_out)
        for other in (primary, *found):
            if real.is_relative_to(other) or other.is_relative_to(real):
                raise Refused(f"the context root {_shown(real)} overlaps {_shown(other)}")
        found.append(real)
    return tuple(found)


def check_depth(env: Mapping[str, str]) -> None:
    """Refuse to delegate from inside a worker.

    Raises:
        Refused: `recursion_refused`.
    """
    if depth(env) >= DEEPEST:
        raise Refused(
            "a worker cannot delegate its own task",
            code="recursion_refused",
            http_status=403,
            hint="carry the task out yourself, or report that it is too large",
        )


def depth(env: Mapping[str, str]) -> int:
    """How many agents deep we are; what cannot be read counts as deepest."""
    text = env.get(DEPTH_VARIABLE, "").strip()
    if not text:
        return 0
    return min(int(text), DEEPEST) if text.isascii() and text.isdigit() and len(text) < 4 else DEEPEST


def worker_depth() -> dict[str, str]:
    """What a worker's environment says about its depth: nothing it starts may delegate again."""
    return {DEPTH_VARIABLE: str(DEEPEST)}


# What the name of a variable with a secret in it usually has.
_SECRET_WORDS = (
    "AUTH", "COOKIE", "SESSION", "PRIVATE", "KEY", "SECRET", "TOKEN", "CREDENTIAL", "PASSWORD", "PASSWD",
)  # fmt: skip
_SECRET_NAMES = frozenset({"DATABASE_URL", "DSN", "SSH_AGENT_PID"})


def passable(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which variables a worker may be given beyond the safe ones, and which not, by their names.

    Args:
        names: `delegation.env_passthrough`.

    Returns:
        Those passed on and those held back, each once, in order.
    """
    passed: dict[str, None] = {}
    held: dict[str, None] = {}
    for name in names:
        folded = name.upper()
        secret = folded in _SECRET_NAMES or any(word in folded for word in _SECRET_WORDS)
        (held if secret else passed)[name] = None
    return tuple(passed), tuple(held)


def _check_name(name: str, what: str) -> None:
    if len(os.fsencode(name)) > MAX_PATH_BYTES:
        raise Refused(f"{what} has a name of more than {MAX_PATH_BYTES} bytes", code="limit_exceeded")
    if (bad := _control_character(name)) is not None:
        raise Refused(f"{what} {_shown(name)} has a control character (U+{ord(bad):04X}) in its name")


def _control_character(text: str, *, allowed: str = "") -> str | None:
    """The first character that is no text: a control, or half of a surrogate pair."""
    if text.isprintable():
        return None
    for character in text:
        if character not in allowed and unicodedata.category(character) in ("Cc", "Cs"):
            return character
    return None


def _shown(name: str | Path) -> str:
    """A name fit for one line of a message."""
    text = "".join(character if character.isprintable() else "?" for character in str(name))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"

"""Find Codex on this machine and learn its version."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dragoman.clients.program import (
    Ask,
    ProgramUnusable,
    Source,
    Version,
    ask_program,
    file_inside_package,
    find_program,
    version_text,
)

# Ours wins over the name other tools use.
BINARY_VARIABLES = ("DRAGOMAN_CODEX_BIN", "CODEX_BIN")

# Measured with 0.163.0 and 0.169.0; the `wire_api`, the events and the sandbox of much older ones differ.
OLDEST: Version = (0, 160, 0)

INSTALL_HINT = (
    "install it with `npm install -g @openai/codex` or `pip install 'dragoman[clients]'`, "
    "or set CODEX_BIN to its path"
)


class CodexMissing(ProgramUnusable):
    """No usable Codex: none found, not executable, too old, or it does not answer."""


@dataclass(frozen=True, slots=True)
class Codex:
    """One Codex that was found and has answered.

    Attributes:
        path: absolute path of the program as it will be started.
        source: which of the four places it came from.
        version: major, minor, patch.
        passed_over: sentences about candidates on PATH that could not be used.
    """

    path: Path
    source: Source
    version: Version
    passed_over: tuple[str, ...] = ()

    @property
    def version_text(self) -> str:
        """The version as the program prints it, such as `0.163.0`."""
        return version_text(self.version)


def find_codex(
    configured: str | None,
    env: Mapping[str, str],
    *,
    ask: Ask | None = None,
    bundled: Callable[[], Path | None] | None = None,
) -> Codex:
    """Find the Codex to start: configuration, `CODEX_BIN`, PATH, then the `clients` extra.

    Args:
        configured: path or command name from the configuration, or None.
        env: the environment to look in.
        ask: runs a program with one argument and returns what it prints; for tests.
        bundled: finds the binary inside the `clients` extra; for tests.

    Raises:
        CodexMissing: there is none, or the named one cannot be used.
    """
    known: dict[Path, Version] = {}

    def inspect(path: Path) -> None:
        known[path] = _version(path, ask or _ask)

    found = find_program(
        "codex",
        configured,
        env,
        variables=BINARY_VARIABLES,
        bundled=bundled or bundled_codex,
        inspect=inspect,
        missing=lambda message, hint: CodexMissing(message, hint=hint or INSTALL_HINT),
        what="Codex",
    )
    return Codex(found.path, found.source, known[found.path], found.passed_over)


def bundled_codex() -> Path | None:
    """The Codex inside the installed `openai-codex-cli-bin`, found without importing that package."""
    return file_inside_package("codex_cli_bin", "bin", "codex")


_known: dict[tuple[str, int, int], Version] = {}


def _version(path: Path, ask: Ask) -> Version:
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    if key not in _known:
        text = ask(path, "--version")
        found = re.match(r"\s*codex(?:-cli)? (\d+)\.(\d+)\.(\d+)", text)
        if found is None:
            first_line = (text.strip().splitlines() or ["nothing"])[0]
            raise CodexMissing(
                f"{path} is not a working Codex: `--version` printed {first_line[:80]!r}", hint=INSTALL_HINT
            )
        major, minor, patch = found.groups()
        _known[key] = (int(major), int(minor), int(patch))
    version = _known[key]
    if version < OLDEST:
        raise CodexMissing(
            f"{path} is Codex {version_text(version)}, older than {version_text(OLDEST)}",
            hint="update it with `npm install -g @openai/codex`, or set CODEX_BIN to another",
            code="worker_too_old",
        )
    return version


def _ask(path: Path, argument: str) -> str:
    try:
        return ask_program(path, argument)
    except OSError as error:
        raise CodexMissing(f"{path} {error}", hint=INSTALL_HINT) from error

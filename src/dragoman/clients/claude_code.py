"""Find Claude Code on this machine, learn its version, and know what that version understands."""

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
BINARY_VARIABLES = ("DRAGOMAN_CLAUDE_BIN", "CLAUDE_BIN")

INSTALL_HINT = (
    "install it with `npm install -g @anthropic-ai/claude-code` or `pip install 'dragoman[clients]'`, "
    "or set CLAUDE_BIN to its path"
)


class ClaudeCodeMissing(ProgramUnusable):
    """No usable Claude Code: none found, not executable, or it does not answer."""

    code = "worker_not_found"


class ClaudeCodeTooOld(ClaudeCodeMissing):
    """Claude Code is there but lacks a flag that keeps a worker inside its bounds."""

    code = "worker_too_old"


@dataclass(frozen=True, slots=True)
class ClaudeFeatures:
    """What a version understands beyond what every worker needs.

    Attributes:
        safe_mode: `--safe-mode` leaves the repository's and the user's customizations out of the prompt.
        permission_prompts: `--permission-prompts none` denies what would ask (2.1.329, not 2.1.197).
        manual_mode: the permission mode `manual` exists (2.1.329; 2.1.197 refuses the word).
        scrub_needs_bubblewrap: with CLAUDE_CODE_SUBPROCESS_ENV_SCRUB=1 it refuses to start where
            bubblewrap is missing (2.1.329 does, 2.1.197 does not).
    """

    safe_mode: bool
    permission_prompts: bool
    manual_mode: bool
    scrub_needs_bubblewrap: bool


@dataclass(frozen=True, slots=True)
class ClaudeCode:
    """One Claude Code that was found and has answered.

    Attributes:
        path: absolute path of the program as it will be started.
        source: which of the four places it came from.
        version: major, minor, patch.
        features: what this version understands.
        passed_over: sentences about candidates on PATH that could not be used.
    """

    path: Path
    source: Source
    version: Version
    features: ClaudeFeatures
    passed_over: tuple[str, ...] = ()

    @property
    def version_text(self) -> str:
        """The version as the program prints it, such as `2.1.329`."""
        return version_text(self.version)


# Measured with these very versions; every other one is asked for its `--help`.
_MEASURED: dict[Version, ClaudeFeatures] = {
    (2, 1, 197): ClaudeFeatures(
        safe_mode=True,
        permission_prompts=False,
        manual_mode=False,
        scrub_needs_bubblewrap=False,
    ),
    (2, 1, 329): ClaudeFeatures(
        safe_mode=True,
        permission_prompts=True,
        manual_mode=True,
        scrub_needs_bubblewrap=True,
    ),
}

# Without one of these a worker could not be confined or read; such a version is too old.
_NEEDED_FLAGS = (
    "--tools",
    "--settings",
    "--setting-sources",
    "--strict-mcp-config",
    "--permission-mode",
    "--input-format",
    "--output-format",
)


def find_claude_code(
    configured: str | None,
    env: Mapping[str, str],
    *,
    ask: Ask | None = None,
    bundled: Callable[[], Path | None] | None = None,
) -> ClaudeCode:
    """Find the Claude Code to start: configuration, `CLAUDE_BIN`, PATH, then the `clients` extra.

    A path that was named on purpose must work. A program on PATH that cannot be used is passed over for
    the one of the `clients` extra, and the reason is kept.

    Args:
        configured: path or command name from the configuration, or None.
        env: the environment to look in.
        ask: runs a program with one argument and returns what it prints; for tests.
        bundled: finds the binary inside the `clients` extra; for tests.

    Raises:
        ClaudeCodeMissing: there is none, or the named one cannot be started.
        ClaudeCodeTooOld: it lacks a flag a worker needs.
    """
    known: dict[Path, tuple[Version, ClaudeFeatures]] = {}

    def inspect(path: Path) -> None:
        known[path] = _inspect(path, ask or _ask)

    found = find_program(
        "claude",
        configured,
        env,
        variables=BINARY_VARIABLES,
        bundled=bundled or bundled_binary,
        inspect=inspect,
        missing=lambda message, hint: ClaudeCodeMissing(message, hint=hint or INSTALL_HINT),
        what="Claude Code",
    )
    version, features = known[found.path]
    return ClaudeCode(found.path, found.source, version, features, found.passed_over)


def bundled_binary() -> Path | None:
    """The Claude Code inside the installed `claude-agent-sdk`, found without importing that package.

    The wheel of claude-agent-sdk 0.2.186 carries it as `_bundled/claude`.
    """
    return file_inside_package("claude_agent_sdk", "_bundled", "claude")


# One process asks a program once; a replaced or updated file is asked again.
_known: dict[tuple[str, int, int], tuple[Version, ClaudeFeatures]] = {}


def _inspect(path: Path, ask: Ask) -> tuple[Version, ClaudeFeatures]:
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    if key not in _known:
        version = _version(path, ask)
        _known[key] = (version, _features(path, version, ask))
    return _known[key]


def _version(path: Path, ask: Ask) -> Version:
    text = ask(path, "--version")
    found = re.match(r"\s*(\d+)\.(\d+)\.(\d+)\b", text)
    if found is None or "Claude Code" not in text:
        first_line = (text.strip().splitlines() or ["nothing"])[0]
        raise ClaudeCodeMissing(
            f"{path} is not a working Claude Code: `--version` printed {first_line[:80]!r}",
            hint=INSTALL_HINT,
        )
    major, minor, patch = found.groups()
    return int(major), int(minor), int(patch)


def _features(path: Path, version: Version, ask: Ask) -> ClaudeFeatures:
    if version in _MEASURED:
        return _MEASURED[version]
    text = ask(path, "--help")
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    missing = [flag for flag in _NEEDED_FLAGS if flag not in flags]
    if missing or "stream-json" not in text or "dontAsk" not in text:
        lacks = missing[0] if missing else "stream-json" if "stream-json" not in text else "dontAsk"
        raise ClaudeCodeTooOld(
            f"{path} is Claude Code {version_text(version)}, too old to be confined: it lacks {lacks}",
            hint="update it with `claude update`, or set CLAUDE_BIN to 2.1.197 or newer",
        )
    return ClaudeFeatures(
        safe_mode="--safe-mode" in flags,
        permission_prompts="--permission-prompts" in flags,
        manual_mode='"manual"' in text,
        # Somewhere between the two measured versions it began to insist; the careful answer is yes.
        scrub_needs_bubblewrap=version > (2, 1, 197),
    )


def _ask(path: Path, argument: str) -> str:
    quiet = {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    try:
        return ask_program(path, argument, add=quiet)
    except OSError as error:
        raise ClaudeCodeMissing(f"{path} {error}", hint=INSTALL_HINT) from error

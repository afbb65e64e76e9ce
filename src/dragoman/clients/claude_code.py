"""Find Claude Code on this machine, learn its version, and know what that version understands."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dragoman.errors import DragomanError

Source = Literal["config", "environment", "path", "clients extra"]
Version = tuple[int, int, int]
Ask = Callable[[Path, str], str]

# Ours wins over the name other tools use.
BINARY_VARIABLES = ("DRAGOMAN_CLAUDE_BIN", "CLAUDE_BIN")

# The first start of a 380 MB binary from a cold disk took 3 to 6 s.
_ASK_TIMEOUT_S = 30.0

INSTALL_HINT = (
    "install it with `npm install -g @anthropic-ai/claude-code` or `pip install 'dragoman[clients]'`, "
    "or set CLAUDE_BIN to its path"
)


class ClaudeCodeMissing(DragomanError):
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
        return ".".join(map(str, self.version))


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
    ask = ask or _ask
    if configured:
        return _inspect(_named(configured, env, "the configuration"), "config", ask)
    for variable in BINARY_VARIABLES:
        if env.get(variable):
            return _inspect(_named(env[variable], env, variable), "environment", ask)
    passed_over: list[str] = []
    failure: ClaudeCodeMissing | None = None
    on_path = shutil.which("claude", path=absolute_path(env.get("PATH", "")))
    if on_path:
        try:
            return _inspect(Path(on_path), "path", ask)
        except ClaudeCodeMissing as error:
            passed_over.append(error.message)
            failure = error
    extra = (bundled or bundled_binary)()
    if extra is not None:
        return replace(_inspect(extra, "clients extra", ask), passed_over=tuple(passed_over))
    raise failure or ClaudeCodeMissing(
        "no Claude Code found: not in the configuration, CLAUDE_BIN, PATH or the `clients` extra",
        hint=INSTALL_HINT,
    )


def absolute_path(path: str) -> str:
    """PATH without relative and empty entries, which would run programs of whatever folder we are in."""
    return os.pathsep.join(part for part in path.split(os.pathsep) if part.startswith("/"))


def bundled_binary() -> Path | None:
    """The Claude Code inside the installed `claude-agent-sdk`, found without importing that package.

    The wheel of claude-agent-sdk 0.2.186 carries it as `_bundled/claude`.
    """
    try:
        spec = importlib.util.find_spec("claude_agent_sdk")
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder, "_bundled", "claude")
        if binary.is_file():
            return binary
    return None


def _named(named: str, env: Mapping[str, str], where: str) -> Path:
    if "/" in named or named.startswith("~"):
        path = Path(named).expanduser()
        if not path.is_absolute():
            path = path.absolute()
        if not path.is_file():
            raise ClaudeCodeMissing(f"{where} names {named}, which is not a file", hint=INSTALL_HINT)
        return path
    found = shutil.which(named, path=absolute_path(env.get("PATH", "")))
    if found is None:
        raise ClaudeCodeMissing(
            f"{where} names {named}, which is not an executable on PATH", hint=INSTALL_HINT
        )
    return Path(found)


# One process asks a program once; a replaced or updated file is asked again.
_known: dict[tuple[str, int, int], tuple[Version, ClaudeFeatures]] = {}


def _inspect(path: Path, source: Source, ask: Ask) -> ClaudeCode:
    if not os.access(path, os.X_OK):
        raise ClaudeCodeMissing(f"{path} is not executable", hint=f"chmod +x {path}")
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    if key not in _known:
        version = _version(path, ask)
        _known[key] = (version, _features(path, version, ask))
    version, features = _known[key]
    return ClaudeCode(path=path, source=source, version=version, features=features)


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
            f"{path} is Claude Code {'.'.join(map(str, version))}, too old to be confined: it lacks {lacks}",
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
    try:
        done = subprocess.run(
            [str(path), argument],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_TIMEOUT_S,
            check=False,
            text=True,
            errors="replace",
            env={
                "PATH": absolute_path(os.environ.get("PATH", os.defpath)),
                "HOME": os.environ.get("HOME", "/"),
                "DISABLE_AUTOUPDATER": "1",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            },
        )
    except subprocess.TimeoutExpired as error:
        raise ClaudeCodeMissing(
            f"{path} did not answer `{argument}` within {_ASK_TIMEOUT_S:.0f} s", hint=INSTALL_HINT
        ) from error
    except OSError as error:
        raise ClaudeCodeMissing(f"{path} cannot be started: {error.strerror}", hint=INSTALL_HINT) from error
    return done.stdout or done.stderr

"""What `doctor` looks at for the bridge: Claude Code, its hooks, the terminal, the lead's rules."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dragoman.bridge.supervisor import SupervisorUnreadable, is_stale, supervisor_home
from dragoman.clients.checks import Finding
from dragoman.clients.claude_code import find_claude_code
from dragoman.config.files import read_small_file
from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.errors import DragomanError

# The versions every recording and measurement was made with.
MEASURED = ((2, 1, 197), (2, 1, 329))


def check_bridge(
    home: Home,
    env: Mapping[str, str],
    config: Config,
    *,
    project: Path | None = None,
    open_terminal: Callable[[], tuple[int, int]] = os.openpty,
) -> Iterator[Finding]:
    """Whether `dragoman lead` would work here.

    Args:
        home: whose.
        env: what Claude Code would run with.
        config: the configuration.
        project: the folder it would work in; the present one when None.
        open_terminal: opens a pseudo-terminal; for tests.
    """
    yield _program(env, config)
    yield _hooks(env, project or Path.cwd())
    yield _terminal(open_terminal)
    yield _rules(supervisor_home(home, config.bridge))


def _program(env: Mapping[str, str], config: Config) -> Finding:
    command = config.bridge.command
    chosen = command if isinstance(command, str) else command[0] if command else None
    try:
        claude = find_claude_code(chosen or config.clients.claude, env)
    except DragomanError as error:
        return Finding("bridge.claude", "warn", f"dragoman lead cannot start: {error.message}", error.hint)
    shown = f"{claude.version_text} at {claude.path}"
    if claude.version in MEASURED:
        return Finding("bridge.claude", "ok", f"{shown}, a version the bridge was measured with")
    oldest = ".".join(map(str, MEASURED[0]))
    if claude.version < MEASURED[0]:
        text = f"{shown} is older than what the bridge was measured with"
        return Finding("bridge.claude", "warn", text, f"use Claude Code {oldest} or newer")
    text = f"{shown}; the bridge was measured with {', '.join('.'.join(map(str, v)) for v in MEASURED)}"
    return Finding("bridge.claude", "ok", text)


def _hooks(env: Mapping[str, str], project: Path) -> Finding:
    """Hooks can be switched off in the settings; then transcript and screen tell, later and less surely."""
    folder = Path(env.get("CLAUDE_CONFIG_DIR") or Path(env.get("HOME", "/")) / ".claude")
    files = [
        folder / "settings.json",
        project / ".claude" / "settings.json",
        project / ".claude" / "settings.local.json",
    ]
    for file in files:
        with contextlib.suppress(ValueError):
            settings = json.loads(read_small_file(file) or b"{}")
            if isinstance(settings, dict) and settings.get("disableAllHooks") is True:  # pyright: ignore[reportUnknownMemberType]
                text = f"{file} switches hooks off; the end of a turn is told later and less surely"
                return Finding("bridge.hooks", "warn", text, "take disableAllHooks out of it")
    return Finding("bridge.hooks", "ok", "Claude Code tells by itself when a turn ends")


def _terminal(open_terminal: Callable[[], tuple[int, int]]) -> Finding:
    try:
        for descriptor in open_terminal():
            os.close(descriptor)
    except OSError as error:
        text = f"no pseudo-terminal can be had: {error.strerror or error}"
        return Finding("bridge.terminal", "fail", text, "mount /dev/pts, or raise the limit on terminals")
    return Finding("bridge.terminal", "ok", "a pseudo-terminal can be had")


def _rules(folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding("bridge.rules", "skip", f"no {folder} yet; dragoman lead makes it")
    try:
        stale = is_stale(folder)
    except SupervisorUnreadable as error:
        return Finding("bridge.rules", "fail", error.message, f"make {folder} yours and readable")
    if stale:
        text = f"the rules in {folder} are older than this version"
        return Finding("bridge.rules", "warn", text, "dragoman migrate-supervisor")
    return Finding("bridge.rules", "ok", f"{folder} has the rules of this version")

"""What a Claude Code worker may do, written in the client's own permission language.

All spellings were tried on Claude Code 2.1.197 and 2.1.329, which agree:

- `Edit(//abs/path)` covers Edit and Write; `Write(path)` rules match nothing; a bare `Edit` writes anywhere.
- Rules go into a settings file, where nothing splits them at spaces or commas.
- A path is in gitignore's language, and the whole rule escapes `\\`, `(` and `)` once more. A literal `?`,
  backslash or trailing space cannot be spelled, and in 2.1.197 a wrong one closes every other rule too.
- In a command rule `*` matches anything and no escape makes it literal, so such a command is allowed by
  a hook that compares the whole text instead.
- Deny rules win over everything. `Read(.env)` stops the Read tool, hides the file from Grep and stops
  `cat .env`; it does not stop `grep -r`, `cat .e*` or a program, so the file should not be there at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.workers.base import Notice, WorkerTask

READ_TOOLS = ("Read", "Grep", "Glob")
EDIT_TOOLS = ("Edit", "Write")
COMMAND_TOOL = "Bash"

# What the client would run unasked although it can write: `git diff --output=FILE` and its like.
_DENIED_COMMANDS = ("Bash(git * --output*)", "Bash(git * --output *)")


@dataclass(frozen=True, slots=True)
class ClaudeRules:
    """The permissions of one run.

    Attributes:
        tools: the only tools that exist for the worker.
        allow: rules for the settings file.
        deny: rules that win over every other.
        commands_by_hook: command lines no rule can spell exactly.
        notices: what could not be granted.
    """

    tools: tuple[str, ...]
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    commands_by_hook: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()


def plan_rules(task: WorkerTask, *, cwd: Path) -> ClaudeRules:
    """Turn a task's scope into rules.

    Args:
        task: `editable`, `scope_root`, `read_only`, `readable_dirs`, `allowed_commands`, `denied_reads`.
        cwd: the real path of the task's folder, which is how the client names it.
    """
    notices: list[Notice] = []
    allow: list[str] = []
    root = cwd if task.scope_root is None else task.scope_root.resolve()
    writes = not task.read_only and bool(task.editable)
    if writes:
        for pattern in task.editable:
            glob = scope_glob(pattern, root)
            if glob is None:
                notices.append(_no_rule(pattern, "writing"))
            else:
                allow.append(f"Edit({_in_rule(glob)})")
    for folder in (*task.readable_dirs, *((root,) if root != cwd else ())):
        glob = _literal(str(folder.resolve()))
        if glob is None:
            notices.append(_no_rule(str(folder), "reading"))
        else:
            allow.append(f"Read({_in_rule(f'/{glob}/**')})")
    by_hook: list[str] = []
    for command in dict.fromkeys(line.strip() for line in task.allowed_commands):
        if not command:
            continue
        if _needs_hook(command):
            by_hook.append(command)
        else:
            allow.append(f"Bash({_in_rule(command)})")
    # Bash is always there: the client itself lets only reading commands pass unasked.
    tools = (*READ_TOOLS, *(EDIT_TOOLS if writes else ()), COMMAND_TOOL)
    return ClaudeRules(
        tools=tools,
        allow=tuple(dict.fromkeys(allow)),
        deny=(*_DENIED_COMMANDS, *_read_denials(task.denied_reads, root)),
        commands_by_hook=tuple(by_hook),
        notices=tuple(notices),
    )


def plan_settings(rules: ClaudeRules) -> dict[str, Any]:
    """The settings file of one run; the only settings the worker has."""
    return {
        "permissions": {
            "allow": list(rules.allow),
            "deny": list(rules.deny),
            "defaultMode": "dontAsk",
            "disableBypassPermissionsMode": "disable",
        },
        "includeCoAuthoredBy": False,
        "cleanupPeriodDays": 3650,
        "enableAllProjectMcpServers": False,
    }


def scope_glob(pattern: str, cwd: Path) -> str | None:
    """An absolute gitignore pattern for one entry of a scope.

    A name that exists is meant literally, brackets and all (`app/[id]/page.tsx`); a folder means everything
    below it; anything else with `*`, `?` or a closed bracket is a glob.

    Args:
        pattern: relative to `cwd`, `/` as separator.
        cwd: a real path.

    Returns:
        The pattern with the client's leading `//`, or None when its language cannot spell it or it would
        leave `cwd`.
    """
    if pattern in (".", "./"):
        return _below(cwd, "**")
    name = pattern.removeprefix("./")
    bare = name.rstrip("/")
    if not bare or name.startswith("/") or ".." in bare.split("/"):
        return None
    is_folder = (cwd / bare).is_dir()
    is_literal = is_folder or not _is_glob(name) or (cwd / bare).exists()
    glob = _literal(bare) if is_literal else bare if _spellable(bare) else None
    if glob is None:
        return None
    return _below(cwd, f"{glob}/**" if is_folder or name.endswith("/") else glob)


def _no_rule(name: str, purpose: str) -> Notice:
    return Notice(
        code="scope_not_expressible",
        text=f"{name!r} cannot be opened for {purpose}: Claude Code has no rule for such a name",
    )


def _below(cwd: Path, glob: str) -> str | None:
    base = _literal(str(cwd))
    return None if base is None else f"/{base}/{glob}"


def _is_glob(name: str) -> bool:
    return bool(re.search(r"[*?]|\[[^\]/]+\]", name))


def _spellable(glob: str) -> bool:
    return "\\" not in glob and not glob.endswith(" ") and not _has_control_characters(glob)


def _literal(name: str) -> str | None:
    """`name` as a gitignore pattern that matches only itself, or None when there is none."""
    if "?" in name or not _spellable(name):
        return None
    return re.sub(r"([*\[\]])", r"\\\1", name)


def _has_control_characters(text: str) -> bool:
    return any(character < " " or character == "\x7f" for character in text)


def _in_rule(content: str) -> str:
    """Content escaped for its place between the parentheses of a rule."""
    return content.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def _needs_hook(command: str) -> bool:
    # `:*` at the end means "any continuation"; a line break would be two commands.
    return "*" in command or "\\" in command or _has_control_characters(command)


def _read_denials(names: tuple[str, ...], cwd: Path) -> Iterator[str]:
    base = _literal(str(cwd))
    for name in names:
        content = _in_rule(name)
        yield f"Read({content})"
        yield f"Read(./{content})"
        yield f"Read(**/{content})"
        if base is not None:
            yield f"Read({_in_rule(f'/{base}/**/')}{content})"
        # Writing one is no better: the next run of anything would load it.
        yield f"Edit(**/{content})"


def allows_command(asked: str, commands: tuple[str, ...], cwd: Path) -> bool:
    """Whether a command is one of `commands`, word for word, perhaps after a `cd` into `cwd`.

    Args:
        asked: what the worker wants to run.
        commands: exact command lines.
        cwd: a real path.
    """
    line = asked.strip()
    for prefix in (f"cd {cwd} && ", f"cd '{cwd}' && ", f'cd "{cwd}" && '):
        line = line.removeprefix(prefix)
    return line.strip() in commands

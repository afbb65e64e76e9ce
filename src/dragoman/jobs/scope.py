"""What a worker may change, held against what was changed; the live rules are the first line, this the last.

A pattern is a file, a folder (everything below it) or a glob, relative to the top of the repository: `*` and
`?` stop at a slash, `**` does not. Names are compared in one Unicode form, since file systems differ.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from dragoman.workspace import Change, Workspace
from dragoman.workspace.git import Git
from dragoman.workspace.repository import Repository
from dragoman.workspace.snapshot import split_names, take_snapshot
from dragoman.workspace.store import scratch_folder

_WILD = re.compile(r"[*?\[]")


def plan_scope(patterns: Sequence[str], tree: Path, prefix: str) -> tuple[str, ...]:
    """Patterns relative to the top, for a lead that may have named files from where it stands.

    Args:
        patterns: as given.
        tree: top of the work tree.
        prefix: the folder the lead stands in, relative to the top; empty at the top itself.
    """
    return tuple(dict.fromkeys(_from_top(pattern, tree, prefix) for pattern in patterns))


def _from_top(pattern: str, tree: Path, prefix: str) -> str:
    if not prefix or _is_there(tree, pattern) or not _is_there(tree / prefix, pattern):
        return pattern
    return f"{prefix}/{pattern}"


def _is_there(folder: Path, pattern: str) -> bool:
    """Whether the part of a pattern before its first wildcard leads somewhere."""
    parts = pattern.rstrip("/").split("/")
    fixed: list[str] = []
    for part in parts:
        if _WILD.search(part):
            break
        fixed.append(part)
    if len(fixed) < len(parts) and not fixed:
        return True
    return folder.joinpath(*fixed).exists()


def outside_scope(changes: Iterable[Change], allowed: Sequence[str]) -> tuple[str, ...]:
    """The changed names that no pattern allows; a rename is a change of both its names.

    Args:
        changes: the delta.
        allowed: patterns relative to the top; empty allows nothing.
    """
    names: dict[str, None] = {}
    for change in changes:
        for name in (change.path, change.old_path):
            if name and not any(matches(name, pattern) for pattern in allowed):
                names[name] = None
    return tuple(names)


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern allows a name; both are relative to the top."""
    found = unicodedata.normalize("NFC", name)
    wanted = unicodedata.normalize("NFC", pattern.removeprefix("./"))
    bare = wanted.rstrip("/")
    if bare in ("", ".") or found == bare or found.startswith(f"{bare}/"):
        return True
    return _WILD.search(wanted) is not None and _compile(wanted).fullmatch(found) is not None


@functools.lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    """A glob as an expression; a folder that is meant, by a slash at its end, means all below it."""
    glob = f"{pattern}**" if pattern.endswith("/") else pattern
    out, at = "", 0
    while at < len(glob):
        if glob.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif glob.startswith("**", at):
            out, at = out + ".*", at + 2
        elif glob[at] == "*":
            out, at = out + "[^/]*", at + 1
        elif glob[at] == "?":
            out, at = out + "[^/]", at + 1
        elif (klass := re.match(r"\[([!^]?)([^\]/]+)\]", glob[at:])) is not None:
            inner = klass[2].replace("\\", "\\\\").replace("[", "\\[")
            out, at = out + f"[{'^' if klass[1] else ''}{inner}]", at + klass.end()
        else:
            out, at = out + re.escape(glob[at]), at + 1
    try:
        return re.compile(out, re.DOTALL)
    except re.error:
        return re.compile(re.escape(pattern))


def checkout_tree(repository: Repository, workspace: Workspace) -> str:
    """The id of the tree the user's checkout holds right now, untracked files included, ignored ones not.

    Only needed where nothing keeps a worker from writing there. The user's index is copied, not touched.
    """
    with scratch_folder(workspace) as scratch:
        return take_snapshot(
            workspace.keep(repository.git),
            repository.root,
            repository.index,
            scratch / "index",
            untracked=True,
        )


def changed_between(workspace: Workspace, before: str, after: str, *, git: Git) -> tuple[str, ...]:
    """Names that differ between two trees of `checkout_tree`."""
    if before == after:
        return ()
    out = workspace.keep(git).run("diff-tree", "-r", "-z", "--name-only", before, after).out
    return tuple(name.decode("utf-8", "replace") for name in split_names(out))

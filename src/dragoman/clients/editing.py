"""What the two editors of client configuration share: the error, and plain operations on nested tables."""

from __future__ import annotations

import copy
from typing import Any, Protocol, Self

from dragoman.errors import DragomanError

Path = tuple[str, ...]
Tree = dict[str, Any]


class EditRefused(DragomanError):
    """A client's configuration file cannot be edited without risk; it was left as it is.

    Attributes:
        line: where the trouble is, counted from 1; None when it is nowhere in particular.
    """

    code = "client_config_refused"

    def __init__(self, message: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or "dragoman setup --print shows what to write by hand")
        self.line = line


class ConfigText(Protocol):
    """A configuration text that knows its own format. Every operation gives a new text in which nothing but
    the named key is different, or raises `EditRefused`."""

    text: str

    @property
    def tree(self) -> Tree:
        """What the text means."""
        ...

    def literal(self, path: Path) -> str | None:
        """A value as it is spelled, None when the key is absent or spread over several places."""
        ...

    def with_value(self, path: Path, value: object) -> Self:
        """The text with a key set; tables around it are made when missing."""
        ...

    def with_literal(self, path: Path, literal: str) -> Self:
        """The text with an existing key's value spelled as given."""
        ...

    def without(self, path: Path, *, prune: int = 0) -> Self:
        """The text without a key or table, and without up to `prune` tables around it left empty by that."""
        ...


def lookup(tree: Tree, path: Path) -> Any:
    """The value at a path, None when there is none."""
    at: Any = tree
    for key in path:
        if not isinstance(at, dict) or key not in at:
            return None
        at = at[key]
    return at


def has(tree: Tree, path: Path) -> bool:
    """Whether a path exists."""
    parent = lookup(tree, path[:-1])
    return isinstance(parent, dict) and path[-1] in parent


def with_leaf(tree: Tree, path: Path, value: object) -> Tree:
    """A copy of the tree with one value set.

    Raises:
        EditRefused: something on the way is no table.
    """
    result = copy.deepcopy(tree)
    at = result
    for depth, key in enumerate(path[:-1], 1):
        at = at.setdefault(key, {})
        if not isinstance(at, dict):
            raise EditRefused(f"{'.'.join(path[:depth])} is not a table in this file")
    at[path[-1]] = value
    return result


def without_leaf(tree: Tree, path: Path, *, prune: int = 0) -> Tree:
    """A copy of the tree without one value, and without up to `prune` tables around it left empty."""
    result = copy.deepcopy(tree)
    parent = lookup(result, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1], None)
        if prune and len(path) > 1 and not parent:
            return without_leaf(result, path[:-1], prune=prune - 1)
    return result


def leaves(table: Tree, path: Path = ()) -> list[tuple[Path, Any]]:
    """Every value below a table; an empty table is a value."""
    found: list[tuple[Path, Any]] = []
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, dict) and value:
            found += leaves(value, here)
        else:
            found.append((here, value))
    return found


def splice(text: str, start: int, end: int, new: str) -> str:
    """`text` with the part between two offsets replaced."""
    return text[:start] + new + text[end:]


def newline_of(text: str) -> str:
    """How the lines of a text end."""
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"

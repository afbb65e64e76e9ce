"""What the two editors of client configuration share: the error, the base, operations on nested tables."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Self

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


class ConfigText(ABC):
    """A configuration text that knows its own format. Every operation gives a new text in which nothing but
    the named key is different, or raises `EditRefused`.

    Args:
        text: the text.
        name: how it is called in errors.

    Raises:
        EditRefused: it is not what it should be; the line is named.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.tree: Tree = self._read(text, name)

    @abstractmethod
    def literal(self, path: Path) -> str | None:
        """A value as it is spelled, None when the key is absent or spread over several places."""

    @abstractmethod
    def with_value(self, path: Path, value: object) -> Self:
        """The text with a key set, tables around it made when missing; an equal value stays as spelled.

        Raises:
            EditRefused: no place for it could be found that changes nothing else.
        """

    @abstractmethod
    def with_literal(self, path: Path, literal: str) -> Self:
        """The text with an existing value spelled as given.

        Raises:
            EditRefused: there is no such value, or the spelling is none.
        """

    @abstractmethod
    def with_table(self, path: Path, table: Tree) -> Self:
        """The text with a whole table of ours: added, or brought up to date in place.

        Raises:
            EditRefused: no place for it could be found that changes nothing else.
        """

    @abstractmethod
    def without(self, path: Path, *, prune: int = 0) -> Self:
        """The text without a key or table, and without up to `prune` tables around it left empty by that.

        Raises:
            EditRefused: it cannot be taken out without changing something else.
        """

    @staticmethod
    @abstractmethod
    def _read(text: str, name: str) -> Tree:
        """What the text means."""

    @staticmethod
    @abstractmethod
    def _dotted(path: Path) -> str:
        """A path as people of this format write it."""

    def _updated(self, path: Path, present: Tree, table: Tree) -> Self:
        """A table of ours brought up to date leaf by leaf."""
        result = self
        kept = {leaf for leaf, _ in leaves(table, path)}
        for leaf, _ in leaves(present, path):
            if leaf not in kept:
                result = result.without(leaf, prune=len(leaf) - len(path) - 1)
        for leaf, value in leaves(table, path):
            result = result.with_value(leaf, value)
        return result

    def _if_means(self, text: str, wanted: Tree) -> Self | None:
        """The changed text, None when it would mean anything else."""
        try:
            found = type(self)(text, self.name)
        except EditRefused:
            return None
        return found if found.tree == wanted else None

    def _must_mean(self, text: str, wanted: Tree, path: Path) -> Self:
        found = self._if_means(text, wanted)
        if found is None:
            raise EditRefused(f"{self._dotted(path)} cannot be changed in {self.name} safely")
        return found


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

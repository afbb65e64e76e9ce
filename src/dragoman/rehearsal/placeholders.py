"""`${name}` in the texts of a scenario: what a request supplies, so that a file can name real paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

# `$${` is a literal `${`.
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^{}]*)\}")

NAMES = ("cwd", "model", "wire", "turn", "user", "result")
# Names that give the groups of a rule's regular expression: `user_matches` for `${user.1}`.
GROUPED = ("user", "result", "earlier")


class Unfilled(Exception):
    """A placeholder for which the request has no value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def placeholder_names(value: Any) -> Iterator[str]:
    """Yield the names of all placeholders in a text, or in the texts of a nested table."""
    for text in _texts(value):
        for found in _PLACEHOLDER.finditer(text):
            if found[1] is not None:
                yield found[1]


def fill(value: Any, lookup: Callable[[str], str | None]) -> Any:
    """Put values in place of placeholders, in a text or in every text of a nested table.

    Raises:
        Unfilled: `lookup` has no value for a name.
    """
    match value:
        case str():
            return _PLACEHOLDER.sub(lambda found: _filled(found, lookup), value)
        case dict():
            return {key: fill(item, lookup) for key, item in value.items()}
        case list():
            return [fill(item, lookup) for item in value]
        case _:
            return value


def _filled(found: re.Match[str], lookup: Callable[[str], str | None]) -> str:
    if found[1] is None:
        return "${"
    value = lookup(found[1])
    if value is None:
        raise Unfilled(found[1])
    return value


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case _:
            return

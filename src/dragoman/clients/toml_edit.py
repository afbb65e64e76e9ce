"""Edits TOML by replacing spans of the text, and checks with `tomllib` that exactly the wanted key changed.

Every other byte stays by construction: comments, order, line ends, quotes, inline and dotted tables.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any, Self

from dragoman.clients.editing import (
    ConfigText,
    EditRefused,
    Path,
    Tree,
    has,
    lookup,
    newline_of,
    splice,
    with_leaf,
    without_leaf,
)
from dragoman.clients.toml_spans import Braces, Pair, Spans

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class TomlText(ConfigText):
    """A TOML text that can be edited.

    Args:
        text: the text.
        name: how it is called in errors.

    Raises:
        EditRefused: it is not TOML; the line is named.
    """

    def __init__(self, text: str, name: str = "config.toml") -> None:
        super().__init__(text, name)

    def literal(self, path: Path) -> str | None:
        pair = Spans(self.text).pairs.get(path)
        return self.text[pair.value_start : pair.value_end] if pair is not None else None

    def with_value(self, path: Path, value: object) -> Self:
        if has(self.tree, path):
            present = lookup(self.tree, path)
            if present == value:
                return self
            if isinstance(present, dict) or Spans(self.text).pairs.get(path) is None:
                raise EditRefused(f"{dotted(path)} is a table in {self.name}")
            return self.with_literal(path, spelled(value))
        wanted = with_leaf(self.tree, path, value)
        for candidate in _insertions(self.text, path, spelled(value)):
            if (found := self._if_means(candidate, wanted)) is not None:
                return found
        raise EditRefused(f"no safe place for {dotted(path)} in {self.name}")

    def with_literal(self, path: Path, literal: str) -> Self:
        pair = Spans(self.text).pairs.get(path)
        if pair is None:
            raise EditRefused(f"{dotted(path)} is not one value in {self.name}")
        value = _parse(f"value = {literal}", self.name)["value"]
        changed = splice(self.text, pair.value_start, pair.value_end, literal)
        return self._must_mean(changed, with_leaf(self.tree, path, value), path)

    def with_table(self, path: Path, table: Tree) -> Self:
        present = lookup(self.tree, path)
        if present == table:
            return self
        if present is None:
            block = _block(path, table, newline_of(self.text))
            wanted = with_leaf(self.tree, path, table)
            if (found := self._if_means(_append(self.text, block), wanted)) is not None:
                return found
        return self._updated(path, present if isinstance(present, dict) else {}, table)

    def without(self, path: Path, *, prune: int = 0) -> Self:
        if not has(self.tree, path):
            return self
        wanted = [without_leaf(self.tree, path, prune=depth) for depth in range(prune, len(path))]
        wanted += [without_leaf(self.tree, path, prune=depth) for depth in range(prune)]
        changed = _remove(self.text, path)
        for depth in range(1, prune + 1):
            changed = _remove_empty_header(changed, path[:-depth])
        for tree in wanted:
            if (found := self._if_means(changed, tree)) is not None:
                return found
        raise EditRefused(f"{dotted(path)} cannot be taken out of {self.name} safely")

    @staticmethod
    def _read(text: str, name: str) -> Tree:
        return _parse(text, name)

    @staticmethod
    def _dotted(path: Path) -> str:
        return dotted(path)


def spelled(value: object) -> str:
    """A value in TOML: text, numbers, truth values, lists and (inline) tables of these."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            # JSON's escapes are TOML's but for DEL, which TOML wants escaped too
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return "[" + ", ".join(spelled(item) for item in value) + "]"
        case dict():
            inside = ", ".join(f"{_key(str(key))} = {spelled(item)}" for key, item in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case _:
            raise TypeError(f"not a TOML value of ours: {type(value).__name__}")


def dotted(path: tuple[Any, ...]) -> str:
    """A path as TOML spells it."""
    return ".".join(_key(str(part)) for part in path)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else spelled(key)


def _parse(text: str, name: str) -> Tree:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        reason = str(error).partition(" (at ")[0]
        message = f"{name}, line {line} is not valid TOML ({reason}); the file was left alone"
        raise EditRefused(message, line=line, hint=f"correct line {line}, then try again") from None
    except RecursionError:
        raise EditRefused(f"{name} is nested too deeply; the file was left alone") from None


def _block(path: Path, table: Tree, newline: str) -> str:
    """A table with its sub-tables, as sections."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"[{dotted(path)}]", *(f"{_key(key)} = {spelled(value)}" for key, value in plain.items())]
    block = newline.join(lines) + newline
    for key, value in table.items():
        if isinstance(value, dict):
            block += newline + _block((*path, key), value, newline)
    return block


def _append(text: str, block: str) -> str:
    newline = newline_of(text)
    if not text.strip():
        return text + block
    gap = "" if text.endswith("\n") else newline
    return text + gap + newline + block


def _insertions(text: str, path: Path, literal: str) -> Iterator[str]:
    """Texts with a new key, the most natural place first; whether one is right is for the caller to check."""
    spans = Spans(text)
    for depth in range(len(path) - 1, 0, -1):
        if (braces := spans.inline.get(path[:depth])) is not None:
            yield _into_braces(text, braces, f"{dotted(path[depth:])} = {literal}")
    for index, section in enumerate(spans.sections):
        if section.path == path[:-1]:
            yield _into_section(text, spans, index, f"{_key(path[-1])} = {literal}")
    if (sibling := _dotted_sibling(spans, path)) is not None:
        section = spans.sections[sibling.section]
        relative = path[len(section.path) :]
        yield _after(text, sibling, f"{dotted(relative)} = {literal}")
    yield _append(
        text, _block(path[:-1], {}, newline_of(text)) + f"{_key(path[-1])} = {literal}" + newline_of(text)
    )
    yield _into_section(text, spans, 0, f"{dotted(path)} = {literal}")


def _dotted_sibling(spans: Spans, path: Path) -> Pair | None:
    """The last pair that defines a table around `path` by a dotted key."""
    for depth in range(len(path) - 1, 0, -1):
        found = [
            pair
            for key, pair in spans.pairs.items()
            if not pair.inline
            and key[:depth] == path[:depth]
            and len(key) > depth
            and len(spans.sections[pair.section].path) < depth
        ]
        if found:
            return max(found, key=lambda pair: pair.start)
    return None


def _into_section(text: str, spans: Spans, index: int, line: str) -> str:
    last = spans.last_pair_of(index)
    if last is not None:
        return _after(text, last, line)
    section, newline = spans.sections[index], newline_of(text)
    if index == 0:  # nothing before the first header yet
        return line + newline + (newline if text.strip() else "") + text
    indent = _indent(text, section.start)
    lead = "" if text[: section.end].endswith("\n") else newline
    return splice(text, section.end, section.end, lead + indent + line + newline)


def _after(text: str, pair: Pair, line: str) -> str:
    newline = newline_of(text)
    lead = "" if text[: pair.end].endswith("\n") else newline
    return splice(text, pair.end, pair.end, lead + _indent(text, pair.start) + line + newline)


def _indent(text: str, start: int) -> str:
    found = re.compile(r"[ \t]*").match(text, start)
    return found[0] if found else ""


def _into_braces(text: str, braces: Braces, entry: str) -> str:
    if not braces.pairs:
        return splice(text, braces.open + 1, braces.close, f" {entry} ")
    return splice(text, braces.pairs[-1][1], braces.pairs[-1][1], f", {entry}")


def _remove(text: str, path: Path) -> str:
    spans = Spans(text)
    depth = len(path)
    cuts: list[tuple[int, int]] = []
    own = {index for index, section in enumerate(spans.sections) if index and section.path[:depth] == path}
    for index in own:
        section, last = spans.sections[index], spans.last_pair_of(index)
        cuts.append(_with_gap(text, section.start, last.end if last else section.end))
    cuts += [
        (pair.start, pair.end)
        for key, pair in spans.pairs.items()
        if key[:depth] == path and pair.section not in own and not pair.inline
    ]
    for start, end in sorted(cuts, reverse=True):
        text = splice(text, start, end, "")
    while (cut := _inline_cut(Spans(text), path)) is not None:
        text = splice(text, *cut, "")
    return text


def _inline_cut(spans: Spans, path: Path) -> tuple[int, int] | None:
    """Where the outermost pair of `path` that still stands in an inline table is to be cut out."""
    for key in sorted(spans.pairs, key=len):
        if key[: len(path)] == path and spans.pairs[key].inline:
            return _out_of_braces(spans, spans.pairs[key])
    return None


def _remove_empty_header(text: str, path: Path) -> str:
    spans = Spans(text)
    for index in range(len(spans.sections) - 1, 0, -1):
        section = spans.sections[index]
        if section.path == path and spans.last_pair_of(index) is None:
            text = splice(text, *_with_gap(text, section.start, section.end), "")
    return text


def _with_gap(text: str, start: int, end: int) -> tuple[int, int]:
    """The blank line before a section goes with it, when another gap or the end follows."""
    before = re.search(r"(?:\r?\n)(\r?\n)$", text[:start])
    if before is not None and (end == len(text) or text[end:].startswith(("\n", "\r\n"))):
        return before.start(1), end
    return start, end


def _out_of_braces(spans: Spans, pair: Pair) -> tuple[int, int]:
    for braces in spans.inline.values():
        for index, (start, end) in enumerate(braces.pairs):
            if start != pair.start:
                continue
            if index + 1 < len(braces.pairs):
                return start, braces.pairs[index + 1][0]
            if index:
                return braces.pairs[index - 1][1], end
            return braces.open + 1, braces.close
    raise EditRefused("an inline table could not be read")

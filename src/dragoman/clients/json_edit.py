"""Edits JSON by replacing spans of the text, and reads it again to check that only the wanted key changed."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, Self

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

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}]+")
_DEFAULT_INDENT = "  "


class Member(NamedTuple):
    """One `"key": value` of an object: offsets of the whole and of the value."""

    start: int
    value_start: int
    value_end: int


class Braces(NamedTuple):
    """An object: offsets of its braces and its members in order."""

    open: int
    close: int
    members: tuple[Member, ...]


class JsonText(ConfigText):
    """A JSON object that can be edited.

    Args:
        text: the text; an empty one is an empty object.
        name: how it is called in errors.

    Raises:
        EditRefused: it is not a JSON object; the line is named.
    """

    def __init__(self, text: str, name: str = "settings.json") -> None:
        super().__init__(text, name)

    def literal(self, path: Path) -> str | None:
        member = _Spans(self.text).members.get(path)
        return self.text[member.value_start : member.value_end] if member is not None else None

    def with_value(self, path: Path, value: object) -> Self:
        if has(self.tree, path) and lookup(self.tree, path) == value:
            return self
        if not self.text.strip():
            return self._must_mean(_fresh(path, value), with_leaf({}, path, value), path)
        wanted = with_leaf(self.tree, path, value)
        spans = _Spans(self.text)
        if (member := spans.members.get(path)) is not None:
            changed = splice(self.text, member.value_start, member.value_end, spelled(value))
            return self._must_mean(changed, wanted, path)
        depth = max(depth for depth in range(len(path)) if path[:depth] in spans.objects)
        changed = _insert(self.text, spans.objects[path[:depth]], path[depth:], value)
        return self._must_mean(changed, wanted, path)

    def with_literal(self, path: Path, literal: str) -> Self:
        member = _Spans(self.text).members.get(path)
        if member is None:
            raise EditRefused(f"{'.'.join(path)} is not in {self.name}")
        changed = splice(self.text, member.value_start, member.value_end, literal)
        return self._must_mean(changed, with_leaf(self.tree, path, json.loads(literal)), path)

    def with_table(self, path: Path, table: Tree) -> Self:
        present = lookup(self.tree, path)
        if not isinstance(present, dict):
            return self.with_value(path, table)
        return self._updated(path, present, table)

    def without(self, path: Path, *, prune: int = 0) -> Self:
        if not has(self.tree, path):
            return self
        while prune and len(path) > 1 and len(lookup(self.tree, path[:-1])) == 1:
            path, prune = path[:-1], prune - 1
        spans = _Spans(self.text)
        braces = spans.objects[path[:-1]]
        changed = _cut(self.text, braces, spans.members[path])
        return self._must_mean(changed, without_leaf(self.tree, path), path)

    @staticmethod
    def _read(text: str, name: str) -> Tree:
        return _parse(text, name)

    @staticmethod
    def _dotted(path: Path) -> str:
        return ".".join(path)


def spelled(value: object) -> str:
    """A value in JSON, on one line."""
    return json.dumps(value, ensure_ascii=False)


class _Spans:
    """Where every object and member of a JSON text stands; of a key given twice the last, as for readers."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.objects: dict[Path, Braces] = {}
        self.members: dict[Path, Member] = {}
        self._value(self._space(0), ())

    def _value(self, at: int, path: Path | None) -> int:
        char = self.text[at]
        if char == "{":
            return self._object(at, path)
        if char == "[":
            at = self._space(at + 1)
            while self.text[at] != "]":
                at = self._space(self._value(at, None))
                at = self._space(at + 1) if self.text[at] == "," else at
            return at + 1
        found = (_STRING if char == '"' else _SCALAR).match(self.text, at)
        return found.end() if found else at + 1

    def _object(self, opening: int, path: Path | None) -> int:
        members: list[Member] = []
        if path is not None:  # an earlier object under the same key no longer counts
            for known in [
                key for key in (*self.objects, *self.members) if key[: len(path)] == path and key != path
            ]:
                self.objects.pop(known, None)
                self.members.pop(known, None)
        at = self._space(opening + 1)
        while self.text[at] != "}":
            start = at
            key_end = self._value(at, None)
            here = (*path, json.loads(self.text[start:key_end], strict=False)) if path is not None else None
            value_start = self._space(self._space(key_end) + 1)
            if here is not None and self.text[value_start] != "{":
                for known in [key for key in self.objects if key[: len(here)] == here]:
                    del self.objects[known]
            value_end = self._value(value_start, here)
            member = Member(start, value_start, value_end)
            members.append(member)
            if here is not None:
                self.members[here] = member
            at = self._space(value_end)
            at = self._space(at + 1) if self.text[at] == "," else at
        if path is not None:
            self.objects[path] = Braces(opening, at, tuple(members))
        return at + 1

    def _space(self, at: int) -> int:
        found = _SPACE.match(self.text, at)
        return found.end() if found else at


def _parse(text: str, name: str) -> Tree:
    if not text.strip():
        return {}
    try:
        tree: Any = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"{name}, line {error.lineno} is not valid JSON ({error.msg}); the file was left alone"
        hint = f"correct line {error.lineno}, then try again"
        raise EditRefused(message, line=error.lineno, hint=hint) from None
    except RecursionError:
        raise EditRefused(f"{name} is nested too deeply; the file was left alone") from None
    if not isinstance(tree, dict):
        raise EditRefused(f"{name} holds no JSON object; the file was left alone", line=1)
    return tree


def _fresh(path: Path, value: object) -> str:
    return json.dumps(with_leaf({}, path, value), indent=_DEFAULT_INDENT, ensure_ascii=False) + "\n"


def _insert(text: str, braces: Braces, path: Path, value: object) -> str:
    """A new member at the end of an object, laid out like its neighbours."""
    newline = newline_of(text)
    key, *inner = path
    nested: object = with_leaf({}, tuple(inner), value) if inner else value
    if braces.members:
        last = braces.members[-1]
        line_start = text.rfind("\n", 0, last.start) + 1
        lead = text[line_start : last.start]
        if line_start > braces.open and not lead.strip():  # each member has its own line
            entry = _laid_out(key, nested, lead, _step(text, braces, lead), newline)
            return splice(text, last.value_end, last.value_end, f",{newline}{entry}")
        return splice(text, last.value_end, last.value_end, f", {spelled(key)}: {spelled(nested)}")
    outer = re.compile(r"[ \t]*").match(text, text.rfind("\n", 0, braces.open) + 1)
    indent = outer[0] if outer else ""
    entry = _laid_out(key, nested, indent + _DEFAULT_INDENT, _DEFAULT_INDENT, newline)
    return splice(text, braces.open + 1, braces.close, f"{newline}{entry}{newline}{indent}")


def _laid_out(key: str, value: object, lead: str, step: str, newline: str) -> str:
    body = json.dumps({key: value}, indent=step, ensure_ascii=False).split("\n")[1:-1]
    return newline.join(lead + line.removeprefix(step) for line in body)


def _step(text: str, braces: Braces, lead: str) -> str:
    """One level of indentation, as this object has it."""
    outer = re.compile(r"[ \t]*").match(text, text.rfind("\n", 0, braces.open) + 1)
    inner = lead.removeprefix(outer[0]) if outer else lead
    return inner or _DEFAULT_INDENT


def _cut(text: str, braces: Braces, member: Member) -> str:
    """Take a member out with its comma and its line."""
    index = braces.members.index(member)
    if len(braces.members) == 1:
        return splice(text, braces.open + 1, braces.close, "")
    if index:
        return splice(text, braces.members[index - 1].value_end, member.value_end, "")
    return splice(text, member.start, braces.members[1].start, "")

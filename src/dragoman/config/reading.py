"""Reads a TOML table into a struct and notes everything that is wrong with it, not just the first thing."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

KeyPath = tuple[str | int, ...]
S = TypeVar("S", bound=msgspec.Struct)

_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")


class Problem(NamedTuple):
    """Something wrong: the key it is about and what is wrong with it, never the value itself."""

    path: KeyPath
    message: str


def dotted(path: Iterable[str | int]) -> str:
    """A key path as it is written in TOML: `models."a.b".wire`, `keys[0].env`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            word = part if bare else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{word}" if text else word
    return text


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `name`, or None when none does."""
    from difflib import get_close_matches  # only an error needs it, and start-up is short

    names = {candidate.casefold(): candidate for candidate in known}
    found = get_close_matches(name.casefold(), names, n=1, cutoff=0.5)
    return names[found[0]] if found else None


def read_table(kind: type[S], table: Mapping[str, Any], path: KeyPath, problems: list[Problem]) -> S | None:
    """Read `table` as `kind`.

    Args:
        kind: the struct to make.
        table: what TOML gave.
        path: where the table stands, for the problems.
        problems: everything found wrong is appended here.

    Returns:
        The struct, or None when something in it is wrong.
    """
    fields = _fields(kind)
    before = len(problems)
    values: dict[str, Any] = {}
    for key, value in table.items():
        field = fields.get(key)
        if field is None:
            problems.append(_unknown((*path, key), fields))
        else:
            values[field.name] = read_value(field.type, value, (*path, key), problems)
    for name, field in fields.items():
        if field.required and name not in table:
            problems.append(Problem(path, f"the key {name} is missing"))
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        problems.append(Problem(path, str(error)))
        return None


def read_value(kind: Any, value: Any, path: KeyPath, problems: list[Problem]) -> Any:
    """Read one value as the type `kind`; problems are appended and None is returned."""
    kind = _without_none(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(value, dict):
            return _wrong(path, "a table", value, problems)
        return read_table(kind, value, path, problems)
    if origin is dict:
        if not isinstance(value, dict):
            return _wrong(path, "a table", value, problems)
        for key in value:
            if get_origin(arguments[0]) is Literal and key not in get_args(arguments[0]):
                problems.append(_unknown((*path, key), get_args(arguments[0])))
        return {key: read_value(arguments[1], item, (*path, key), problems) for key, item in value.items()}
    if origin is tuple:
        if not isinstance(value, list):
            return _wrong(path, "a list", value, problems)
        items = [read_value(arguments[0], v, (*path, n), problems) for n, v in enumerate(value)]
        return tuple(items)
    if origin is Literal:
        if value not in arguments:
            message = f"expected one of {', '.join(map(str, arguments))}"
            if isinstance(value, str) and (close := nearest(value, arguments)):
                message += f" (nearest: {close})"
            problems.append(Problem(path, message))
        return value
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problems.append(Problem(path, plain_reason(error)))
        return None


def plain_reason(error: msgspec.ValidationError) -> str:
    """msgspec's words in ours: `expected int, got str`."""
    text = _AT.sub("", str(error)).replace("`", "")
    return text[:1].lower() + text[1:]


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        left = [option for option in get_args(kind) if option is not type(None)]
        return left[0] if len(left) == 1 else Union[tuple(left)]  # noqa: UP007 - built at run time
    if get_origin(kind) is Annotated and get_origin(get_args(kind)[0]) in (Union, types.UnionType):
        raise TypeError(f"annotate the type, not its union with None: {kind}")
    return kind


def _unknown(path: KeyPath, known: Iterable[str]) -> Problem:
    close = nearest(str(path[-1]), known)
    there = f" (nearest: {dotted((*path[:-1], close))})" if close else f" (known: {', '.join(sorted(known))})"
    return Problem(path, f"unknown key{there}")


def _wrong(path: KeyPath, wanted: str, value: object, problems: list[Problem]) -> None:
    names = {dict: "a table", list: "a list", str: "text", bool: "true or false", int: "a number"}
    problems.append(Problem(path, f"expected {wanted}, got {names.get(type(value), type(value).__name__)}"))

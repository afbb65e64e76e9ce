"""Tool declarations of the Responses protocol: functions, freeform tools, namespaces, built-in and hosted."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dragoman.wire.errors import BadRequest
from dragoman.wire.reading import ABSENT, json_of, read, text_of
from dragoman.wire.turns import Grammar, RawText, Tool

LOCAL_SHELL = "local_shell"
TOOL_SEARCH = "tool_search"

_LOCAL_SHELL_DESCRIPTION: RawText = b"Runs a command on the user's machine and returns its output."
_LOCAL_SHELL_SCHEMA = (
    b'{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"},'
    b'"description":"The program and its arguments."},"working_directory":{"type":"string"},'
    b'"timeout_ms":{"type":"number"}},"required":["command"]}'
)


class _Format(msgspec.Struct):
    type: str
    syntax: str | None = None
    definition: msgspec.Raw = ABSENT


class _Tool(msgspec.Struct):
    type: str
    name: str | None = None
    description: msgspec.Raw = ABSENT
    parameters: msgspec.Raw = ABSENT
    strict: bool | None = None
    format: _Format | None = None
    tools: list[msgspec.Raw] | None = None
    defer_loading: bool | None = None
    execution: str | None = None


_tool = msgspec.json.Decoder(_Tool)


def tools_of(value: msgspec.Raw, path: str, namespace: str | None = None) -> list[Tool]:
    """The tools one declaration stands for; a namespace stands for all inside it.

    Raises:
        BadRequest: with the JSON path of what is wrong.
    """
    found = read(_tool, value, path)
    match found.type:
        case "function" | "custom":
            if not found.name:
                raise BadRequest("A tool needs a name", path=f"{path}.name")
            return [_named(found, found.name, namespace, bytes(value))]
        case "namespace":
            if not found.name:
                raise BadRequest("A namespace needs a name", path=f"{path}.name")
            return [
                tool
                for i, inner in enumerate(found.tools or [])
                for tool in tools_of(inner, f"{path}.tools[{i}]", found.name)
            ]
        case "local_shell":
            return [
                Tool(
                    kind="local_shell",
                    name=LOCAL_SHELL,
                    description=_LOCAL_SHELL_DESCRIPTION,
                    schema=_LOCAL_SHELL_SCHEMA,
                    type=found.type,
                    json=bytes(value),
                )
            ]
        case "tool_search" if found.execution == "client":
            return [
                Tool(
                    kind="tool_search",
                    name=TOOL_SEARCH,
                    description=text_of(found.description),
                    schema=json_of(found.parameters),
                    type=found.type,
                    json=bytes(value),
                )
            ]
        case other:
            return [Tool(kind="hosted", name=other, type=other, json=bytes(value))]


def _named(found: _Tool, name: str, namespace: str | None, json: bytes) -> Tool:
    grammar = None
    if found.format is not None and found.format.type == "grammar":
        definition = text_of(found.format.definition)
        grammar = Grammar(syntax=found.format.syntax or "lark", definition=definition or b"")
    return Tool(
        kind="freeform" if found.type == "custom" else "function",
        name=name,
        namespace=namespace,
        description=text_of(found.description),
        schema=json_of(found.parameters),
        strict=found.strict,
        grammar=grammar,
        type=found.type,
        deferred=bool(found.defer_loading),
        json=json,
    )


def joined(declared: Iterable[Tool], found: Iterable[Tool]) -> tuple[Tool, ...]:
    """Declared tools, then those that came with the conversation; a found tool is loaded from then on.

    Where nothing searches for tools, none can stay hidden: then all are loaded.
    """
    tools: dict[tuple[str | None, str, bool], Tool] = {}
    for tool in declared:
        tools.setdefault((tool.namespace, tool.name, tool.kind == "hosted"), tool)
    for tool in found:
        key = (tool.namespace, tool.name, tool.kind == "hosted")
        if key not in tools or tools[key].deferred:
            tools[key] = msgspec.structs.replace(tool, deferred=False) if tool.deferred else tool
    if not any(tool.kind == "tool_search" for tool in tools.values()):
        return tuple(
            msgspec.structs.replace(tool, deferred=False) if tool.deferred else tool
            for tool in tools.values()
        )
    return tuple(tools.values())

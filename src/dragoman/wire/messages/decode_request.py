"""A Messages request, as Claude Code and the Anthropic SDKs send it, decoded to turns.

Learned from Claude Code 2.1.197 and 2.1.329: `role: "system"` messages stand inside `messages`, arguments
that did not parse come back as `{"__unparsedToolInput": ...}`, thinking comes back with `signature: ""` or
any string it was given, and an absent `thinking` means that none is wanted. 2.1.329 declares a deferred tool
with `defer_loading` even after its tool search has found it; only a `tool_reference` says that it was.
"""

from __future__ import annotations

import re
from typing import Annotated, cast, get_args

import msgspec

from dragoman.wire.errors import BadRequest
from dragoman.wire.messages.decode_blocks import Message, decode_messages, decode_system
from dragoman.wire.reading import ABSENT, is_set, json_of, kind_of, read, text_of
from dragoman.wire.turns import (
    Effort,
    Format,
    RawJson,
    Request,
    Thinking,
    Tool,
    ToolChoice,
)

_SAMPLING = ("temperature", "top_p", "top_k")
_EFFORTS = frozenset(get_args(Effort))

_FOUND_TOOL = re.compile(rb'"tool_name"\s*:\s*"([^"\\]+)"')


class _Tool(msgspec.Struct):
    name: str = ""
    type: str | None = None
    description: msgspec.Raw = ABSENT
    input_schema: msgspec.Raw = ABSENT
    cache_control: msgspec.Raw = ABSENT
    defer_loading: bool | None = None
    strict: bool | None = None


class _Choice(msgspec.Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


class _Format(msgspec.Struct):
    type: str
    schema: msgspec.Raw = ABSENT


class _OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: _Format | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _UserId(msgspec.Struct):
    session_id: str | None = None


class _Body(msgspec.Struct):
    model: str
    messages: list[Message]
    system: msgspec.Raw = ABSENT
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    stream: bool | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None
    stop_sequences: list[str] | None = None
    temperature: msgspec.Raw = ABSENT
    top_p: msgspec.Raw = ABSENT
    top_k: msgspec.Raw = ABSENT
    service_tier: str | None = None
    metadata: _Metadata | None = None


_body = msgspec.json.Decoder(_Body)
_tool = msgspec.json.Decoder(_Tool)
_user_id = msgspec.json.Decoder(_UserId)


def decode(body: bytes) -> Request:
    """Decode the body of `POST /v1/messages` (or of its `count_tokens`, which has no `max_tokens`).

    Raises:
        BadRequest: with the JSON path of what is wrong.
    """
    fields = read(_body, body)
    config = fields.output_config or _OutputConfig()
    choice, parallel = _choice(fields.tool_choice)
    return Request(
        wire="messages",
        model=fields.model,
        stream=bool(fields.stream),
        system=decode_system(fields.system) if is_set(fields.system) else (),
        turns=decode_messages(fields.messages, body),
        tools=_tools(fields.tools or [], body),
        tool_choice=choice,
        parallel_calls=parallel,
        thinking=_thinking(fields.thinking, config),
        max_output_tokens=fields.max_tokens,
        sampling=_sampling(fields),
        stop=tuple(fields.stop_sequences or ()),
        format=_format(config.format or fields.output_format),
        cache_key=_session(fields.metadata),
        user=fields.metadata.user_id if fields.metadata else None,
        service_tier=fields.service_tier,
        body=body,
    )


def _sampling(fields: _Body) -> dict[str, RawJson]:
    out: dict[str, RawJson] = {}
    for name in _SAMPLING:
        value: msgspec.Raw = getattr(fields, name)
        if is_set(value):
            if kind_of(value) != "number":
                raise BadRequest(f"Expected `number`, got `{kind_of(value)}`", path=f"$.{name}")
            out[name] = bytes(value)
    return out


def _session(metadata: _Metadata | None) -> str | None:
    """Claude Code puts a JSON string with its session id into `metadata.user_id`."""
    if metadata is None or not metadata.user_id or not metadata.user_id.startswith("{"):
        return None
    try:
        return _user_id.decode(metadata.user_id.encode()).session_id
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None


def _thinking(thinking: _Thinking | None, config: _OutputConfig) -> Thinking:
    effort = cast(Effort, config.effort) if config.effort in _EFFORTS else None
    if thinking is None:
        return Thinking(mode="off", effort=effort)
    match thinking.type:
        case "adaptive":
            return Thinking(mode="adaptive", effort=effort, summary=thinking.display)
        case "enabled":
            return Thinking(mode="on", effort=effort, budget_tokens=thinking.budget_tokens)
        case _:
            return Thinking(mode="off", effort=effort)


def _format(found: _Format | None) -> Format | None:
    if found is None or found.type != "json_schema":
        return None
    return Format(kind="json_schema", schema=json_of(found.schema), strict=True)


def _choice(choice: _Choice | None) -> tuple[ToolChoice | None, bool | None]:
    if choice is None:
        return None, None
    parallel = None if choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use
    match choice.type:
        case "auto":
            return ToolChoice(mode="auto"), parallel
        case "any":
            return ToolChoice(mode="required"), parallel
        case "none":
            return ToolChoice(mode="none"), parallel
        case "tool":
            if not choice.name:
                raise BadRequest("A tool choice of type `tool` needs a name", path="$.tool_choice.name")
            return ToolChoice(mode="named", name=choice.name), parallel
        case other:
            raise BadRequest(f"Unknown tool choice `{other}`", path="$.tool_choice.type")


def _found_tools(body: bytes) -> frozenset[str]:
    """The names of the tools that a tool search has found: a model that was told so will call them."""
    if b'"tool_reference"' not in body:
        return frozenset()
    return frozenset(name.decode("utf-8", "replace") for name in _FOUND_TOOL.findall(body))


def _tools(values: list[msgspec.Raw], body: bytes) -> tuple[Tool, ...]:
    tools = [read(_tool, value, f"$.tools[{i}]") for i, value in enumerate(values)]
    for i, tool in enumerate(tools):
        if not tool.name and tool.type in (None, "custom"):
            raise BadRequest("A tool needs a name", path=f"$.tools[{i}].name")
    found = _found_tools(body) if any(tool.defer_loading for tool in tools) else frozenset[str]()
    return tuple(_tool_of(tool, value, found) for tool, value in zip(tools, values, strict=True))


def _tool_of(tool: _Tool, value: msgspec.Raw, found: frozenset[str]) -> Tool:
    if tool.type is not None and tool.type != "custom":
        return Tool(
            kind="hosted",
            name=tool.name or tool.type,
            type=tool.type,
            json=bytes(value),
            cache_control=json_of(tool.cache_control),
        )
    return Tool(
        name=tool.name,
        description=text_of(tool.description),
        schema=json_of(tool.input_schema),
        strict=tool.strict,
        deferred=bool(tool.defer_loading) and tool.name not in found,
        json=bytes(value),
        cache_control=json_of(tool.cache_control),
    )

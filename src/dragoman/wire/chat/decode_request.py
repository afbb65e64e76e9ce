"""A Chat Completions request, as the OpenAI SDKs and the tools built on them send it, decoded to turns."""

from __future__ import annotations

from typing import cast, get_args

import msgspec

from dragoman.wire.chat.decode_messages import Custom, Function, Message, decode_messages
from dragoman.wire.errors import BadRequest
from dragoman.wire.reading import ABSENT, is_set, json_of, kind_of, read, text_of
from dragoman.wire.turns import (
    Effort,
    Format,
    Grammar,
    Note,
    RawJson,
    Request,
    Text,
    Thinking,
    Tool,
    ToolChoice,
)

_SAMPLING = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed")
_EFFORTS = frozenset(get_args(Effort))


class _Tool(msgspec.Struct):
    type: str
    function: Function | None = None
    custom: Custom | None = None


class _Named(msgspec.Struct):
    name: str | None = None


class _Choice(msgspec.Struct):
    type: str | None = None
    name: str | None = None
    function: _Named | None = None
    custom: _Named | None = None


class _Schema(msgspec.Struct):
    name: str = "answer"
    schema: msgspec.Raw = ABSENT
    strict: bool | None = None
    description: msgspec.Raw = ABSENT


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Toggle(msgspec.Struct):
    type: str | None = None


class _Body(msgspec.Struct):
    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[Function] | None = None
    tool_choice: str | _Choice | None = None
    function_call: str | _Choice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    reasoning_effort: str | None = None
    thinking: _Toggle | None = None
    temperature: msgspec.Raw = ABSENT
    top_p: msgspec.Raw = ABSENT
    top_k: msgspec.Raw = ABSENT
    presence_penalty: msgspec.Raw = ABSENT
    frequency_penalty: msgspec.Raw = ABSENT
    seed: msgspec.Raw = ABSENT
    stop: str | list[str] | None = None
    n: int | None = None
    response_format: _ResponseFormat | None = None
    verbosity: str | None = None
    prompt_cache_key: str | None = None
    user: str | None = None
    service_tier: str | None = None


_body = msgspec.json.Decoder(_Body)
_tool = msgspec.json.Decoder(_Tool)


def decode(body: bytes) -> Request:
    """Decode the body of `POST /v1/chat/completions`, the older `functions` fields included.

    Raises:
        BadRequest: with the JSON path of what is wrong.
    """
    fields = read(_body, body)
    if fields.n is not None and fields.n > 1:
        raise BadRequest("Only one answer at a time can be translated", path="$.n", hint="ask with n = 1")
    turns = decode_messages(fields.messages)
    system: list[Text] = []
    while turns and isinstance(first := turns[0], Note):
        system.extend(first.parts)
        turns.pop(0)
    stop = fields.stop
    return Request(
        wire="chat",
        model=fields.model,
        stream=bool(fields.stream),
        system=tuple(system),
        turns=tuple(turns),
        tools=_tools(fields),
        tool_choice=_choice(fields.tool_choice if fields.tool_choice is not None else fields.function_call),
        parallel_calls=fields.parallel_tool_calls,
        thinking=_thinking(fields),
        max_output_tokens=_ceiling(fields.max_completion_tokens or fields.max_tokens),
        sampling=_sampling(fields),
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        format=_format(fields.response_format),
        verbosity=fields.verbosity,
        include_usage=bool(fields.stream_options and fields.stream_options.include_usage),
        cache_key=fields.prompt_cache_key,
        user=fields.user,
        service_tier=fields.service_tier,
        body=body,
    )


def _ceiling(wanted: int | None) -> int | None:
    """The output ceiling; clients of local servers say that there is none by -1."""
    return wanted if wanted is not None and wanted > 0 else None


def _sampling(fields: _Body) -> dict[str, RawJson]:
    out: dict[str, RawJson] = {}
    for name in _SAMPLING:
        value: msgspec.Raw = getattr(fields, name)
        if is_set(value):
            if kind_of(value) != "number":
                raise BadRequest(f"Expected `number`, got `{kind_of(value)}`", path=f"$.{name}")
            out[name] = bytes(value)
    return out


def _thinking(fields: _Body) -> Thinking:
    effort = cast(Effort, fields.reasoning_effort) if fields.reasoning_effort in _EFFORTS else None
    switch = fields.thinking.type if fields.thinking is not None else None
    if switch == "disabled" or effort == "none":
        return Thinking(mode="off", effort=effort)
    return Thinking(mode="on" if switch == "enabled" else "default", effort=effort)


def _format(found: _ResponseFormat | None) -> Format | None:
    if found is None or found.type not in ("json_object", "json_schema"):
        return None
    if found.type == "json_object" or found.json_schema is None:
        return Format(kind="json_object")
    inner = found.json_schema
    return Format(
        kind="json_schema",
        name=inner.name,
        schema=json_of(inner.schema),
        strict=inner.strict,
        description=text_of(inner.description),
    )


def _choice(choice: str | _Choice | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice)
        case str():
            raise BadRequest(f"Unknown tool choice `{choice}`", path="$.tool_choice")
        case _Choice():
            named = choice.function or choice.custom
            name = named.name if named is not None else choice.name
            if not name:
                raise BadRequest("A tool choice of this kind needs a name", path="$.tool_choice")
            return ToolChoice(mode="named", name=name)


def _tools(fields: _Body) -> tuple[Tool, ...]:
    tools = [_tool_of(value, f"$.tools[{i}]") for i, value in enumerate(fields.tools or [])]
    for i, function in enumerate(fields.functions or []):
        tools.append(_function_tool(function, b"", f"$.functions[{i}]"))
    return tuple(tools)


def _tool_of(value: msgspec.Raw, path: str) -> Tool:
    tool = read(_tool, value, path)
    if tool.type == "function" and tool.function is not None:
        return _function_tool(tool.function, bytes(value), f"{path}.function")
    if tool.type == "custom" and tool.custom is not None:
        custom = tool.custom
        grammar = custom.format.grammar if custom.format is not None else None
        if not custom.name:
            raise BadRequest("A tool needs a name", path=f"{path}.custom.name")
        return Tool(
            kind="freeform",
            name=custom.name,
            description=text_of(custom.description),
            grammar=Grammar(syntax=grammar.syntax, definition=text_of(grammar.definition) or b"")
            if grammar is not None
            else None,
            json=bytes(value),
        )
    if tool.type in ("function", "custom"):
        raise BadRequest(f"A tool of type `{tool.type}` needs `{tool.type}`", path=path)
    return Tool(kind="hosted", name=tool.type, type=tool.type, json=bytes(value))


def _function_tool(function: Function, value: bytes, path: str) -> Tool:
    if not function.name:
        raise BadRequest("A tool needs a name", path=f"{path}.name")
    return Tool(
        name=function.name,
        description=text_of(function.description),
        schema=json_of(function.parameters),
        strict=function.strict,
        json=value,
    )

"""A Chat Completions request, as the OpenAI SDKs and the tools built on them send it, decoded to turns."""

from __future__ import annotations

from typing import cast, get_args

import msgspec

from dragoman.wire.errors import BadRequest
from dragoman.wire.ids import original_id
from dragoman.wire.reading import ABSENT, is_set, json_of, kind_of, need_text, read, text_of
from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    Effort,
    File,
    Format,
    Grammar,
    Image,
    Note,
    Part,
    RawJson,
    RawText,
    Reasoning,
    Request,
    Result,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
    User,
    plain,
)

_SAMPLING = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed")
_EFFORTS = frozenset(get_args(Effort))
_DATA_URL = b"data:"


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = ABSENT
    description: msgspec.Raw = ABSENT
    parameters: msgspec.Raw = ABSENT
    strict: bool | None = None


class _GrammarBody(msgspec.Struct):
    syntax: str = ""
    definition: msgspec.Raw = ABSENT


class _CustomFormat(msgspec.Struct):
    type: str = ""
    grammar: _GrammarBody | None = None


class _Custom(msgspec.Struct):
    name: str = ""
    input: msgspec.Raw = ABSENT
    description: msgspec.Raw = ABSENT
    format: _CustomFormat | None = None


class _ToolCall(msgspec.Struct):
    id: str = ""
    type: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = ABSENT
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: _Function | None = None
    reasoning_content: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT


class _ImageUrl(msgspec.Struct):
    url: msgspec.Raw
    detail: str | None = None


class _FileBody(msgspec.Struct):
    file_data: msgspec.Raw = ABSENT
    file_id: str | None = None
    filename: msgspec.Raw = ABSENT


class _Part(msgspec.Struct):
    type: str
    text: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    image_url: _ImageUrl | None = None
    file: _FileBody | None = None
    cache_control: msgspec.Raw = ABSENT


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None
    custom: _Custom | None = None


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
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[_Function] | None = None
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
_parts = msgspec.json.Decoder(list[_Part])
_tool = msgspec.json.Decoder(_Tool)


def decode(body: bytes) -> Request:
    """Decode the body of `POST /v1/chat/completions`, the older `functions` fields included.

    Raises:
        BadRequest: with the JSON path of what is wrong.
    """
    fields = read(_body, body)
    if fields.n is not None and fields.n > 1:
        raise BadRequest("Only one answer at a time can be translated", path="$.n", hint="ask with n = 1")
    turns = [_turn(message, f"$.messages[{i}]") for i, message in enumerate(fields.messages)]
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
        max_output_tokens=fields.max_completion_tokens or fields.max_tokens,
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


def _function_tool(function: _Function, value: bytes, path: str) -> Tool:
    if not function.name:
        raise BadRequest("A tool needs a name", path=f"{path}.name")
    return Tool(
        name=function.name,
        description=text_of(function.description),
        schema=json_of(function.parameters),
        strict=function.strict,
        json=value,
    )


def _turn(message: _Message, path: str) -> Turn:
    match message.role:
        case "system" | "developer":
            return Note(tuple(_texts(message.content, f"{path}.content")))
        case "user":
            return User(parts=tuple(_user_parts(message.content, f"{path}.content")))
        case "assistant":
            return _assistant(message, path)
        case "tool" | "function":
            return User(results=(_result(message, path),))
        case other:
            raise BadRequest(f"Unknown role `{other}`", path=f"{path}.role")


def _texts(content: msgspec.Raw, path: str) -> list[Text]:
    if not is_set(content):
        return []
    if (text := text_of(content)) is not None:
        return [Text(text)] if text else []
    out: list[Text] = []
    for i, part in enumerate(read(_parts, content, path)):
        if part.type == "text":
            text = need_text(part.text, f"{path}[{i}].text")
            out.append(Text(text, cache_control=json_of(part.cache_control)))
        elif (refusal := text_of(part.refusal)) is not None:
            out.append(Text(refusal))
    return out


def _user_parts(content: msgspec.Raw, path: str) -> list[Part]:
    if (text := text_of(content)) is not None:
        return [Text(text)]
    if not is_set(content):
        return []
    out: list[Part] = []
    for i, part in enumerate(read(_parts, content, path)):
        cache = json_of(part.cache_control)
        match part.type:
            case "text":
                out.append(Text(need_text(part.text, f"{path}[{i}].text"), cache_control=cache))
            case "image_url" if part.image_url is not None:
                url = need_text(part.image_url.url, f"{path}[{i}].image_url.url")
                out.append(image_of(url, part.image_url.detail, cache))
            case "file" if part.file is not None:
                out.append(_file(part.file, cache))
            case "image_url" | "file":
                raise BadRequest(f"A part of type `{part.type}` needs `{part.type}`", path=f"{path}[{i}]")
            case _:
                pass
    return out


def image_of(url: RawText, detail: str | None, cache_control: RawJson | None = None) -> Image:
    """An image from a URL or a data URL."""
    media_type, data = split_data_url(url)
    if data is None:
        return Image(url=url, detail=detail, cache_control=cache_control)
    return Image(media_type=media_type, data=data, detail=detail, cache_control=cache_control)


def split_data_url(url: RawText) -> tuple[str | None, RawText | None]:
    """Media type and base64 content of a data URL; the content is None for any other URL."""
    if not url.startswith(_DATA_URL):
        return None, None
    head, comma, data = url.partition(b",")
    if not comma:
        return None, None
    media_type = plain(head[len(_DATA_URL) :]).split(";", 1)[0]
    return media_type or None, data.replace(b"\\/", b"/") if b"\\" in data else data


def _file(file: _FileBody, cache: RawJson | None) -> File:
    value = text_of(file.file_data) or b""
    media_type, data = split_data_url(value)
    return File(
        media_type=media_type,
        data=data if data is not None else value or None,
        file_id=file.file_id,
        filename=text_of(file.filename),
        cache_control=cache,
    )


def _assistant(message: _Message, path: str) -> Assistant:
    parts: list[AssistantPart] = []
    thought = text_of(message.reasoning_content) or text_of(message.reasoning)
    if thought:
        parts.append(Reasoning(thought))
    parts.extend(_texts(message.content, f"{path}.content"))
    if refusal := text_of(message.refusal):
        parts.append(Text(refusal))
    for i, call in enumerate(message.tool_calls or []):
        parts.append(_call(call, f"{path}.tool_calls[{i}]"))
    if message.function_call is not None:
        name = message.function_call.name
        parts.append(Call(f"call_{name}", name, arguments=_arguments(message.function_call)))
    return Assistant(tuple(parts))


def _call(call: _ToolCall, path: str) -> Call:
    if call.custom is not None:
        text = text_of(call.custom.input) or b""
        return Call(original_id(call.id), call.custom.name, kind="freeform", arguments=text)
    if call.function is None or not call.function.name:
        raise BadRequest("A tool call needs a function with a name", path=path)
    return Call(original_id(call.id), call.function.name, arguments=_arguments(call.function))


def _arguments(function: _Function) -> RawText:
    """Arguments as text; some clients send the object itself."""
    if (text := text_of(function.arguments)) is not None:
        return text
    whole = json_of(function.arguments)
    return msgspec.json.encode(whole.decode("utf-8", "replace"))[1:-1] if whole is not None else b""


def _result(message: _Message, path: str) -> Result:
    if message.role == "function":
        return Result(f"call_{message.name}", tuple(_user_parts(message.content, f"{path}.content")))
    if not message.tool_call_id:
        raise BadRequest("A tool message needs the id of its call", path=f"{path}.tool_call_id")
    return Result(
        call_id=original_id(message.tool_call_id),
        parts=tuple(_user_parts(message.content, f"{path}.content")),
    )

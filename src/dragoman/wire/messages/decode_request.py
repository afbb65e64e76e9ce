"""A Messages request, as Claude Code and the Anthropic SDKs send it, decoded to turns.

Learned from Claude Code 2.1.197 and 2.1.329: `role: "system"` messages stand inside `messages`, arguments
that did not parse come back as `{"__unparsedToolInput": ...}`, thinking comes back with `signature: ""` or
any string it was given, and an absent `thinking` means that none is wanted.
"""

from __future__ import annotations

from typing import cast, get_args

import msgspec

from dragoman.wire import envelope
from dragoman.wire.errors import BadRequest
from dragoman.wire.ids import original_id
from dragoman.wire.reading import ABSENT, is_set, json_of, kind_of, need_text, read, text_of
from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    Carrier,
    Effort,
    File,
    Format,
    Hosted,
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
    raw,
)

_SAMPLING = ("temperature", "top_p", "top_k")
_EFFORTS = frozenset(get_args(Effort))


class _Block(msgspec.Struct):
    type: str
    text: msgspec.Raw = ABSENT
    cache_control: msgspec.Raw = ABSENT
    id: str = ""
    name: str = ""
    input: msgspec.Raw = ABSENT
    tool_use_id: str = ""
    content: msgspec.Raw = ABSENT
    is_error: bool | None = None
    source: msgspec.Raw = ABSENT
    title: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    signature: str | None = None
    data: str | None = None
    tool_name: str = ""


class _Message(msgspec.Struct):
    role: str
    content: list[_Block] | str


class _RawMessage(msgspec.Struct):
    content: msgspec.Raw


class _RawBody(msgspec.Struct):
    messages: list[_RawMessage]


class _Source(msgspec.Struct):
    type: str
    media_type: str | None = None
    data: msgspec.Raw = ABSENT
    url: msgspec.Raw = ABSENT
    file_id: str | None = None
    content: msgspec.Raw = ABSENT


class _Tool(msgspec.Struct):
    name: str
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
    messages: list[_Message]
    system: msgspec.Raw = ABSENT
    max_tokens: int | None = None
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
_blocks = msgspec.json.Decoder(list[_Block])
_raw_body = msgspec.json.Decoder(_RawBody)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_source = msgspec.json.Decoder(_Source)
_tool = msgspec.json.Decoder(_Tool)
_user_id = msgspec.json.Decoder(_UserId)


def decode(body: bytes) -> Request:
    """Decode the body of `POST /v1/messages` (or of its `count_tokens`, which has no `max_tokens`).

    Raises:
        BadRequest: with the JSON path of what is wrong.
    """
    fields = read(_body, body)
    spelled = _Spelled(body)
    turns = [_turn(message, i, spelled) for i, message in enumerate(fields.messages)]
    config = fields.output_config or _OutputConfig()
    choice, parallel = _choice(fields.tool_choice)
    return Request(
        wire="messages",
        model=fields.model,
        stream=bool(fields.stream),
        system=_texts(fields.system, "$.system") if is_set(fields.system) else (),
        turns=tuple(turns),
        tools=tuple(_tool_of(tool, f"$.tools[{i}]") for i, tool in enumerate(fields.tools or [])),
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


def _tool_of(value: msgspec.Raw, path: str) -> Tool:
    tool = read(_tool, value, path)
    if tool.type is not None and tool.type != "custom":
        return Tool(
            kind="hosted",
            name=tool.name,
            type=tool.type,
            json=bytes(value),
            cache_control=json_of(tool.cache_control),
        )
    return Tool(
        name=tool.name,
        description=text_of(tool.description),
        schema=json_of(tool.input_schema),
        strict=tool.strict,
        deferred=bool(tool.defer_loading),
        json=bytes(value),
        cache_control=json_of(tool.cache_control),
    )


def _texts(value: msgspec.Raw, path: str) -> tuple[Text, ...]:
    """System text: a string or a list of text blocks."""
    if (text := text_of(value)) is not None:
        return (Text(text),) if text else ()
    return _texts_of(read(_blocks, value, path), path)


def _texts_of(blocks: list[_Block], path: str) -> tuple[Text, ...]:
    return tuple(
        Text(need_text(block.text, f"{path}[{i}].text"), cache_control=json_of(block.cache_control))
        for i, block in enumerate(blocks)
        if block.type == "text"
    )


def _note(content: list[_Block] | str, path: str) -> tuple[Text, ...]:
    if isinstance(content, str):
        return (Text(raw(content)),) if content else ()
    return _texts_of(content, f"{path}.content")


def _turn(message: _Message, place: int, spelled: _Spelled) -> Turn:
    path = f"$.messages[{place}]"
    match message.role:
        case "user":
            return _user(message.content, path)
        case "assistant":
            return _assistant(message.content, path, place, spelled)
        case "system":
            return Note(_note(message.content, path))
        case other:
            raise BadRequest(f"Unknown role `{other}`", path=f"{path}.role")


def _user(content: list[_Block] | str, path: str) -> User:
    if isinstance(content, str):
        return User(parts=(Text(raw(content)),))
    results: list[Result] = []
    parts: list[Part] = []
    for i, block in enumerate(content):
        where = f"{path}.content[{i}]"
        if block.type == "tool_result":
            results.append(_result(block, where))
        elif (part := _part(block, where)) is not None:
            parts.append(part)
    return User(tuple(results), tuple(parts))


def _result(block: _Block, path: str) -> Result:
    if not block.tool_use_id:
        raise BadRequest("A tool result needs the id of its call", path=f"{path}.tool_use_id")
    parts: list[Part] = []
    if (text := text_of(block.content)) is not None:
        parts = [Text(text)] if text else []
    elif is_set(block.content):
        for i, inner in enumerate(read(_blocks, block.content, f"{path}.content")):
            part = _part(inner, f"{path}.content[{i}]")
            if part is not None:
                parts.append(part)
    return Result(
        call_id=original_id(block.tool_use_id),
        parts=tuple(parts),
        is_error=bool(block.is_error),
        cache_control=json_of(block.cache_control),
    )


def _part(block: _Block, path: str) -> Part | None:
    cache = json_of(block.cache_control)
    match block.type:
        case "text":
            return Text(need_text(block.text, f"{path}.text"), cache_control=cache)
        case "image":
            source = read(_source, block.source, f"{path}.source") if is_set(block.source) else None
            if source is None:
                raise BadRequest("An image needs a source", path=f"{path}.source")
            return Image(
                media_type=source.media_type,
                data=text_of(source.data),
                url=text_of(source.url),
                file_id=source.file_id,
                cache_control=cache,
            )
        case "document":
            return _document(block, path, cache)
        case "tool_reference":
            return Text(raw(f"[tool available: {block.tool_name}]"), cache_control=cache)
        case "search_result":
            return Text(_joined_texts(block.content), cache_control=cache)
        case _:
            return None


def _document(block: _Block, path: str, cache: RawJson | None) -> Part:
    if not is_set(block.source):
        raise BadRequest("A document needs a source", path=f"{path}.source")
    source = read(_source, block.source, f"{path}.source")
    title = text_of(block.title)
    if source.type == "content":
        return Text(_joined_texts(source.content), cache_control=cache)
    data = text_of(source.data)
    is_text = source.type == "text"
    return File(
        media_type=source.media_type,
        data=None if is_text else data,
        text=data if is_text else None,
        url=text_of(source.url),
        file_id=source.file_id,
        filename=title,
        cache_control=cache,
    )


def _joined_texts(value: msgspec.Raw) -> RawText:
    if (text := text_of(value)) is not None:
        return text
    if not is_set(value):
        return b""
    texts = (text_of(block.text) for block in read(_blocks, value))
    return b"\\n\\n".join(text for text in texts if text)


class _Spelled:
    """The blocks of a body as they were spelled, read only when a block has to be carried unread."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._messages: list[_RawMessage] | None = None

    def block(self, message: int, block: int) -> RawJson:
        if self._messages is None:
            self._messages = _raw_body.decode(self._body).messages
        return bytes(_raws.decode(self._messages[message].content)[block])


def _assistant(content: list[_Block] | str, path: str, place: int, spelled: _Spelled) -> Assistant:
    if isinstance(content, str):
        return Assistant((Text(raw(content)),))
    parts: list[AssistantPart] = []
    for i, block in enumerate(content):
        where = f"{path}.content[{i}]"
        cache = json_of(block.cache_control)
        match block.type:
            case "text":
                parts.append(Text(need_text(block.text, f"{where}.text"), cache_control=cache))
            case "thinking":
                parts.append(_thought(text_of(block.thinking) or b"", block.signature or ""))
            case "redacted_thinking":
                found = envelope.unwrap(block.data or "")
                parts.append(found or Reasoning(carriers=(Carrier(kind="redacted", data=block.data or ""),)))
            case "tool_use":
                parts.append(_call(block, where, cache))
            case other:
                parts.append(Hosted("messages", other, spelled.block(place, i), cache_control=cache))
    return Assistant(tuple(parts))


def _thought(text: RawText, signature: str) -> Reasoning:
    """A thinking block; an envelope of ours in its signature tells whose it really is."""
    if envelope.is_envelope(signature):
        found = envelope.unwrap(signature)
        return found if found is not None else Reasoning(text)
    return Reasoning(text, carriers=(Carrier(kind="signature", data=signature),))


def _call(block: _Block, path: str, cache: RawJson | None) -> Call:
    if not block.id or not block.name:
        raise BadRequest("A tool call needs an id and a name", path=path)
    arguments = json_of(block.input)
    if arguments is not None and not arguments.startswith(b"{"):
        raise BadRequest(f"Expected `object`, got `{kind_of(block.input)}`", path=f"{path}.input")
    return Call(
        id=original_id(block.id),
        name=block.name,
        arguments_json=arguments or b"{}",
        cache_control=cache,
    )

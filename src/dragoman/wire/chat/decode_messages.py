"""Chat Completions messages decoded to turns."""

from __future__ import annotations

import msgspec

from dragoman.wire.errors import BadRequest
from dragoman.wire.ids import original_id
from dragoman.wire.reading import ABSENT, is_set, json_of, need_text, outward, read, text_of
from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    File,
    Image,
    Note,
    Part,
    RawJson,
    RawText,
    Reasoning,
    Result,
    Text,
    Turn,
    User,
    plain,
)

_DATA_URL = b"data:"


class Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: msgspec.Raw = ABSENT
    description: msgspec.Raw = ABSENT
    parameters: msgspec.Raw = ABSENT
    strict: bool | None = None


class GrammarBody(msgspec.Struct):
    syntax: str = ""
    definition: msgspec.Raw = ABSENT


class CustomFormat(msgspec.Struct):
    type: str = ""
    grammar: GrammarBody | None = None


class Custom(msgspec.Struct):
    name: str = ""
    input: msgspec.Raw = ABSENT
    description: msgspec.Raw = ABSENT
    format: CustomFormat | None = None


class ToolCall(msgspec.Struct, gc=False):
    id: str = ""
    type: str | None = None
    function: Function | None = None
    custom: Custom | None = None


class Message(msgspec.Struct, gc=False):
    role: str
    content: msgspec.Raw = ABSENT
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: Function | None = None
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


class _Part(msgspec.Struct, gc=False):
    type: str
    text: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    image_url: _ImageUrl | None = None
    file: _FileBody | None = None
    cache_control: msgspec.Raw = ABSENT


_parts = msgspec.json.Decoder(list[_Part])


def decode_messages(messages: list[Message]) -> list[Turn]:
    """The turns of a conversation, leading notes included.

    Raises:
        BadRequest: with the JSON path in the whole body.
    """
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        try:
            turns.append(_turn(message))
        except BadRequest as error:
            raise outward(error, f"$.messages[{place}]") from error
    return turns


def _turn(message: Message) -> Turn:
    match message.role:
        case "assistant":
            return _assistant(message)
        case "tool" | "function":
            return User(results=(_result(message),))
        case "user":
            return User(parts=tuple(_user_parts(message.content)))
        case "system" | "developer":
            return Note(tuple(_texts(message.content)))
        case other:
            raise BadRequest(f"Unknown role `{other}`", path="$.role")


def _texts(content: msgspec.Raw) -> list[Text]:
    if not is_set(content):
        return []
    if (text := text_of(content)) is not None:
        return [Text(text)] if text else []
    out: list[Text] = []
    for i, part in enumerate(read(_parts, content, "$.content")):
        if part.type == "text":
            text = need_text(part.text, f"$.content[{i}].text")
            out.append(Text(text, cache_control=json_of(part.cache_control)))
        elif (refusal := text_of(part.refusal)) is not None:
            out.append(Text(refusal))
    return out


def _user_parts(content: msgspec.Raw) -> list[Part]:
    if (text := text_of(content)) is not None:
        return [Text(text)]
    if not is_set(content):
        return []
    out: list[Part] = []
    for i, part in enumerate(read(_parts, content, "$.content")):
        cache = json_of(part.cache_control)
        match part.type:
            case "text":
                out.append(Text(need_text(part.text, f"$.content[{i}].text"), cache_control=cache))
            case "image_url" if part.image_url is not None:
                url = need_text(part.image_url.url, f"$.content[{i}].image_url.url")
                out.append(image_of(url, part.image_url.detail, cache))
            case "file" if part.file is not None:
                out.append(_file(part.file, cache))
            case "image_url" | "file":
                raise BadRequest(f"A part of type `{part.type}` needs `{part.type}`", path=f"$.content[{i}]")
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


def _assistant(message: Message) -> Assistant:
    parts: list[AssistantPart] = []
    thought = text_of(message.reasoning_content) or text_of(message.reasoning)
    if thought:
        parts.append(Reasoning(thought))
    parts.extend(_texts(message.content))
    if refusal := text_of(message.refusal):
        parts.append(Text(refusal))
    for i, call in enumerate(message.tool_calls or ()):
        try:
            parts.append(_call(call))
        except BadRequest as error:
            raise outward(error, f"$.tool_calls[{i}]") from error
    if message.function_call is not None:
        name = message.function_call.name
        parts.append(Call(f"call_{name}", name, arguments=_arguments(message.function_call)))
    return Assistant(tuple(parts))


def _call(call: ToolCall) -> Call:
    if call.custom is not None and call.custom.name:
        text = text_of(call.custom.input) or b""
        return Call(original_id(call.id), call.custom.name, kind="freeform", arguments=text)
    if call.function is None or not call.function.name:
        raise BadRequest("A tool call needs a function, or a custom tool, with a name")
    return Call(original_id(call.id), call.function.name, arguments=_arguments(call.function))


def _arguments(function: Function) -> RawText:
    """Arguments as text; some clients send the object itself."""
    if (text := text_of(function.arguments)) is not None:
        return text
    whole = json_of(function.arguments)
    return msgspec.json.encode(whole.decode("utf-8", "replace"))[1:-1] if whole is not None else b""


def _result(message: Message) -> Result:
    if message.role == "function":
        return Result(f"call_{message.name}", tuple(_user_parts(message.content)))
    if not message.tool_call_id:
        raise BadRequest("A tool message needs the id of its call", path="$.tool_call_id")
    return Result(
        call_id=original_id(message.tool_call_id),
        parts=tuple(_user_parts(message.content)),
    )

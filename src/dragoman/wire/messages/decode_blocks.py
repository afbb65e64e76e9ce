"""The messages of a Messages request decoded to turns, block by block."""

from __future__ import annotations

import msgspec

from dragoman.wire import envelope
from dragoman.wire.errors import BadRequest
from dragoman.wire.ids import original_id
from dragoman.wire.reading import ABSENT, is_set, json_of, kind_of, need_text, outward, read, text_of
from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    Carrier,
    File,
    Hosted,
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
    raw,
)

GAP = b"\\n\\n"


class Block(msgspec.Struct, gc=False):
    """A content block of any kind, with the fields that are acted on."""

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


class Message(msgspec.Struct, gc=False):
    """One message; a content string is decoded, blocks keep their texts raw."""

    role: str
    content: list[Block] | str


class _Source(msgspec.Struct):
    type: str
    media_type: str | None = None
    data: msgspec.Raw = ABSENT
    url: msgspec.Raw = ABSENT
    file_id: str | None = None
    content: msgspec.Raw = ABSENT


class _RawMessage(msgspec.Struct):
    content: msgspec.Raw


class _RawBody(msgspec.Struct):
    messages: list[_RawMessage]


_blocks = msgspec.json.Decoder(list[Block])
_raw_body = msgspec.json.Decoder(_RawBody)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_source = msgspec.json.Decoder(_Source)


class _Spelled:
    """The blocks of a body as they were spelled, read only when a block has to be carried unread."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._messages: list[_RawMessage] | None = None

    def block(self, message: int, block: int) -> RawJson:
        if self._messages is None:
            self._messages = _raw_body.decode(self._body).messages
        return bytes(_raws.decode(self._messages[message].content)[block])


def decode_messages(messages: list[Message], body: bytes) -> tuple[Turn, ...]:
    """The turns of a conversation.

    Args:
        messages: as read from `body`.
        body: the whole request.

    Raises:
        BadRequest: with the JSON path in the whole body.
    """
    spelled = _Spelled(body)
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        try:
            match message.role:
                case "user":
                    turns.append(_user(message.content))
                case "assistant":
                    turns.append(_assistant(message.content, place, spelled))
                case "system":
                    turns.append(Note(_note(message.content)))
                case other:
                    raise BadRequest(f"Unknown role `{other}`", path="$.role")
        except BadRequest as error:
            raise outward(error, f"$.messages[{place}]") from error
    return tuple(turns)


def decode_system(value: msgspec.Raw) -> tuple[Text, ...]:
    """System text: a string or a list of text blocks.

    Raises:
        BadRequest: with the JSON path in the whole body.
    """
    if (text := text_of(value)) is not None:
        return (Text(text),) if text else ()
    return _texts(read(_blocks, value, "$.system"), "$.system")


def _note(content: list[Block] | str) -> tuple[Text, ...]:
    if isinstance(content, str):
        return (Text(raw(content)),) if content else ()
    return _texts(content, "$.content")


def _texts(blocks: list[Block], path: str) -> tuple[Text, ...]:
    return tuple(
        Text(need_text(block.text, f"{path}[{i}].text"), cache_control=json_of(block.cache_control))
        for i, block in enumerate(blocks)
        if block.type == "text"
    )


def _user(content: list[Block] | str) -> User:
    if isinstance(content, str):
        return User(parts=(Text(raw(content)),))
    results: list[Result] = []
    parts: list[Part] = []
    i = -1
    try:
        for block in content:
            i += 1
            if block.type == "tool_result":
                results.append(_result(block))
            elif (part := _part(block)) is not None:
                parts.append(part)
    except BadRequest as error:
        raise outward(error, f"$.content[{i}]") from error
    return User(tuple(results), tuple(parts))


def _result(block: Block) -> Result:
    if not block.tool_use_id:
        raise BadRequest("A tool result needs the id of its call", path="$.tool_use_id")
    parts: tuple[Part, ...] = ()
    if (text := text_of(block.content)) is not None:
        parts = (Text(text),) if text else ()
    elif is_set(block.content):
        found: list[Part] = []
        for i, inner in enumerate(read(_blocks, block.content, "$.content")):
            try:
                part = _part(inner)
            except BadRequest as error:
                raise outward(error, f"$.content[{i}]") from error
            if part is not None:
                found.append(part)
        parts = tuple(found)
    return Result(
        original_id(block.tool_use_id),
        parts,
        is_error=block.is_error is True,
        cache_control=json_of(block.cache_control),
    )


def _part(block: Block) -> Part | None:
    cache = json_of(block.cache_control)
    match block.type:
        case "text":
            return Text(need_text(block.text, "$.text"), cache_control=cache)
        case "image":
            if not is_set(block.source):
                raise BadRequest("An image needs a source", path="$.source")
            source = read(_source, block.source, "$.source")
            return Image(
                media_type=source.media_type,
                data=text_of(source.data),
                url=text_of(source.url),
                file_id=source.file_id,
                cache_control=cache,
            )
        case "document":
            return _document(block, cache)
        case "tool_reference":
            return Text(raw(f"[tool available: {block.tool_name}]"), cache_control=cache)
        case "search_result":
            return Text(_joined_texts(block.content), cache_control=cache)
        case _:
            return None


def _document(block: Block, cache: RawJson | None) -> Part:
    if not is_set(block.source):
        raise BadRequest("A document needs a source", path="$.source")
    source = read(_source, block.source, "$.source")
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
        filename=text_of(block.title),
        cache_control=cache,
    )


def _joined_texts(value: msgspec.Raw) -> RawText:
    if (text := text_of(value)) is not None:
        return text
    if not is_set(value):
        return b""
    texts = (text_of(block.text) for block in read(_blocks, value, "$.content"))
    return GAP.join(text for text in texts if text)


def _assistant(content: list[Block] | str, place: int, spelled: _Spelled) -> Assistant:
    if isinstance(content, str):
        return Assistant((Text(raw(content)),))
    parts: list[AssistantPart] = []
    i = 0
    try:
        for i, block in enumerate(content):
            cache = json_of(block.cache_control)
            match block.type:
                case "text":
                    parts.append(Text(need_text(block.text, "$.text"), cache_control=cache))
                case "tool_use":
                    parts.append(_call(block, cache))
                case "thinking":
                    parts.append(_thought(text_of(block.thinking) or b"", block.signature or ""))
                case "redacted_thinking":
                    parts.append(_sealed(block.data or ""))
                case other:
                    parts.append(Hosted("messages", other, spelled.block(place, i), cache_control=cache))
    except BadRequest as error:
        raise outward(error, f"$.content[{i}]") from error
    return Assistant(tuple(parts))


def _thought(text: RawText, signature: str) -> Reasoning:
    """A thinking block; an envelope of ours in its signature tells whose it really is."""
    if envelope.is_envelope(signature):
        found = envelope.unwrap(signature)
        return found if found is not None else Reasoning(text)
    return Reasoning(text, carriers=(Carrier(kind="signature", data=signature),))


def _sealed(data: str) -> Reasoning:
    return envelope.unwrap(data) or Reasoning(carriers=(Carrier(kind="redacted", data=data),))


def _call(block: Block, cache: RawJson | None) -> Call:
    if not block.id or not block.name:
        raise BadRequest("A tool call needs an id and a name")
    arguments = json_of(block.input)
    if arguments is not None and not arguments.startswith(b"{"):
        raise BadRequest(f"Expected `object`, got `{kind_of(block.input)}`", path="$.input")
    return Call(original_id(block.id), block.name, arguments_json=arguments or b"{}", cache_control=cache)

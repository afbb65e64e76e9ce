"""The `input` list of a Responses request: flat items in, turns out.

Everything between two groups of results or user words is one assistant turn, whatever order its messages,
reasoning and calls stand in. Items that only the vendor itself understands stay whole inside the turn they
stand in, so that they neither split it nor get lost on the way to an upstream of the same wire.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dragoman.wire import envelope
from dragoman.wire.errors import BadRequest
from dragoman.wire.reading import ABSENT, is_set, json_of, kind_of, need_text, outward, read, text_of
from dragoman.wire.responses import compaction
from dragoman.wire.responses.decode_tools import LOCAL_SHELL, TOOL_SEARCH, tools_of
from dragoman.wire.tools import flat_name, safe_name
from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    CallKind,
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
    Tool,
    Turn,
    User,
    plain,
    raw,
)

_GAP = b"\\n\\n"
_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
AUDIO_OMITTED = b"[audio omitted: it cannot be passed on]"


class Item(msgspec.Struct, gc=False):
    """An entry of `input`, with the fields of all kinds that are acted on."""

    type: str = "message"
    role: str | None = None
    content: msgspec.Raw = ABSENT
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: msgspec.Raw = ABSENT
    input: msgspec.Raw = ABSENT
    output: msgspec.Raw = ABSENT
    summary: msgspec.Raw = ABSENT
    encrypted_content: str | None = None
    action: msgspec.Raw = ABSENT
    tools: list[msgspec.Raw] | None = None
    execution: str | None = None


class _Part(msgspec.Struct, gc=False):
    type: str
    text: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    image_url: msgspec.Raw = ABSENT
    file_id: str | None = None
    detail: str | None = None
    filename: msgspec.Raw = ABSENT
    file_data: msgspec.Raw = ABSENT
    file_url: msgspec.Raw = ABSENT


class _ImageUrl(msgspec.Struct):
    url: msgspec.Raw
    detail: str | None = None


class _Spelled(msgspec.Struct):
    input: list[msgspec.Raw]


class _Output(msgspec.Struct):
    content: msgspec.Raw = ABSENT
    success: bool | None = None


_parts = msgspec.json.Decoder(list[_Part])
_spelled = msgspec.json.Decoder(_Spelled)
_image_url = msgspec.json.Decoder(_ImageUrl)
_output = msgspec.json.Decoder(_Output)

_CALL_OUTPUTS: dict[str, CallKind] = {
    "function_call_output": "function",
    "custom_tool_call_output": "freeform",
    "local_shell_call_output": "local_shell",
    "tool_search_output": "tool_search",
}


def turns_of(items: list[Item], body: bytes) -> tuple[tuple[Turn, ...], list[Tool]]:
    """Group the items of a request into turns.

    Args:
        items: its `input`.
        body: the whole body, from which items are taken that have to stay as they were spelled.

    Returns:
        the turns, and the tools declared inside the conversation.

    Raises:
        BadRequest: with the JSON path of what is wrong.
    """
    reader = _Reader(body)
    place = 0
    try:
        for place, item in enumerate(items):
            reader.take(item, place)
    except BadRequest as error:
        raise outward(error, f"$.input[{place}]") from error
    return reader.finish(), reader.tools


class _Reader:
    """Groups items into turns."""

    def __init__(self, body: bytes) -> None:
        self.tools: list[Tool] = []
        self._body = body
        self._raw_items: list[msgspec.Raw] | None = None
        self._turns: list[Turn] = []
        self._said: list[AssistantPart] = []
        self._results: list[Result] = []
        self._parts: list[Part] = []

    def finish(self) -> tuple[Turn, ...]:
        """All turns."""
        self._end_assistant()
        self._end_user()
        return tuple(self._turns)

    def take(self, item: Item, place: int) -> None:
        """The next item."""
        match item.type:
            case "function_call" | "custom_tool_call":
                self._say(_call(item))
            case "function_call_output":
                self._result(item, place, "function")
            case "message" | "":
                self._message(item)
            case kind if kind in _CALL_OUTPUTS and item.execution != "server":
                self._result(item, place, _CALL_OUTPUTS[kind])
            case "reasoning":
                self._say(_reasoning(item))
            case "local_shell_call":
                self._say(_built_in(item, "local_shell", LOCAL_SHELL, item.action))
            case "tool_search_call" if item.execution != "server":
                self._say(_built_in(item, "tool_search", TOOL_SEARCH, item.arguments))
            case "additional_tools":
                self._declare(item)
            case "compaction_trigger":
                self._end_assistant()
                self._user(compaction.trigger().parts)
            case "compaction" | "compaction_summary":
                self._compaction(item, place)
            case "item_reference":
                raise BadRequest(
                    "An item reference points into a conversation that is not kept here",
                    hint="send the whole item instead, with `store: false`",
                )
            case other:
                if item.tools and other == "tool_search_output":
                    self._declare(item)
                self._say(Hosted("responses", other, self._json(place)))

    def _json(self, place: int) -> bytes:
        """An item as it was spelled."""
        if self._raw_items is None:
            self._raw_items = _spelled.decode(self._body).input
        return bytes(self._raw_items[place])

    def _end_assistant(self) -> None:
        if self._said:
            self._turns.append(Assistant(tuple(self._said)))
            self._said = []

    def _end_user(self) -> None:
        if self._results or self._parts:
            self._turns.append(User(tuple(self._results), tuple(self._parts)))
            self._results, self._parts = [], []

    def _say(self, part: AssistantPart | None) -> None:
        if part is not None:
            if self._results or self._parts:
                self._end_user()
            self._said.append(part)

    def _user(self, parts: Sequence[Part]) -> None:
        self._end_assistant()
        self._parts.extend(parts)

    def _message(self, item: Item) -> None:
        parts = _content(item.content, "$.content")
        match item.role:
            case "assistant":
                if said := [part for part in parts if isinstance(part, Text)]:
                    self._end_user()
                    self._said += said
            case "user":
                self._user(parts)
            case "developer" | "system":
                self._end_assistant()
                self._end_user()
                self._turns.append(Note(tuple(part for part in parts if isinstance(part, Text))))
            case None:
                raise BadRequest("A message needs a role", path="$.role")
            case other:
                raise BadRequest(f"Unknown role `{other}`", path="$.role")

    def _result(self, item: Item, place: int, kind: CallKind) -> None:
        call_id = item.call_id or item.id
        if not call_id:
            raise BadRequest("A tool's output needs the id of its call", path="$.call_id")
        json = None
        if kind == "tool_search":
            parts, is_error = self._found_tools(item), False
            json = self._json(place)
        else:
            parts, is_error = _output_parts(item.output)
        if self._said:
            self._end_assistant()
        elif self._parts:
            self._end_user()
        self._results.append(Result(call_id, parts, is_error, kind, item.name, json))

    def _found_tools(self, item: Item) -> tuple[Part, ...]:
        """What a tool search found becomes callable; the model is told the names."""
        found = self._declare(item)
        names = ", ".join(safe_name(flat_name(tool.namespace, tool.name)) for tool in found)
        return (
            Text(raw(f"Tools found, they can be called now: {names}" if names else "No tool was found.")),
        )

    def _declare(self, item: Item) -> list[Tool]:
        found = [
            tool for i, value in enumerate(item.tools or []) for tool in tools_of(value, f"$.tools[{i}]")
        ]
        self.tools.extend(found)
        return found

    def _compaction(self, item: Item, place: int) -> None:
        summary = compaction.unwrap(item.encrypted_content or "")
        if summary is not None:
            self._user(summary.parts)
        else:
            self._say(Hosted("responses", item.type, self._json(place)))


# --- items


def _reasoning(item: Item) -> Reasoning | None:
    """A reasoning item: an envelope gives the whole thought back, a foreign blob stays a blob."""
    blob = item.encrypted_content or ""
    if envelope.is_envelope(blob):
        if (found := envelope.unwrap(blob)) is not None:
            return found
        blob = ""
    texts = _texts(item.content, "$.content") or _texts(item.summary, "$.summary")
    text = _GAP.join(texts)
    carriers = (Carrier(kind="encrypted", data=blob, item_id=item.id),) if blob else ()
    return Reasoning(text, carriers=carriers) if text or carriers else None


def _texts(value: msgspec.Raw, path: str) -> list[RawText]:
    if not is_set(value):
        return []
    if (text := text_of(value)) is not None:
        return [text] if text else []
    texts = (text_of(part.text) for part in read(_parts, value, path))
    return [text for text in texts if text]


def _call(item: Item) -> Call:
    call_id = item.call_id or item.id
    if not call_id:
        raise BadRequest("A tool call needs an id", path="$.call_id")
    if not item.name:
        raise BadRequest("A tool call needs a name", path="$.name")
    freeform = item.type == "custom_tool_call"
    value = item.input if freeform else item.arguments
    if freeform and kind_of(value) == "object":
        raise BadRequest("Expected `str`, got `object`", path="$.input")
    text, json = _arguments(value, "$.input" if freeform else "$.arguments")
    return Call(
        id=call_id,
        name=item.name,
        namespace=item.namespace,
        kind="freeform" if freeform else "function",
        arguments=text,
        arguments_json=json,
        item_id=item.id,
    )


def _arguments(value: msgspec.Raw, path: str) -> tuple[RawText, RawJson | None]:
    """The text of a call's arguments, or the object some clients send instead."""
    if (text := text_of(value)) is not None:
        return text, None
    if kind_of(value) not in ("nothing", "null", "object"):
        raise BadRequest(f"Expected `str`, got `{kind_of(value)}`", path=path)
    return b"", json_of(value)


def _built_in(item: Item, kind: CallKind, name: str, value: msgspec.Raw) -> Call:
    call_id = item.call_id or item.id
    if not call_id:
        raise BadRequest("A tool call needs an id", path="$.call_id")
    text, json = _arguments(value, "$.action" if kind == "local_shell" else "$.arguments")
    return Call(id=call_id, name=name, kind=kind, arguments=text, arguments_json=json, item_id=item.id)


def _output_parts(value: msgspec.Raw) -> tuple[tuple[Part, ...], bool]:
    """A tool's output: a text, a list of parts, or an object around either; all else is shown as JSON."""
    if (text := text_of(value)) is not None:
        return (Text(text),), False
    match kind_of(value):
        case "nothing" | "null":
            return (), False
        case "array":
            return tuple(_content(value, "$.output")), False
        case "object":
            found = read(_output, value, "$.output")
            if kind_of(found.content) in ("str", "array"):
                return tuple(_content(found.content, "$.output.content")), found.success is False
            return (Text(_as_text(value)),), found.success is False
        case _:
            return (Text(_as_text(value)),), False


def _as_text(value: msgspec.Raw) -> RawText:
    return raw(bytes(value).decode("utf-8", "replace"))


# --- content


def _content(value: msgspec.Raw, path: str) -> list[Part]:
    try:
        parts = _parts.decode(value)
    except (ValueError, RecursionError):
        # A list is what nearly all content is; looking first what it is costs as much as reading it.
        if (text := text_of(value)) is not None:
            return [Text(text)]
        parts = read(_parts, value, path) if is_set(value) else []
    out: list[Part] = []
    for part in parts:
        if part.type in _TEXTS and (text := text_of(part.text)) is not None:
            out.append(Text(text))
            continue
        try:
            if (found := _part(part)) is not None:
                out.append(found)
        except BadRequest as error:
            raise outward(error, f"{path}[{parts.index(part)}]") from error
    return out


def _part(part: _Part) -> Part | None:
    match part.type:
        case kind if kind in _TEXTS:
            return Text(need_text(part.text, "$.text"))
        case "refusal":
            return Text(need_text(part.refusal, "$.refusal"))
        case "input_image" | "image_url" | "computer_screenshot":
            return _image(part)
        case "input_file" | "file":
            return _file(part)
        case "input_audio":
            return Text(AUDIO_OMITTED)
        case _:
            return None


def _image(part: _Part) -> Image:
    value, detail = part.image_url, part.detail
    if kind_of(value) == "object":
        found = read(_image_url, value, "$.image_url")
        value, detail = found.url, found.detail or detail
    if not is_set(value):
        if part.file_id is None:
            raise BadRequest("An image needs an address or a file id", path="$.image_url")
        return Image(file_id=part.file_id, detail=detail)
    url = need_text(value, "$.image_url")
    media_type, data = _data_url(url)
    if data is None:
        return Image(url=url, detail=detail)
    return Image(media_type=media_type, data=data, detail=detail)


def _file(part: _Part) -> File:
    filename = text_of(part.filename)
    whole = text_of(part.file_data)
    if whole is not None:
        media_type, data = _data_url(whole)
        return File(media_type=media_type or "application/pdf", data=data or whole, filename=filename)
    return File(file_id=part.file_id, url=text_of(part.file_url), filename=filename)


def _data_url(url: RawText) -> tuple[str | None, RawText | None]:
    """Media type and base64 text of a `data:` address; (None, None) for any other address."""
    if not url.startswith(b"data:"):
        return None, None
    head, comma, data = url.partition(b",")
    words = plain(head[5:]).split(";")
    if not comma or "base64" not in words[1:]:
        return None, None
    return words[0] or None, data

"""The `input` list of a Responses request, written from turns.

Learned from OpenAI's and third-party endpoints: item ids of other servers are refused, so none is sent unless
the profile says so; a call id has at most 64 characters; reasoning needs its `summary` key.
"""

from __future__ import annotations

from collections.abc import Iterable

from dragoman.wire.attachments import file_text, file_url, image_url
from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.ids import MAX_STRICT_CHARS, strict_id
from dragoman.wire.repair import has_calls
from dragoman.wire.tools import ToolTable, arguments_text, legal_arguments
from dragoman.wire.turns import (
    Assistant,
    Call,
    File,
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
    User,
    quoted,
    raw,
)
from dragoman.wire.writing import Fields, Pieces, put_list, to_json

GAP = b"\\n\\n"
EMPTY_RESULT = b"(no output)"
ERROR_PREFIX = b"[tool error] "


class InputWriter:
    """Writes the turns of a conversation as items.

    Args:
        tools: names as the upstream knows them.
        dialect: the upstream's quirks.
        limits: what the model can take.
        shims: collects short names of what was changed.
    """

    def __init__(self, tools: ToolTable, dialect: Dialect, limits: Limits, shims: dict[str, None]) -> None:
        self._tools = tools
        self._dialect = dialect
        self._limits = limits
        self._shims = shims
        self._freeform: set[str] = set()

    def items(self, request: Request) -> list[Pieces]:
        """All items of a conversation."""
        out: list[Pieces] = []
        for turn in request.turns:
            match turn:
                case User():
                    for result in turn.results:
                        out.append(self._result(result))
                    if turn.parts:
                        out.append(_message(b"user", map(_part, turn.parts)))
                case Assistant():
                    self._assistant(out, turn)
                case Note():
                    out.append(_message(b"developer", map(_part, turn.parts)))
        return out

    def _assistant(self, out: list[Pieces], turn: Assistant) -> None:
        thought = False
        said: list[Pieces] = []
        for part in turn.parts:
            if isinstance(part, Text):
                said.append((b'{"type":"output_text","text":"', part.text, b'"}'))
                continue
            if said:
                out.append(_message(b"assistant", said))
                said = []
            match part:
                case Call():
                    if not thought and self._needs_blank():
                        thought = True
                        self._shims["blank reasoning before calls"] = None
                        out.append(_raw_reasoning(raw(self._dialect.reasoning_blank)))
                    out.append(self._call(part))
                case Reasoning():
                    item = self._reasoning(part, has_calls=has_calls(turn.parts))
                    if item is not None:
                        thought = True
                        out.append(item)
                case Hosted():
                    out.append((part.json,))
        if said:
            out.append(_message(b"assistant", said))

    def _needs_blank(self) -> bool:
        return self._dialect.reasoning_required and self._limits.thinks

    def _reasoning(self, part: Reasoning, *, has_calls: bool) -> Pieces | None:
        """An upstream's own reasoning goes back sealed, other reasoning as raw text where it is wanted."""
        sealed = next((carrier for carrier in part.carriers if carrier.kind == "encrypted"), None)
        if sealed is not None:
            item: Fields = {"type": "reasoning"}
            if sealed.item_id is not None and self._dialect.item_ids:
                item["id"] = sealed.item_id
            item["summary"] = [{"type": "summary_text", "text": quoted(part.text)}] if part.text else []
            item["encrypted_content"] = sealed.data
            return (to_json(item),)
        replay = self._dialect.reasoning_replay
        wanted = replay == "always" or (replay == "tool_turns" and has_calls)
        return _raw_reasoning(part.text) if part.text and wanted and self._limits.thinks else None

    def _call(self, call: Call) -> Pieces:
        name = self._tools.upstream_name(call.name, call.namespace)
        if call.kind == "freeform" and self._dialect.freeform_tools and not self._tools.is_wrapped(name):
            self._freeform.add(call.id)
            head = b'{"type":"custom_tool_call","call_id":%b,"name":%b,"input":"'
            text = arguments_text(call)
        else:
            head = b'{"type":"function_call","call_id":%b,"name":%b,"arguments":"'
            text = legal_arguments(call, self._dialect)
        return head % (self._call_id(call.id), to_json(name)), text, b'"}'

    def _call_id(self, call_id: str) -> RawJson:
        if self._dialect.strict_ids or len(call_id) > MAX_STRICT_CHARS:
            call_id = strict_id(call_id)
        return to_json(call_id)

    def _result(self, result: Result) -> Pieces:
        # By its call: Chat and Messages clients answer every kind of call in one way.
        freeform = result.call_id in self._freeform
        kind = b"custom_tool_call_output" if freeform else b"function_call_output"
        head = b'{"type":"%b","call_id":%b,"output":' % (kind, self._call_id(result.call_id))
        return head, *_output(result), b"}"


def _message(role: bytes, parts: Iterable[Pieces]) -> Pieces:
    out = [b'{"type":"message","role":"%b","content":[' % role]
    put_list(out, parts)
    out.append(b"]}")
    return out


def _raw_reasoning(text: RawText) -> Pieces:
    return b'{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"', text, b'"}]}'


def _output(result: Result) -> Pieces:
    """One string where all is text, else a list of parts; the protocol has no mark for failed tools."""
    failed = ERROR_PREFIX if result.is_error else b""
    if all(isinstance(part, Text) for part in result.parts):
        text = GAP.join([part.text for part in result.parts if isinstance(part, Text) and part.text])
        return b'"', failed, text or EMPTY_RESULT, b'"'
    parts = [_part(part) for part in result.parts if not (isinstance(part, Text) and not part.text)]
    if failed:
        parts.insert(0, _text(failed))
    out = [b"["]
    put_list(out, parts)
    out.append(b"]")
    return out


def _text(text: RawText) -> Pieces:
    return b'{"type":"input_text","text":"', text, b'"}'


def _part(part: Part) -> Pieces:
    match part:
        case Text():
            return _text(part.text)
        case Image():
            image: Fields = {"type": "input_image"}
            if part.file_id is not None:
                image["file_id"] = part.file_id
            else:
                image["image_url"] = quoted(image_url(part))
            if part.detail is not None:
                image["detail"] = part.detail
            return (to_json(image),)
        case File():
            return _file(part)


def _file(part: File) -> Pieces:
    if (text := file_text(part)) is not None:
        return _text(text)
    file: Fields = {"type": "input_file"}
    if part.file_id is not None:
        file["file_id"] = part.file_id
    elif part.url is not None:
        file["file_url"] = quoted(part.url)
    else:
        file["filename"] = quoted(part.filename or b"document.pdf")
        file["file_data"] = quoted(file_url(part))
    return (to_json(file),)

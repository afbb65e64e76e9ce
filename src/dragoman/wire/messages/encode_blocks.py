"""Turns written as the messages of a Messages request, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from dragoman.wire.dialect import Dialect
from dragoman.wire.ids import strict_id
from dragoman.wire.repair import CONTINUE
from dragoman.wire.thinking import ThinkingPlan
from dragoman.wire.tools import ToolTable, arguments_object, wrap_freeform
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
    Result,
    Text,
    Turn,
    User,
    plain,
    quoted,
    raw,
)
from dragoman.wire.writing import Fields, Pieces, put_list, to_json

EPHEMERAL = b'{"type":"ephemeral"}'
GAP = b"\\n\\n"

_HEADS = {role: b'{"role":"%b","content":[' % role for role in (b"user", b"assistant", b"system")}
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def messages_of(
    turns: Sequence[Turn], tools: ToolTable, dialect: Dialect, plan: ThinkingPlan, *, marks: bool
) -> list[Pieces]:
    """The `messages` of a normalised request.

    Args:
        turns: which alternate and whose calls are answered (see `dragoman.wire.repair`).
        tools: both names of every tool.
        dialect: the upstream's quirks.
        plan: whether and how the model is to think.
        marks: whether to set cache marks.
    """
    out: list[tuple[bytes, list[Pieces]]] = []
    if turns and isinstance(turns[0], Assistant):
        out.append((b"user", [_text(CONTINUE)]))
    last = len(turns) - 1
    for i, turn in enumerate(turns):
        match turn:
            case User():
                role, blocks = b"user", _user(turn)
            case Assistant():
                role, blocks = b"assistant", _assistant(turn, tools, dialect, plan, is_last=i == last)
            case Note():
                role, blocks = b"system", _texts(turn.parts)
        if not blocks:
            continue
        if out and out[-1][0] == role:
            out[-1][1].extend(blocks)
        else:
            out.append((role, blocks))
    if marks:
        _mark([blocks for role, blocks in out if role == b"user"])
    return [_message(role, blocks) for role, blocks in out]


def _message(role: bytes, blocks: list[Pieces]) -> Pieces:
    out = [_HEADS[role]]
    put_list(out, blocks)
    out.append(b"]}")
    return out


def _mark(users: Sequence[list[Pieces]]) -> None:
    """Mark the end of the last two user messages: the older mark is read, the newer one written."""
    for blocks in users[-2:]:
        fields = _fields.decode(b"".join(blocks[-1]))
        fields["cache_control"] = msgspec.Raw(EPHEMERAL)
        blocks[-1] = (to_json(fields),)


def _end(cache_control: RawJson | None) -> bytes:
    """What closes a block."""
    return b"}" if cache_control is None else b',"cache_control":%b}' % cache_control


def _text(text: RawText, cache_control: RawJson | None = None) -> Pieces:
    if cache_control is None:
        return b'{"type":"text","text":"', text, b'"}'
    return b'{"type":"text","text":"', text, b'"', _end(cache_control)


def _texts(parts: Iterable[Text]) -> list[Pieces]:
    return [_text(part.text, part.cache_control) for part in parts if not _is_blank(part.text)]


def _is_blank(text: RawText) -> bool:
    """Whether a text is empty or white: such blocks are refused."""
    if text[:1].isalnum():
        return False
    return not text or (len(text) < 200 and not plain(text).strip())


def _user(turn: User) -> list[Pieces]:
    blocks = [_result(result) for result in turn.results]
    if turn.parts:
        blocks += map(_part, _spoken(turn.parts))
    return blocks


def _result(result: Result) -> Pieces:
    head = b'{"type":"tool_result","tool_use_id":"%b"' % strict_id(result.call_id).encode()
    parts = _spoken(result.parts)
    if len(parts) == 1 and isinstance(only := parts[0], Text):
        failed = b',"is_error":true' if result.is_error else b""
        return head, b',"content":"', only.text, b'"', failed, _end(result.cache_control)
    out = [head]
    if parts:
        out.append(b',"content":[')
        put_list(out, map(_part, parts))
        out.append(b"]")
    if result.is_error:
        out.append(b',"is_error":true')
    out.append(_end(result.cache_control))
    return out


def _spoken(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts that say something."""
    for part in parts:
        if isinstance(part, Text) and not part.text[:1].isalnum() and _is_blank(part.text):
            return tuple(part for part in parts if not (isinstance(part, Text) and _is_blank(part.text)))
    return parts


def _part(part: Part) -> Pieces:
    match part:
        case Text():
            return _text(part.text, part.cache_control)
        case Image():
            block: Fields = {"type": "image", "source": _source(part, "image/png")}
        case File():
            block = {"type": "document", "source": _source(part, "application/pdf")}
            if part.filename is not None:
                block["title"] = quoted(part.filename)
    if part.cache_control is not None:
        block["cache_control"] = msgspec.Raw(part.cache_control)
    return (to_json(block),)


def _source(part: Image | File, media_type: str) -> Fields:
    if isinstance(part, File) and part.text is not None:
        return {"type": "text", "media_type": "text/plain", "data": quoted(part.text)}
    if part.data is not None:
        return {"type": "base64", "media_type": part.media_type or media_type, "data": quoted(part.data)}
    if part.file_id is not None:
        return {"type": "file", "file_id": part.file_id}
    return {"type": "url", "url": quoted(part.url or b"")}


def _assistant(
    turn: Assistant, tools: ToolTable, dialect: Dialect, plan: ThinkingPlan, *, is_last: bool
) -> list[Pieces]:
    blocks: list[Pieces] = []
    thought = False
    for part in turn.parts:
        match part:
            case Text():
                text = _trimmed(part.text) if is_last and part is turn.parts[-1] else part.text
                if not _is_blank(text):
                    blocks.append(_text(text, part.cache_control))
            case Call():
                if not thought and plan.active and dialect.reasoning_required:
                    thought = True
                    blocks.append((to_json(_thinking(raw(dialect.reasoning_blank), "")),))
                blocks.append(_call(part, tools))
            case Reasoning():
                if (block := thinking_block(part, dialect)) is not None:
                    thought = True
                    blocks.append((to_json(block),))
            case Hosted():
                blocks.append((part.json,))
    return blocks


def _trimmed(text: RawText) -> RawText:
    """A prefill may not end in white space."""
    return raw(plain(text).rstrip()) if text[-1:] in (b" ", b"n", b"t", b"r") else text


def thinking_block(reasoning: Reasoning, dialect: Dialect) -> Fields | None:
    """The block its maker takes back, or None when this upstream would refuse it."""
    for carrier in reasoning.carriers:
        if carrier.kind == "redacted":
            return {"type": "redacted_thinking", "data": carrier.data}
        if carrier.kind == "signature" and (carrier.data or dialect.unsigned_thinking):
            return _thinking(reasoning.text, carrier.data)
    if not dialect.unsigned_thinking or not reasoning.text or dialect.reasoning_replay == "never":
        return None
    return _thinking(reasoning.text, "")


def _thinking(text: RawText, signature: str) -> Fields:
    return {"type": "thinking", "thinking": quoted(text), "signature": signature}


def _call(call: Call, tools: ToolTable) -> Pieces:
    name = to_json(tools.upstream_name(call.name, call.namespace))
    head = b'{"type":"tool_use","id":"%b","name":%b,"input":' % (strict_id(call.id).encode(), name)
    return head, _input(call), _end(call.cache_control)


def _input(call: Call) -> RawJson:
    if call.kind == "freeform":
        return wrap_freeform(call.arguments)
    found = arguments_object(call)
    return found if found is not None else b'{"_raw":"' + call.arguments + b'"}'

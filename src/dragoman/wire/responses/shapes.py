"""The fields of Responses answers that are acted on; everything else is skipped unread."""

from __future__ import annotations

import msgspec

from dragoman.wire.events import Usage
from dragoman.wire.reading import ABSENT, kind_of, text_of
from dragoman.wire.turns import RawText


class Part(msgspec.Struct):
    """A content or summary part of an output item."""

    type: str = ""
    text: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT


class OutputItem(msgspec.Struct):
    """An item of an answer."""

    type: str = ""
    id: str | None = None
    status: str | None = None
    content: msgspec.Raw = ABSENT
    summary: msgspec.Raw = ABSENT
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: msgspec.Raw = ABSENT
    input: msgspec.Raw = ABSENT


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class UsageFields(msgspec.Struct):
    """Token counts as the protocol spells them."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class ResponseFields(msgspec.Struct):
    """A response object, inside an event or as a whole body."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    error: msgspec.Raw = ABSENT
    incomplete_details: _Incomplete | None = None
    usage: msgspec.Raw = ABSENT
    output: list[msgspec.Raw] | None = None


class Frame(msgspec.Struct):
    """One event of a stream."""

    type: str = ""
    delta: msgspec.Raw = ABSENT
    output_index: int | None = None
    item_id: str | None = None
    summary_index: int | None = None
    item: OutputItem | None = None
    response: ResponseFields | None = None
    text: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    arguments: msgspec.Raw = ABSENT
    input: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


frames = msgspec.json.Decoder(Frame)
items = msgspec.json.Decoder(OutputItem)
responses = msgspec.json.Decoder(ResponseFields)
_parts = msgspec.json.Decoder(list[Part])
_usage = msgspec.json.Decoder(UsageFields)


def words_of(parts: msgspec.Raw) -> list[RawText]:
    """The texts of an item's content or summary; what is no list of parts has none."""
    if kind_of(parts) != "array":
        return []
    try:
        found = (text_of(part.text) or text_of(part.refusal) for part in _parts.decode(parts))
        return [text for text in found if text]
    except msgspec.MsgspecError:
        return []


def usage_of(value: msgspec.Raw) -> Usage | None:
    """Token counts as an event; the protocol's input count includes cache reads and writes already.

    Counts in another shape are no reason to lose an answer: they give None.
    """
    if kind_of(value) != "object":
        return None
    try:
        fields = _usage.decode(value)
    except msgspec.MsgspecError:
        return None
    read = fields.input_tokens_details or _InputDetails()
    made = fields.output_tokens_details or _OutputDetails()
    return Usage(
        input_tokens=fields.input_tokens or 0,
        output_tokens=fields.output_tokens or 0,
        cache_read_tokens=read.cached_tokens or 0,
        cache_write_tokens=read.cache_write_tokens or 0,
        reasoning_tokens=made.reasoning_tokens or 0,
    )

"""Requests for an upstream that speaks the client's own wire: forwarded byte for byte where possible.

Prompt caches depend on the prefix bytes, so a request is only written anew when the provider's profile asks
for checks on this wire and something in the conversation really has to change: a role the provider refuses,
a broken pair of call and result, an odd call id, thinking nobody could verify, a tool nobody runs, a picture
for a model that reads only text.
"""

from __future__ import annotations

import re

import msgspec

from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.ids import strict_id
from dragoman.wire.turns import Assistant, Call, Request, Tool, Wire

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])

ENVELOPE_MARK = b'"gw1.'
"""How an envelope of ours begins inside a body: a session that moved to its own wire may still carry some."""

# Inside a text these words would have escaped quotes.
_TRIGGER = b'"compaction_trigger"'
_SUMMARIES = (b'"compaction"', b'"compaction_summary"')

_ID = re.compile(rb'"id"\s*:\s*"([^"\\]*)"')

# How a part that not every model can read is named on each wire.
_PICTURE: dict[Wire, bytes] = {
    "chat": b'"image_url"',
    "messages": b'"image"',
    "responses": b'"input_image"',
}
_DOCUMENT: dict[Wire, bytes] = {
    "chat": b'"file"',
    "messages": b'"document"',
    "responses": b'"input_file"',
}


def is_checked(wire: Wire, dialect: Dialect) -> bool:
    """Whether every same-wire request is read before it is forwarded."""
    if dialect.checked is not None:
        return dialect.checked
    return bool(
        dialect.strip_fields
        or dialect.reasoning_required
        or dialect.unsigned_thinking
        or dialect.thinking_key == "adaptive"
        or (wire == "messages" and not dialect.sampling_with_thinking)
    )


def needs_check(wire: Wire, body: bytes, dialect: Dialect, limits: Limits | None = None) -> bool:
    """Whether a same-wire request must be read before it may be forwarded: the profile asks for it, or the
    body seems to hold something the model cannot read."""
    return (
        is_checked(wire, dialect)
        or (wire != "chat" and ENVELOPE_MARK in body)
        or (wire == "responses" and has_compaction(body, dialect))
        or (limits is not None and _unreadable(wire, body, limits))
    )


def has_compaction(body: bytes, dialect: Dialect) -> bool:
    """Whether a Responses request speaks of a remote compaction to an upstream that would not understand it:
    a `compaction_trigger` for others than Codex's vendor, or a summary of ours for anybody. Both read as user
    words here, so that no comparison of meanings would notice them."""
    return (not dialect.compaction_items and _TRIGGER in body) or (
        ENVELOPE_MARK in body and any(mark in body for mark in _SUMMARIES)
    )


def _unreadable(wire: Wire, body: bytes, limits: Limits) -> bool:
    modalities = limits.input_modalities
    return ("image" not in modalities and _PICTURE[wire] in body) or (
        "pdf" not in modalities and _DOCUMENT[wire] in body
    )


def top_level_fields(body: bytes) -> frozenset[str]:
    """The names of a body's own fields.

    Args:
        body: strict JSON, as `Request.body` is.
    """
    return frozenset(_fields.decode(body))


def same_meaning(before: Request, after: Request) -> bool:
    """Whether two readings of a request say the same, spelling apart."""
    return _comparable(before) == _comparable(after)


def has_odd_ids(request: Request, body: bytes) -> bool:
    """Whether a Messages conversation holds call ids that strict servers refuse (poisoned by a gateway that
    let them through)."""
    wanted = {
        strict.encode()
        for turn in request.turns
        if isinstance(turn, Assistant)
        for part in turn.parts
        if isinstance(part, Call) and (strict := strict_id(part.id)) != part.id
    }
    # One pass for all: looking for each of some hundred ids in 1.5 MB takes 70 ms.
    return bool(wanted) and not wanted.issubset(_ID.findall(body))


def thinks_unasked(request: Request, encoded: bytes) -> bool:
    """Whether a provider that thinks by default has to be told that a Messages client wants no thinking. The
    protocol says so by silence, so that both readings mean the same."""
    return (
        request.thinking.mode == "off"
        and "thinking" in top_level_fields(encoded)
        and "thinking" not in top_level_fields(request.body)
    )


def _comparable(request: Request) -> Request:
    return msgspec.structs.replace(
        request,
        model="",
        stream=False,
        body=b"",
        tools=tuple(_declared(tool) for tool in request.tools),
    )


def _declared(tool: Tool) -> Tool:
    return tool if tool.kind == "hosted" else msgspec.structs.replace(tool, json=b"")

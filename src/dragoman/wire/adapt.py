"""What the routed model and provider can take: reasoning given back to whom it belongs, pictures and
documents replaced by a note where nobody could read them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    File,
    Hosted,
    Image,
    Part,
    Reasoning,
    Recall,
    Request,
    Result,
    Text,
    Turn,
    User,
    Wire,
)

IMAGE_OMITTED = b"[image omitted: this model does not read images]"


def adapt(
    request: Request, *, wire: Wire, dialect: Dialect, limits: Limits, recall: Recall | None
) -> tuple[Request, list[str]]:
    """Fit a normalised request to its upstream.

    Returns:
        the request, and the short names of what had to be changed.
    """
    shims: dict[str, None] = {}
    reads_all = "image" in limits.input_modalities and "pdf" in limits.input_modalities
    recalls = recall is not None and dialect.reasoning_replay != "never"
    if reads_all and not recalls and _is_plain(request.turns):
        return request, []
    turns: list[Turn] = []
    for turn in request.turns:
        match turn:
            case Assistant():
                parts = _reasoned(turn.parts, request.wire, wire, dialect, recall, shims)
                if parts:
                    turns.append(Assistant(parts))
            case User() if not reads_all:
                turns.append(_readable(turn, limits.input_modalities, shims))
            case _:
                turns.append(turn)
    return msgspec.structs.replace(request, turns=tuple(turns)), list(shims)


def _is_plain(turns: Iterable[Turn]) -> bool:
    """Whether nothing in a conversation belongs to one provider."""
    for turn in turns:
        if type(turn) is Assistant:
            if not turn.parts:
                return False
            for part in turn.parts:
                kind = type(part)
                if kind is Reasoning or kind is Hosted:
                    return False
    return True


def _reasoned(
    parts: Iterable[AssistantPart],
    client: Wire,
    upstream: Wire,
    dialect: Dialect,
    recall: Recall | None,
    shims: dict[str, None],
) -> tuple[AssistantPart, ...]:
    out: list[AssistantPart] = []
    thought = False
    for part in parts:
        if isinstance(part, Reasoning):
            kept = owned(part, client, upstream, dialect)
            if kept is None:
                shims["foreign reasoning dropped"] = None
                continue
            thought = True
            out.append(kept)
        elif isinstance(part, Hosted):
            if part.wire == upstream and client == upstream:
                out.append(part)
        elif isinstance(part, Call):
            if not thought and recall is not None and dialect.reasoning_replay != "never":
                found = recall.find(part.id)
                kept = owned(found, client, upstream, dialect) if found is not None else None
                if kept is not None:
                    shims["reasoning recalled"] = None
                    thought = True
                    out.append(kept)
            out.append(part)
        else:
            out.append(part)
    return tuple(out)


def owned(reasoning: Reasoning, client: Wire, upstream: Wire, dialect: Dialect) -> Reasoning | None:
    """The reasoning as this upstream may see it, or None.

    Its own goes back complete with its carriers. What a client handed over bare stays as it is on the same
    wire and becomes plain text on another one. What another provider made is dropped, or sent as plain text
    where the profile says so. An opaque value is never shown as text.
    """
    own = tuple(c for c in reasoning.carriers if c.realm is not None and c.realm == dialect.realm and c.realm)
    if own:
        return msgspec.structs.replace(reasoning, carriers=own)
    if all(carrier.realm is None for carrier in reasoning.carriers):
        if client == upstream:
            return reasoning
        return Reasoning(reasoning.text) if reasoning.text else None
    if dialect.foreign_reasoning == "text" and reasoning.text:
        return Reasoning(reasoning.text)
    return None


def _readable(turn: User, modalities: frozenset[str], shims: dict[str, None]) -> User:
    return User(
        results=tuple(_readable_result(result, modalities, shims) for result in turn.results),
        parts=tuple(_readable_part(part, modalities, shims) for part in turn.parts),
    )


def _readable_result(result: Result, modalities: frozenset[str], shims: dict[str, None]) -> Result:
    if all(isinstance(part, Text) for part in result.parts):
        return result
    parts = tuple(_readable_part(part, modalities, shims) for part in result.parts)
    return msgspec.structs.replace(result, parts=parts)


def _readable_part(part: Part, modalities: frozenset[str], shims: dict[str, None]) -> Part:
    match part:
        case Image() if "image" not in modalities:
            shims["images omitted"] = None
            return Text(IMAGE_OMITTED)
        case File() if "pdf" not in modalities and part.text is None:
            shims["documents omitted"] = None
            return Text(document_note(part))
        case _:
            return part


def document_note(part: File) -> bytes:
    """What stands where a document nobody here can read was."""
    name = b" " + part.filename if part.filename else b""
    return b"[document omitted:" + name + b" cannot be read by this model]"

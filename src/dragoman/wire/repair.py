"""The normaliser: makes any conversation legal for the three protocols, once, before it is encoded.

Transcripts of real clients are broken in known ways: results without calls, calls without results, the same
call id twice (Codex 0.169 runs and replays both), results after later messages, empty messages. Everything
here is deterministic and looks only backwards, so that a repaired conversation stays a prefix of its own
continuation and prompt caches keep hitting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    Note,
    Part,
    RawText,
    Request,
    Result,
    Text,
    Turn,
    User,
)

NO_OUTPUT = b"[no output recorded]"
ORPHAN = b"[output of a tool call that is not part of this conversation]"
CONTINUE = b"Continue."
REMINDER = (b"<system-reminder>\\n", b"\\n</system-reminder>")

BILLING_PREFIX = b"x-anthropic-billing-header:"


def repair(
    request: Request,
    *,
    late_system: bool,
    user_turn_required: bool = True,
    billing_header: bool = False,
) -> Request:
    """A request whose turns alternate and whose calls and results pair up.

    - every call has exactly one result, in the user turn right after it: missing ones are made, of two
      results for one call the last wins, a result without a call becomes user text;
    - a call id that was used before gets a new one, its result with it;
    - empty texts and turns go, neighbours of one role are merged;
    - leading notes join the system text; later ones keep their place, as user text unless `late_system`.

    Args:
        request: as decoded.
        late_system: whether the upstream takes system messages in the middle of a conversation.
        user_turn_required: whether a conversation without user words must get some.
        billing_header: whether Claude Code's billing line (noise that changes with every build and spoils
            prompt caches) stays at the head of the system text.
    """
    system = [text for text in request.system if text.text and (billing_header or not is_billing(text.text))]
    turns = list(request.turns)
    while turns and isinstance(first := turns[0], Note):
        system.extend(text for text in first.parts if text.text)
        turns.pop(0)
    merged = turns if _is_sound(turns) else _mended(turns, late_system=late_system)
    if user_turn_required and not any(isinstance(turn, User) and turn.parts for turn in merged):
        merged = [User(parts=(Text(CONTINUE),)), *merged]
    return msgspec.structs.replace(request, system=tuple(system), turns=tuple(merged))


def _mended(turns: Sequence[Turn], *, late_system: bool) -> list[Turn]:
    paired = _pair(turns)
    return _merge(paired if late_system else [_reminded(turn) for turn in paired])


def _is_sound(turns: Sequence[Turn]) -> bool:
    """Whether mending would change nothing: the usual case, told at a fifth of the cost."""
    used: set[str] = set()
    waiting: set[str] = set()
    calls = 0
    previous: type = Note
    for turn in turns:
        kind = type(turn)
        if kind is previous or isinstance(turn, Note):
            return False
        previous = kind
        if isinstance(turn, User):
            results = turn.results
            if not (results or turn.parts) or len(results) != len(waiting):
                return False
            for result in results:
                if result.call_id not in waiting:
                    return False
                waiting.discard(result.call_id)
        elif not turn.parts:
            return False
        for part in turn.parts:
            if type(part) is Text:
                if not part.text:
                    return False
            elif type(part) is Call:
                calls += 1
                used.add(part.id)
                waiting.add(part.id)
    return not waiting and "" not in used and len(used) == calls


def is_billing(text: RawText) -> bool:
    """Whether a system text is Claude Code's billing line."""
    return text.startswith(BILLING_PREFIX)


def _reminded(turn: Turn) -> Turn:
    if not isinstance(turn, Note):
        return turn
    head, tail = REMINDER
    return User(parts=tuple(Text(head + text.text + tail) for text in turn.parts if text.text))


class _Pairing:
    """Which result belongs to which call, by order of appearance."""

    def __init__(self) -> None:
        self.results: dict[int, Result] = {}
        self.orphans: dict[int, Result] = {}
        self.new_ids: dict[int, str] = {}
        self._waiting: dict[str, list[int]] = {}
        self._answered: dict[str, int] = {}
        self._used: set[str] = set()

    def call(self, place: int, call: Call) -> None:
        new_id = call.id
        number = 1
        while new_id in self._used or not new_id:
            number += 1
            new_id = f"{call.id or 'call'}_{number}"
        self._used.add(new_id)
        self.new_ids[place] = new_id
        self._waiting.setdefault(call.id, []).append(place)

    def result(self, place: int, result: Result) -> None:
        waiting = self._waiting.get(result.call_id)
        if waiting:
            owner = waiting.pop(0)
            self._answered[result.call_id] = owner
        elif result.call_id in self._answered:
            owner = self._answered[result.call_id]
        else:
            self.orphans[place] = result
            return
        self.results[owner] = result


def _pair(turns: Sequence[Turn]) -> list[Turn]:
    """Every assistant turn is followed by the results of its calls, every user turn keeps only its words."""
    pairing = _Pairing()
    place = 0
    for turn in turns:
        if isinstance(turn, Assistant):
            for part in turn.parts:
                if isinstance(part, Call):
                    pairing.call(place, part)
                    place += 1
        elif isinstance(turn, User):
            for result in turn.results:
                pairing.result(place, result)
                place += 1
    out: list[Turn] = []
    order = _by_arrival(pairing)
    place = 0
    for turn in turns:
        if isinstance(turn, Assistant):
            parts: list[AssistantPart] = []
            places: list[int] = []
            for part in turn.parts:
                if isinstance(part, Call):
                    places.append(place)
                    new_id = pairing.new_ids[place]
                    parts.append(part if new_id == part.id else msgspec.structs.replace(part, id=new_id))
                    place += 1
                elif not (isinstance(part, Text) and not part.text):
                    parts.append(part)
            if parts:
                out.append(Assistant(tuple(parts)))
            if places:
                results = [_answer(pairing, owner, parts) for owner in sorted(places, key=order)]
                out.append(User(results=tuple(results)))
        elif isinstance(turn, User):
            words: list[Part] = []
            for result in turn.results:
                if place in pairing.orphans:
                    words.extend((Text(ORPHAN), *result.parts))
                place += 1
            words.extend(part for part in turn.parts if not (isinstance(part, Text) and not part.text))
            if words:
                out.append(User(parts=tuple(words)))
        elif any(text.text for text in turn.parts):
            out.append(turn)
    return out


def _by_arrival(pairing: _Pairing) -> Callable[[int], tuple[int, int]]:
    """A sort key for calls: their results keep the order they arrived in, made-up ones come last."""
    ranks = {owner: rank for rank, owner in enumerate(pairing.results)}

    def key(owner: int) -> tuple[int, int]:
        return ranks.get(owner, len(ranks)), owner

    return key


def _answer(pairing: _Pairing, owner: int, parts: Iterable[AssistantPart]) -> Result:
    new_id = pairing.new_ids[owner]
    found = pairing.results.get(owner)
    if found is None:
        call = next(part for part in parts if isinstance(part, Call) and part.id == new_id)
        return Result(call_id=new_id, parts=(Text(NO_OUTPUT),), kind=call.kind)
    return found if found.call_id == new_id else msgspec.structs.replace(found, call_id=new_id)


def _merge(turns: Iterable[Turn]) -> list[Turn]:
    """Neighbours of one role become one turn; a user turn's results stay in front of its words."""
    out: list[Turn] = []
    for turn in turns:
        last = out[-1] if out else None
        if isinstance(turn, Assistant) and isinstance(last, Assistant):
            out[-1] = Assistant(last.parts + turn.parts)
        elif isinstance(turn, User) and isinstance(last, User) and not turn.results:
            out[-1] = User(results=last.results, parts=last.parts + turn.parts)
        elif isinstance(turn, Note) and isinstance(last, Note):
            out[-1] = Note(last.parts + turn.parts)
        elif not isinstance(turn, User) or turn.results or turn.parts:
            out.append(turn)
    return out


def has_calls(parts: Iterable[AssistantPart]) -> bool:
    """Whether an assistant turn calls a tool."""
    return any(isinstance(part, Call) for part in parts)

"""The second line of reasoning: what a model thought before its calls, for clients that lose it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from dragoman.wire.turns import Reasoning

MAX_ENTRIES = 4096
MAX_BYTES = 32 << 20


class RecallStore:
    """Keeps reasoning by call id for every session of one process; the least recently used goes first."""

    def __init__(self, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], Reasoning] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def session(self, scope: str) -> SessionRecall:
        """The memory of one session. `scope` is the token's id and the client's session id together: call ids
        of one user must never find another's thoughts."""
        return SessionRecall(self, scope)

    def find(self, scope: str, call_id: str) -> Reasoning | None:
        """The reasoning that led to a call, or None."""
        found = self._kept.get((scope, call_id))
        if found is not None:
            self._kept.move_to_end((scope, call_id))
        return found

    def keep(self, scope: str, call_ids: Sequence[str], reasoning: Reasoning) -> None:
        """Remember that `reasoning` led to these calls."""
        for call_id in call_ids:
            old = self._kept.pop((scope, call_id), None)
            if old is not None:
                self._bytes -= _size(old)
            self._kept[scope, call_id] = reasoning
            self._bytes += _size(reasoning)
        while self._kept and (len(self._kept) > self._max_entries or self._bytes > self._max_bytes):
            _, old = self._kept.popitem(last=False)
            self._bytes -= _size(old)


class SessionRecall:
    """One session's view of the store (`dragoman.wire.turns.Recall`)."""

    __slots__ = ("_scope", "_store")

    def __init__(self, store: RecallStore, scope: str) -> None:
        self._store = store
        self._scope = scope

    def find(self, call_id: str) -> Reasoning | None:
        """The reasoning that preceded this call, or None."""
        return self._store.find(self._scope, call_id)

    def keep(self, call_ids: Sequence[str], reasoning: Reasoning) -> None:
        """Remember that `reasoning` led to these calls."""
        self._store.keep(self._scope, call_ids, reasoning)


def _size(reasoning: Reasoning) -> int:
    return len(reasoning.text) + sum(len(carrier.data) for carrier in reasoning.carriers) + 200

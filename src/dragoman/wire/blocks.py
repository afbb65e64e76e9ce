"""The queue every stream decoder speaks through: whatever order an upstream sends blocks in, they leave one
after the other, under the client's names, with freeform texts unwrapped and reasoning remembered."""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from dragoman.wire.events import (
    Block,
    CallBlock,
    Close,
    Delta,
    Event,
    Open,
    ReasoningBlock,
)
from dragoman.wire.tools import unwrap_freeform
from dragoman.wire.turns import Carrier, RawText, Reasoning, Recall, plain


class _Lane:
    """One block on its way out: `texts` is all it said so far."""

    __slots__ = ("block", "closed", "key", "texts", "wrapped")

    def __init__(self, key: Hashable, block: Block, wrapped: bool) -> None:
        self.key = key
        self.block = block
        self.wrapped = wrapped
        self.texts: list[RawText] = []
        self.closed: Close | None = None


class BlockQueue:
    """Turns blocks that may interleave into a sequence of events.

    The first open block is live, its deltas pass at once; later ones wait until it is closed.

    Args:
        recall: the session's memory of reasoning, or None.

    Attributes:
        events: what is ready to leave; the decoder takes it with `take`.
        live: the key of the live block, None when there is none. A decoder may append a `Delta` for it to
            `events` itself when that block is plain text.
        calls: how many calls were opened.
    """

    __slots__ = ("_call_ids", "_lanes", "_recall", "_thought", "calls", "events", "live")

    def __init__(self, recall: Recall | None = None) -> None:
        self.events: list[Event] = []
        self.live: Hashable | None = None
        self.calls = 0
        self._lanes: list[_Lane] = []
        self._recall = recall
        self._thought: Reasoning | None = None
        self._call_ids: list[str] = []

    def take(self) -> list[Event]:
        """Everything that is ready, once."""
        events, self.events = self.events, []
        return events

    def has(self, key: Hashable) -> bool:
        """Whether a block with this key is open and not closed yet."""
        lane = self._find(key)
        return lane is not None and lane.closed is None

    def open(self, key: Hashable, block: Block, *, wrapped: bool = False) -> None:
        """A block begins. `wrapped`: its arguments hold a freeform text (see `ToolTable.is_wrapped`)."""
        lane = _Lane(key, block, wrapped)
        self._lanes.append(lane)
        if isinstance(block, CallBlock):
            self.calls += 1
        if len(self._lanes) == 1:
            self._go_live(lane)

    def delta(self, key: Hashable, text: RawText) -> None:
        """More of a block. Text for a block that is not open is ignored."""
        if not text:
            return
        if key == self.live:
            lane = self._lanes[0]
            lane.texts.append(text)
            if not lane.wrapped:
                self.events.append(Delta(text))
        elif (lane := self._find(key)) is not None and lane.closed is None:
            lane.texts.append(text)

    def close(self, key: Hashable, carriers: tuple[Carrier, ...] = (), *, complete: bool = True) -> None:
        """A block is finished."""
        lane = self._find(key)
        if lane is None or lane.closed is not None:
            return
        lane.closed = Close(carriers, complete)
        while self._lanes and (first := self._lanes[0]).closed is not None:
            self._retire(first)
            if self._lanes:
                self._go_live(self._lanes[0])

    def close_all(self, *, complete: bool = True) -> None:
        """The answer ended: everything still open is finished, or cut when not `complete`."""
        for lane in list(self._lanes):
            self.close(lane.key, complete=complete)

    def said(self, key: Hashable) -> RawText:
        """All text of an open block so far (plain text blocks may pass the queue by)."""
        lane = self._find(key)
        return b"".join(lane.texts) if lane else b""

    def is_whole(self, key: Hashable) -> bool:
        """Whether the arguments of an open call are already one whole JSON value."""
        try:
            msgspec.json.decode(plain(self.said(key)), type=msgspec.Raw)
        except (ValueError, RecursionError):
            return False
        return True

    def open_calls(self) -> list[Hashable]:
        """Keys of the calls that are not closed."""
        return [lane.key for lane in self._lanes if lane.closed is None and isinstance(lane.block, CallBlock)]

    def finish(self) -> None:
        """The answer is complete: hand what was thought before each call to the session's memory."""
        if self._recall is not None and self._thought is not None and self._call_ids:
            self._recall.keep(self._call_ids, self._thought)
        self._call_ids = []

    def _find(self, key: Hashable) -> _Lane | None:
        for lane in reversed(self._lanes):
            if lane.key == key:
                return lane
        return None

    def _go_live(self, lane: _Lane) -> None:
        self.live = lane.key
        self.events.append(Open(lane.block))
        if lane.texts and not lane.wrapped:
            self.events.append(Delta(b"".join(lane.texts)))

    def _retire(self, lane: _Lane) -> None:
        assert lane.closed is not None
        if lane.wrapped and lane.texts:
            text = b"".join(lane.texts)
            self.events.append(Delta(unwrap_freeform(text) if lane.closed.complete else text))
        self.events.append(lane.closed)
        self._lanes.pop(0)
        self.live = None
        if self._recall is None:
            return
        if isinstance(lane.block, ReasoningBlock):
            self.finish()
            self._thought = Reasoning(b"".join(lane.texts), carriers=lane.closed.carriers)
        elif isinstance(lane.block, CallBlock):
            self._call_ids.append(lane.block.id)

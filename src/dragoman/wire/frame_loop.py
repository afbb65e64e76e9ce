"""From the bytes of a stream to its frames, for the two protocols whose events name their type."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from dragoman.wire.blocks import BlockQueue
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import Failure, failure
from dragoman.wire.events import Event, Usage
from dragoman.wire.loose_json import mend_json
from dragoman.wire.sse import FrameTooLarge, SseReader, is_done
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Recall

FrameT = TypeVar("FrameT")


class FrameLoop(Generic[FrameT]):
    """Reads a stream frame by frame until one of them ends it. A wire says what its frames mean.

    Args:
        frames: reads one frame.
        dialect, tools, id_seed, recall: see `dragoman.wire.translate.stream_decoder`.
    """

    def __init__(
        self,
        frames: msgspec.json.Decoder[FrameT],
        *,
        dialect: Dialect,
        tools: ToolTable,
        id_seed: str = "",
        recall: Recall | None = None,
    ) -> None:
        self.finished = False
        self._frames = frames
        self._dialect = dialect
        self._tools = tools
        self._id_seed = id_seed
        self._reader = SseReader()
        self._queue = BlockQueue(recall)

    @property
    def usage_so_far(self) -> Usage | None:
        """What was counted until now; a wire that says it before the end says so here."""
        return None

    def feed(self, data: bytes) -> list[Event]:
        if self.finished:
            return []
        try:
            for payload in self._reader.feed(data):
                self._payload(payload)
                if self.finished:
                    break
        except FrameTooLarge as error:
            self._fail(failure("upstream", error.message))
        return self._queue.take()

    def eof(self) -> list[Event]:
        if self.finished:
            return []
        for payload in self._reader.eof():
            if not self.finished:
                self._payload(payload, last=True)
        if not self.finished:
            self._closed()
        return self._queue.take()

    def _payload(self, payload: bytes, *, last: bool = False) -> None:
        try:
            if not payload.isascii():
                payload.decode()
            frame = self._frames.decode(payload)
        except (ValueError, RecursionError):
            if is_done(payload):
                return
            mended = mend_json(payload)
            if mended is None:
                if not last:
                    self._fail(failure("upstream", "The provider sent an event that is not JSON."))
                return
            try:
                frame = self._frames.decode(mended)
            except (ValueError, RecursionError):
                self._unreadable(mended)
                return
        self._frame(frame, payload)

    def _frame(self, frame: FrameT, payload: bytes) -> None:
        """One frame, and its bytes."""
        raise NotImplementedError

    def _unreadable(self, payload: bytes) -> None:
        """A frame of another shape: an error in the provider's own words, or one of no concern."""
        raise NotImplementedError

    def _closed(self) -> None:
        """The upstream closed and nothing had ended the answer."""
        self._fail(failure("truncated", "The provider closed the stream before its end."))

    def _fail(self, found: Failure) -> None:
        """The answer ends with a failure."""
        raise NotImplementedError

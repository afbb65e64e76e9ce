"""What changes, told to whoever listens: `/api/v1/events`, kept for a while so that nothing is missed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import msgspec

Topic = Literal["job", "run", "stream", "key", "usage", "session"]
_KEPT = 1000
# A listener this far behind reads too slowly; it starts again from what is kept.
_QUEUED = 2000


class Happening(msgspec.Struct, frozen=True):
    """One change.

    Attributes:
        id: rises with every change, also from one control process to the next.
        topic: what changed.
        at: seconds since the epoch.
        resource: the thing as it is now.
    """

    id: int
    topic: Topic
    at: float
    resource: Any


class Feed:
    """Takes changes from any thread and hands them to listeners of one event loop.

    Args:
        wall: seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._last = int(wall() * 1000)
        self._kept: deque[Happening] = deque(maxlen=_KEPT)
        self._listeners: dict[asyncio.Queue[Happening | None], asyncio.AbstractEventLoop] = {}
        self._guard = threading.Lock()

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens; what has to be looked for need not be looked for else."""
        return bool(self._listeners)

    def publish(self, topic: Topic, resource: Any) -> None:
        """Tell everybody that something is now like this."""
        with self._guard:
            self._last += 1
            happening = Happening(self._last, topic, round(self._wall(), 3), resource)
            self._kept.append(happening)
            listeners = tuple(self._listeners.items())
        for queue, loop in listeners:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_put, queue, happening)

    async def listen(
        self, after: int | None = None, *, topics: frozenset[str] | None = None
    ) -> AsyncIterator[Happening]:
        """Changes as they come, without end.

        Args:
            after: id of the last one known; what is kept of those since is told first.
            topics: only these; None is all.
        """
        queue: asyncio.Queue[Happening | None] = asyncio.Queue(_QUEUED)
        with self._guard:
            missed = [] if after is None else [one for one in self._kept if one.id > after]
            self._listeners[queue] = asyncio.get_running_loop()
        try:
            for happening in missed:
                if topics is None or happening.topic in topics:
                    yield happening
            while (coming := await queue.get()) is not None:
                if topics is None or coming.topic in topics:
                    yield coming
        finally:
            with self._guard:
                self._listeners.pop(queue, None)


def _put(queue: asyncio.Queue[Happening | None], happening: Happening) -> None:
    """A listener that reads too slowly is let go: it comes again with the last id it knows."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)
    else:
        queue.put_nowait(happening)

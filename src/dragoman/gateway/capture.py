"""Record exchanges while there is an order to: bounded in memory, written beside the loop, never in the way.

Without an order a request costs one look at the clock, and twice a second one look for a file. With one, the
bytes of an exchange are held until it has ended, then a thread redacts and writes them. Whatever goes wrong
there ends the recording and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dragoman.config.files import ensure_private_folder

from .capture_file import sweep_captures, write_capture
from .capture_order import Order, OrderWatch, captures_folder, remove_order, stop_order, take_place
from .capture_tape import Room, Tape
from .capture_write import develop
from .conversation import Conversation
from .exchange import Means
from .spool import UsageRow

MAX_HELD_BYTES = 96 << 20
"""What all recordings of a process may hold before they are on disk."""

_MAX_AT_ONCE = 256
_BREATH_S = 0.0005
_END_S = 5.0


class Captures:
    """The recordings of one gateway process.

    Args:
        state: the state folder, where the order and the recordings are.
        clock: monotonic seconds.
        wall: Unix seconds.
        warn: takes an event and its fields when a recording came to grief.
        held_bytes: what recordings may hold in memory.
    """

    def __init__(
        self,
        state: Path,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        warn: Callable[..., None] = lambda event, **fields: None,
        held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self._state = state
        self._wall = wall
        self._warn = warn
        self._watch = OrderWatch(state, clock=clock, wall=wall)
        self._room = Room(held_bytes)
        self._open = 0
        self._ended: set[str] = set()
        self._queue: queue.SimpleQueue[tuple[Tape, Order] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, talk: Conversation, means: Means, record: Callable[[UsageRow], None]) -> Recording | None:
        """A recording of this exchange, to be run in its place; None when none is wanted.

        Args:
            talk: the request.
            means: what the exchange works with.
            record: takes the usage row.
        """
        order = self._watch.current()
        if order is None or order.id in self._ended or self._open >= _MAX_AT_ONCE:
            return None
        self._open += 1
        tape = Tape(talk, means, record, limit_bytes=order.exchange_bytes, room=self._room)
        return Recording(tape, order, self)

    def finish(self, tape: Tape, order: Order) -> None:
        """An exchange has ended: it is written soon, or dropped."""
        self._open -= 1
        well = tape.row is not None and tape.row.outcome == "ok"
        if order.id in self._ended or (order.failed_only and well):
            tape.release()
            return
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._write_all, name="captures", daemon=True)
            self._thread.start()
        self._queue.put((tape, order))

    async def aclose(self) -> None:
        """Write what has ended; what takes too long is lost."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, _END_S)
            self._thread = None

    # --- in the thread

    def _write_all(self) -> None:
        while (waiting := self._queue.get()) is not None:
            tape, order = waiting
            try:
                if order.id not in self._ended:
                    self._write(tape, order)
            except OSError as error:
                self._stop(order, error.strerror or type(error).__name__)
            except Exception as error:  # noqa: BLE001 - a recording is never worth a stream; the kind is told
                self._tell("capture_failed", kind=type(error).__name__, id=tape.talk.incoming.id)
            finally:
                tape.release()

    def _write(self, tape: Tape, order: Order) -> None:
        folder = captures_folder(self._state)
        ensure_private_folder(folder)
        place = take_place(self._state, order)
        if place is None:
            self._ended.add(order.id)
            remove_order(self._state, id=order.id)
            return
        write_capture(folder, develop(tape, breathe=_breathe))
        sweep_captures(
            folder,
            days=order.days,
            max_bytes=order.folder_bytes,
            max_files=order.folder_files,
            execute=True,
            wall=self._wall,
        )
        if place >= order.exchanges:
            self._ended.add(order.id)
            remove_order(self._state, id=order.id)

    def _stop(self, order: Order, reason: str) -> None:
        self._ended.add(order.id)
        with contextlib.suppress(OSError):
            stop_order(self._state, order, reason)
        self._tell("capture_stopped", reason=reason)

    def _tell(self, event: str, **fields: str) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(lambda: self._warn(event, **fields))


class Recording:
    """One exchange that is recorded.

    Args:
        tape: what notes it.
        order: for which it is.
        captures: where it goes.
    """

    def __init__(self, tape: Tape, order: Order, captures: Captures) -> None:
        self._tape = tape
        self._order = order
        self._captures = captures

    async def run(self) -> None:
        """Carry the exchange; see `Exchange.run`."""
        try:
            await self._tape.run()
        finally:
            self._captures.finish(self._tape, self._order)


def _breathe() -> None:
    # The interpreter is given up between slices of under a millisecond, or streams would stutter.
    time.sleep(_BREATH_S)

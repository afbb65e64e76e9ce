"""The order to record exchanges: a small file in the state folder, looked at by every gateway.

`dragoman capture on` writes it and `off` removes it; no process has to be told. It ends by itself: after its
time, after so many exchanges, and when the disk takes no more.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from dragoman.config.files import ensure_private_folder, read_small_file, write_private_file
from dragoman.errors import DragomanError, ExitCode

LOOK_EVERY_S = 0.5
"""How old a gateway's knowledge of the order may be."""

MAX_EXCHANGE_BYTES = 16 << 20
"""What is kept of one exchange, all four sides together; of a longer one only that it was too long."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded.

    Attributes:
        id: names this order; another one begins to count anew.
        since, until: Unix seconds.
        exchanges: how many are recorded in all.
        failed_only: leave out exchanges that ended well.
        exchange_bytes: what is kept of one exchange at most.
        folder_bytes, folder_files: what all recordings together may take; the oldest go.
        days: how old a recording may get; 0 is for ever.
        stopped: why it ended before its time.
    """

    id: str
    since: float
    until: float
    exchanges: int
    failed_only: bool = False
    exchange_bytes: int = MAX_EXCHANGE_BYTES
    folder_bytes: int = 200 << 20
    folder_files: int = 1000
    days: int = 7
    stopped: str | None = None


MAX_MINUTES = 24 * 60.0
MAX_EXCHANGES = 10_000


class BadOrder(DragomanError):
    """Nobody wants to record so long, or so much."""

    code = "bad_order"
    http_status = 400
    exit_code = ExitCode.USAGE


def plan_order(
    *,
    minutes: float,
    exchanges: int,
    failed_only: bool,
    days: int,
    megabytes: int,
    now: float,
    id: str,
) -> Order:
    """An order as a person gives it.

    Args:
        minutes: how long to record at most.
        exchanges: how many at most.
        failed_only: leave out exchanges that ended well.
        days, megabytes: what `[retention]` says of recordings.
        now: Unix seconds.
        id: letters and digits, new.

    Raises:
        BadOrder: too long or too many, or nothing at all.
    """
    if not 0 < minutes <= MAX_MINUTES:
        raise BadOrder(f"the minutes are more than 0 and at most {MAX_MINUTES:g}")
    if not 0 < exchanges <= MAX_EXCHANGES:
        raise BadOrder(f"the exchanges are at least 1 and at most {MAX_EXCHANGES}")
    return Order(
        id=id,
        since=now,
        until=now + minutes * 60,
        exchanges=exchanges,
        failed_only=failed_only,
        folder_bytes=megabytes << 20,
        days=days,
    )


class OrderState(msgspec.Struct, frozen=True, kw_only=True):
    """How recording stands.

    Attributes:
        on: whether exchanges are recorded now.
        until: Unix seconds when it ends by itself; None when it is off.
        exchanges, recorded: how many are wanted, and are there.
        failed_only: exchanges that end well are left out.
        stopped: why the last order ended before its time.
    """

    on: bool
    until: float | None = None
    exchanges: int = 0
    recorded: int = 0
    failed_only: bool = False
    stopped: str | None = None


def order_state(state: Path, now: float) -> OrderState:
    """How recording stands.

    Args:
        state: the state folder.
        now: Unix seconds.
    """
    order = read_order(state)
    if order is None or now >= order.until:
        return OrderState(on=False)
    return OrderState(
        on=order.stopped is None,
        until=None if order.stopped else order.until,
        exchanges=order.exchanges,
        recorded=places_taken(state, order),
        failed_only=order.failed_only,
        stopped=order.stopped,
    )


def order_file(state: Path) -> Path:
    """Where the order is."""
    return state / "capture.json"


def captures_folder(state: Path) -> Path:
    """Where recordings are, one 0600 file each."""
    return state / "captures"


def read_order(state: Path) -> Order | None:
    """The order as it stands, or None when there is none."""
    content = read_small_file(order_file(state))
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=Order)
    except msgspec.MsgspecError:
        return None


def write_order(state: Path, order: Order) -> None:
    """Give an order; it holds within `LOOK_EVERY_S`.

    Raises:
        OSError: it cannot be written.
    """
    ensure_private_folder(state)
    write_private_file(order_file(state), msgspec.json.encode(order))


def remove_order(state: Path, *, id: str | None = None) -> Order | None:
    """End an order, whichever it is or only the named one; what it was.

    What has ended by then is still written: its count stays until it is swept up by age.
    """
    order = read_order(state)
    if order is None or (id is not None and order.id != id):
        return None
    order_file(state).unlink(missing_ok=True)
    return order


def stop_order(state: Path, order: Order, reason: str) -> None:
    """End an order before its time and leave the reason; on a disk that takes nothing it is just removed."""
    if (found := read_order(state)) is None or found.id != order.id:
        return
    try:
        write_order(state, msgspec.structs.replace(order, stopped=reason))
    except OSError:
        order_file(state).unlink(missing_ok=True)


def take_place(state: Path, order: Order) -> int | None:
    """One of the order's places, counted over all gateways; None when all are taken.

    Raises:
        OSError: they cannot be counted.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_APPEND
    fd = os.open(_count_file(state, order.id), flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        taken = os.fstat(fd).st_size
        if taken >= order.exchanges:
            return None
        os.write(fd, b".")
        return taken + 1
    finally:
        os.close(fd)


def places_taken(state: Path, order: Order) -> int:
    """How many exchanges were recorded so far."""
    try:
        return _count_file(state, order.id).stat().st_size
    except OSError:
        return 0


def _count_file(state: Path, id: str) -> Path:
    return captures_folder(state) / f".count-{''.join(filter(str.isalnum, id))}"


class OrderWatch:
    """The order as a gateway sees it, at most `LOOK_EVERY_S` old.

    Args:
        state: the state folder.
        clock: monotonic seconds.
        wall: Unix seconds.
    """

    def __init__(self, state: Path, *, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._wall = wall
        self._look_at = float("-inf")
        self._order: Order | None = None

    def current(self) -> Order | None:
        """The order in force, or None."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._order = read_order(self._state)
        order = self._order
        if order is None or order.stopped is not None or self._wall() >= order.until:
            return None
        return order

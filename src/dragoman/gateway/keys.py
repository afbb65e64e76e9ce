"""Provider keys at work: which one serves the next request, and which ones have to rest.

The keys themselves belong to a configuration and are replaced by a reload; what is known about their state
(`KeyStates`) belongs to the process and is kept, by provider and key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dragoman.wire.errors import Failure, FailureCode, failure

from .slots import Slot, Slots

QUEUE_S = 300.0
"""How long a request waits for a key that is busy, or that rests only shortly."""

_RATE_S = 5.0
_MAX_RATE_S = 60.0
_AUTH_S = 60.0
_QUOTA_S = 900.0
# One question a day costs nothing, and plans are changed, topped up or misdated.
_MAX_REST_S = 86_400.0
# For a longer rest the client is told to come back: it shows that to its user, silence shows nothing.
_PATIENT_S = 10.0
_POLL_S = 0.1
_MAX_SESSIONS = 4096

# Which failures are the key's: all others are the request's, the model's or the provider's, and another key
# would only meet the same.
KEY_FAILURES: frozenset[FailureCode] = frozenset({"rate", "quota_window", "auth"})


@dataclass(frozen=True, slots=True)
class Key:
    """One credential of a provider.

    Attributes:
        provider: whose it is.
        label: where it comes from, for people and the ledger; never the key.
        secret: the key; None for a provider that needs none.
        max_concurrency: requests at a time; None is no limit.
        id: names the key's files and state without showing it.
    """

    provider: str
    label: str
    secret: str | None = field(repr=False)
    max_concurrency: int | None = None
    id: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(f"{self.provider}\0{self.secret or ''}".encode()).hexdigest()
        object.__setattr__(self, "id", digest[:20])


class KeysExhausted(Exception):
    """No key can serve now, nor soon.

    Attributes:
        failure: what to tell the client, with the time the first key comes back.
    """

    def __init__(self, found: Failure) -> None:
        super().__init__(found.message)
        self.failure = found


@dataclass(slots=True)
class Lease:
    """A key lent to one request."""

    key: Key
    _states: KeyStates
    _slot: Slot | None

    def release(self) -> None:
        """Give it back."""
        if self._slot is not None:
            self._slot.release()
            self._slot = None
            self._states.wake(self.key.provider)

    def succeeded(self) -> None:
        """The provider served with this key."""
        self._states.succeeded(self.key)

    def failed(self, found: Failure) -> None:
        """The provider refused; the key rests when the refusal was about the key."""
        self._states.failed(self.key, found)


@dataclass(slots=True)
class _Rest:
    until: float
    failure: Failure
    strikes: int


class KeyStates:
    """What is known about keys: who rests until when, who served which session, who is waiting.

    Args:
        slots: folder of the slot files.
        clock: monotonic seconds.
        wall: Unix seconds.
        queue_s: longest wait for a key.
    """

    def __init__(
        self,
        slots: Path,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        queue_s: float = QUEUE_S,
    ) -> None:
        self._slots = Slots(slots)
        self._clock = clock
        self._wall = wall
        self._queue_s = queue_s
        self._rests: dict[str, _Rest] = {}
        self._sessions: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._used: dict[str, int] = {}
        self._turn = 0
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    async def lease(
        self, keys: tuple[Key, ...], *, session: str = "", spare: frozenset[str] = frozenset()
    ) -> Lease:
        """Lend a key, waiting for one if need be.

        Args:
            keys: the provider's, in order.
            session: the client's session; it gets the key it had, whose prompt cache is warm.
            spare: ids of keys that have just failed this very request.

        Raises:
            KeysExhausted: all rest for long, or none came free in time.
        """
        began = self._clock()
        deadline = began + self._queue_s
        while True:
            candidates = self._ready(keys, session, spare)
            for key in candidates:
                slot = None
                if key.max_concurrency is not None:
                    slot = self._slots.take(key.id, key.max_concurrency)
                    if slot is None:
                        continue
                self._turn += 1
                self._used[key.id] = self._turn
                self._remember(key, session)
                return Lease(key, self, slot)
            patience_s = min(_PATIENT_S, self._queue_s) - (self._clock() - began)
            wait_s = self._wait_s(keys, spare, busy=bool(candidates), patience_s=patience_s)
            if self._clock() + wait_s > deadline:
                raise KeysExhausted(self._busy(keys[0].provider))
            await self._wait(keys[0].provider, wait_s)

    def succeeded(self, key: Key) -> None:
        """The provider served with this key: it rests no more."""
        self._rests.pop(key.id, None)

    def failed(self, key: Key, found: Failure) -> None:
        """Let a key rest when the failure was the key's own."""
        if found.code not in KEY_FAILURES:
            return
        old = self._rests.get(key.id)
        now = self._clock()
        strikes = old.strikes if old is not None else 0
        if old is None or old.until <= now:
            strikes += 1  # refusals of what was already under way are no further strikes
        self._rests[key.id] = _Rest(now + self._rest_s(found, strikes), found, strikes)

    def resting(self, key: Key) -> float:
        """Seconds a key still rests; 0 when it may be used."""
        rest = self._rests.get(key.id)
        return 0.0 if rest is None else max(0.0, rest.until - self._clock())

    def wake(self, provider: str) -> None:
        """A key of this provider came free: the one who waits longest looks first."""
        for waiter in self._waiting.get(provider, ()):
            if not waiter.done():
                waiter.set_result(None)
                return

    # --- inside

    def _ready(self, keys: tuple[Key, ...], session: str, spare: frozenset[str]) -> list[Key]:
        left = [key for key in keys if key.id not in spare]
        ready = [key for key in left if not self.resting(key)]
        if not ready and all(rest.failure.code == "auth" for rest in map(self._rest_of, left) if rest):
            # A refused key is worth asking again when there is no other: it may have been mended meanwhile.
            ready = left
        own = self._sessions.get((keys[0].provider, session)) if session else None
        # The session's own key first, then the one whose last use is longest ago.
        return sorted(ready, key=lambda key: (key.id != own, self._used.get(key.id, 0)))

    def _wait_s(
        self, keys: tuple[Key, ...], spare: frozenset[str], *, busy: bool, patience_s: float
    ) -> float:
        """How long to wait before looking again."""
        if busy:
            return _POLL_S
        left = [key for key in keys if key.id not in spare]
        if not left:
            raise KeysExhausted(self._resting(keys))
        soonest = min(self.resting(key) for key in left)
        if soonest > patience_s:
            raise KeysExhausted(self._resting(left))
        return max(soonest, 0.01)

    async def _wait(self, provider: str, wait_s: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(provider, [])
        waiting.append(waiter)
        try:
            async with asyncio.timeout(wait_s):
                await waiter
        except TimeoutError:
            pass
        finally:
            waiting.remove(waiter)
            if not waiting:
                self._waiting.pop(provider, None)

    def _remember(self, key: Key, session: str) -> None:
        if not session:
            return
        place = (key.provider, session)
        own = self._sessions.get(place)
        if own is None or own in self._rests:
            self._sessions[place] = key.id
        self._sessions.move_to_end(place)
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def _rest_of(self, key: Key) -> _Rest | None:
        return self._rests.get(key.id)

    def _rest_s(self, found: Failure, strikes: int) -> float:
        if found.resets_at is not None and found.resets_at > self._wall():
            return min(found.resets_at - self._wall(), _MAX_REST_S)
        if found.retry_after_s is not None:
            return found.retry_after_s
        match found.code:
            case "quota_window":
                return _QUOTA_S
            case "auth":
                return _AUTH_S
            case _:
                return min(_RATE_S * 2 ** (strikes - 1), _MAX_RATE_S)

    def _resting(self, keys: tuple[Key, ...] | list[Key]) -> Failure:
        """The refusal of the key that comes back first, with the time it does."""
        rests = [rest for key in keys if (rest := self._rest_of(key)) is not None]
        if not rests:
            return self._busy(keys[0].provider)
        first = min(rests, key=lambda rest: rest.until)
        left_s = max(0.0, first.until - self._clock())
        found = first.failure
        return failure(
            found.code,
            f"{found.message} (every key of {keys[0].provider!r} rests; the first is back in {left_s:.0f} s)",
            retry_after_s=None if found.code == "quota_window" else left_s,
            resets_at=self._wall() + left_s,
            upstream_code=found.upstream_code,
        )

    def _busy(self, provider: str) -> Failure:
        return failure(
            "overloaded",
            f"Every key of the provider {provider!r} was busy for {self._queue_s:.0f} s.",
            retry_after_s=5.0,
        )

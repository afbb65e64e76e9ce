"""What a token may use in all: requests, tokens, money.

What was used is kept in one small file a token, locked for the instant it is changed: every gateway process
counts in the same place, and a restart forgets nothing. What running requests will use is only guessed, in
memory: near the end of a budget they go one after the other, so that one gateway never begins a request
when the budget is used up, and several together no more than they had under way. Tokens without limits cost
nothing here.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dragoman.catalog.tariffs import PerMillion, cost_usd
from dragoman.config.tokens import TokenRecord
from dragoman.wire.errors import Failure, failure
from dragoman.wire.events import Usage

QUEUE_S = 300.0
"""How long a request waits for others of its token whose end decides whether it may begin."""


class Used(msgspec.Struct, kw_only=True):
    """What a token has used so far."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class _Held:
    """What a running request may still use."""

    tokens: int
    usd: float


class Budgets:
    """Counts what limited tokens use.

    Args:
        folder: where the counts are; made when missing.
        queue_s: longest wait for running requests.
    """

    def __init__(self, folder: Path, *, queue_s: float = QUEUE_S) -> None:
        self._folder = folder
        self._queue_s = queue_s
        self._held: dict[str, dict[str, _Held]] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        # What a disk that refused has not taken, by token.
        self._unwritten: dict[str, Used] = {}

    async def room(self, token: TokenRecord, request: str, guess: Usage, price: PerMillion | None) -> None:
        """Wait while running requests of a token may use up what is left, then hold a share for this one.

        Args:
            token: what the client showed.
            request: the request's id; `spend` with it gives the share back.
            guess: the most it is likely to use.
            price: what the model costs.
        """
        limits = token.limits
        if limits.tokens is None and limits.usd is None:
            return
        try:
            async with asyncio.timeout(self._queue_s):
                while not self._has_room(token, self._held.get(token.id)):
                    await self._settled(token.id)
        except TimeoutError:
            pass  # the budget decides, whatever the others come to
        share = _Held(guess.total_tokens, cost_usd(guess, price) if price is not None else 0.0)
        self._held.setdefault(token.id, {})[request] = share

    def admit(self, token: TokenRecord, price: PerMillion | None) -> Failure | None:
        """Count a request that begins, or say why it may not.

        Args:
            token: what the client showed.
            price: what the model costs; a token with a limit in money needs to know.
        """
        limits = token.limits
        if limits.unlimited:
            return None
        if limits.usd is not None and price is None:
            return failure(
                "quota_window", "This token has a limit in US dollars and the model has no known price."
            )
        with self._counter(token.id) as counter:
            used = counter.used
            for name, limit, so_far in (
                ("requests", limits.requests, used.requests),
                ("tokens", limits.tokens, used.tokens),
                ("US dollars", limits.usd, used.usd),
            ):
                if limit is not None and so_far >= limit:
                    return failure("quota_window", f"This token's budget of {limit:g} {name} is used up.")
            counter.add(requests=1)
        return None

    def spend(
        self, token: TokenRecord, usage: Usage | None, price: PerMillion | None, *, request: str = ""
    ) -> None:
        """Count what a request has cost, and let others go on.

        Args:
            token: what the client showed.
            usage: what is known; None when it has cost nothing.
            price: what the model costs.
            request: its id.
        """
        if token.limits.unlimited:
            return
        if usage is not None and usage.total_tokens:
            with self._counter(token.id) as counter:
                counter.add(
                    tokens=usage.total_tokens, usd=cost_usd(usage, price) if price is not None else 0.0
                )
        held = self._held.get(token.id)
        if held is not None:
            held.pop(request, None)
            if not held:
                del self._held[token.id]
            for waiter in self._waiting.pop(token.id, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def used(self, token: TokenRecord) -> Used:
        """What a token has used."""
        with self._counter(token.id) as counter:
            return counter.used

    def _has_room(self, token: TokenRecord, held: dict[str, _Held] | None) -> bool:
        """Whether running requests leave something over, or it is decided already that there is nothing."""
        if not held:
            return True
        limits, used = token.limits, self.used(token)
        for limit, so_far, more in (
            (limits.tokens, used.tokens, sum(one.tokens for one in held.values())),
            (limits.usd, used.usd, sum(one.usd for one in held.values())),
        ):
            if limit is not None and so_far < limit <= so_far + more:
                return False
        return True

    async def _settled(self, token_id: str) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(token_id, []).append(waiter)
        await waiter

    def _counter(self, token_id: str) -> _Counter:
        return _Counter(self._folder, token_id, self._unwritten)


class _Counter:
    """One token's file, locked while it is open; a disk that refuses is made up for in memory."""

    def __init__(self, folder: Path, token_id: str, unwritten: dict[str, Used]) -> None:
        self._file = folder / f"{token_id}.json"
        self._id = token_id
        self._unwritten = unwritten
        self._fd: int | None = None
        self.used = Used()

    def __enter__(self) -> _Counter:
        try:
            self._fd = self._open()
            # Waits for another process for the few microseconds it needs to count.
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self.used = msgspec.json.decode(os.pread(self._fd, 4096, 0), type=Used)
        except (OSError, msgspec.MsgspecError):
            self.used = Used()  # new, torn by a crash, or out of reach
        if (waiting := self._unwritten.get(self._id)) is not None:
            _add(self.used, waiting)
        return self

    def add(self, *, requests: int = 0, tokens: int = 0, usd: float = 0.0) -> None:
        """Count."""
        more = Used(requests=requests, tokens=tokens, usd=usd)
        _add(self.used, more)
        data = msgspec.json.encode(self.used).ljust(256)
        try:
            if self._fd is not None and os.pwrite(self._fd, data, 0) == len(data):
                self._unwritten.pop(self._id, None)
                return
        except OSError:
            pass
        _add(self._unwritten.setdefault(self._id, Used()), more)

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self._file, flags, 0o600)
        except FileNotFoundError:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._file, flags, 0o600)


def _add(used: Used, more: Used) -> None:
    used.requests += more.requests
    used.tokens += more.tokens
    used.usd = round(used.usd + more.usd, 9)  # ten cents are ten times one cent, as in the ledger

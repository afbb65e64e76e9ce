"""What a token may use in all: requests, tokens, money.

What was used is kept in one small file a token, locked for the instant it is changed: every gateway process
counts in the same place, and a restart forgets nothing. Tokens without limits cost nothing here.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from dragoman.catalog.tariffs import PerMillion, cost_usd
from dragoman.config.tokens import TokenRecord
from dragoman.wire.errors import Failure, failure
from dragoman.wire.events import Usage


class Used(msgspec.Struct, kw_only=True):
    """What a token has used so far."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


class Budgets:
    """Counts what limited tokens use.

    Args:
        folder: where the counts are; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

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
        with _Counter(self._folder, token.id) as counter:
            used = counter.used
            for name, limit, so_far in (
                ("requests", limits.requests, used.requests),
                ("tokens", limits.tokens, used.tokens),
                ("US dollars", limits.usd, used.usd),
            ):
                if limit is not None and so_far >= limit:
                    return failure("quota_window", f"This token's budget of {limit:g} {name} is used up.")
            used.requests += 1
            counter.write()
        return None

    def spend(self, token: TokenRecord, usage: Usage, price: PerMillion | None) -> None:
        """Count what a request has cost."""
        if token.limits.unlimited:
            return
        with _Counter(self._folder, token.id) as counter:
            counter.used.tokens += usage.total_tokens
            counter.used.usd += cost_usd(usage, price) if price is not None else 0.0
            counter.write()

    def used(self, token: TokenRecord) -> Used:
        """What a token has used."""
        with _Counter(self._folder, token.id) as counter:
            return counter.used


class _Counter:
    """One token's file, locked while it is open."""

    def __init__(self, folder: Path, token_id: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(folder / f"{token_id}.json", flags, 0o600)
        self.used = Used()

    def __enter__(self) -> _Counter:
        # Waits for another process for the few microseconds it needs to count.
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            self.used = msgspec.json.decode(os.pread(self._fd, 4096, 0), type=Used)
        except msgspec.MsgspecError:
            self.used = Used()  # new, or torn by a crash
        return self

    def write(self) -> None:
        data = msgspec.json.encode(self.used)
        os.pwrite(self._fd, data.ljust(256), 0)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

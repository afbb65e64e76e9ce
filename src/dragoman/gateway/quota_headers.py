"""A provider's quota windows, as control has read them, shown to Codex by the headers it knows.

Codex 0.163 takes `x-codex-primary-*` and `x-codex-secondary-*` from any answer to `POST /responses` and shows
them as its rate limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from .incoming import Incoming

# Control reads windows every few minutes while they are used; older figures would mislead.
_STALE_AFTER_S = 3600.0
_LOOK_EVERY_S = 5.0
_PLACES = (b"primary", b"secondary")

Headers = tuple[tuple[bytes, bytes], ...]


class QuotaWindow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One limit of a provider's plan.

    Attributes:
        name: for people, such as `5h`.
        counts: what it limits.
        used_percent: how much of it is gone, 0 to 100.
        window_minutes: how long it is; None when the provider does not say.
        resets_at: Unix seconds when it begins anew; None when it does not say.
        used, limit: the same as numbers, where the provider gives them.
    """

    name: str
    counts: Literal["tokens", "tools", "other"] = "tokens"
    used_percent: float
    window_minutes: int | None = None
    resets_at: float | None = None
    used: int | None = None
    limit: int | None = None


class QuotaFile(msgspec.Struct, frozen=True, kw_only=True):
    """`state/quota/<provider>.json`: what a provider last said about its windows.

    Attributes:
        at: Unix seconds when it said so.
        plan: the plan's name, None when it is not said.
        windows: the shortest first.
    """

    at: float
    plan: str | None = None
    windows: tuple[QuotaWindow, ...] = ()


class QuotaHeaders:
    """Reads the files control writes; no file, no headers.

    Args:
        folder: `state/quota`; it need not exist.
        clock: monotonic seconds.
        wall: Unix seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._wall = wall
        self._known: dict[str, tuple[float, QuotaFile | None]] = {}

    def headers_for(self, incoming: Incoming, provider: str) -> Headers:
        """What to add to the answer of a request that goes to a provider."""
        if incoming.wire != "responses" or incoming.client != "codex":
            return ()
        now = self._clock()
        looked_at, found = self._known.get(provider, (float("-inf"), None))
        if now - looked_at >= _LOOK_EVERY_S:
            found = self._read(provider)
            self._known[provider] = (now, found)
        return () if found is None else _headers(found, self._wall())

    def _read(self, provider: str) -> QuotaFile | None:
        try:
            return msgspec.json.decode(quota_file(self._folder, provider).read_bytes(), type=QuotaFile)
        except (OSError, ValueError):  # not there, torn, or not for us
            return None


def quota_file(folder: Path, provider: str) -> Path:
    """Where a provider's windows are noted.

    Raises:
        ValueError: the provider's name can be no file name.
    """
    if "/" in provider or provider.startswith("."):
        raise ValueError(f"no file can be named after the provider {provider!r}")
    return folder / f"{provider}.json"


def _headers(quota: QuotaFile, now: float) -> Headers:
    if now - quota.at > _STALE_AFTER_S:
        return ()
    out: list[tuple[bytes, bytes]] = []
    open_windows = (
        window
        for window in quota.windows
        if window.counts == "tokens" and (window.resets_at is None or window.resets_at > now)
    )
    for place, window in zip(_PLACES, open_windows, strict=False):
        name = b"x-codex-" + place
        out.append((name + b"-used-percent", f"{window.used_percent:g}".encode()))
        if window.window_minutes is not None:
            out.append((name + b"-window-minutes", b"%d" % window.window_minutes))
        if window.resets_at is not None:
            out.append((name + b"-reset-at", b"%d" % window.resets_at))
    return tuple(out)

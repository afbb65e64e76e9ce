"""`/api/v1/quota`: what is left of providers' plans, as they say it themselves.

Asked seldom, kept for the gateways in `state/quota/`, and never in anybody's way: a provider that does not
answer is a reason, not an error.
"""

from __future__ import annotations

import asyncio
import math
import os
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec
from starlette.requests import Request
from starlette.routing import Route

from dragoman.config.files import ensure_private_folder, write_private_file
from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.config.secrets import find_keys
from dragoman.control.answers import JsonResponse
from dragoman.control.bodies import BadRequest
from dragoman.gateway.quota_headers import QuotaFile, QuotaWindow, quota_file
from dragoman.gateway.route_sources import Upstream
from dragoman.gateway.routes import RouteTable

_TIMEOUT_S = 8.0
_MAX_ANSWER_BYTES = 256 << 10
# The figures move slowly, and the address is the provider's own account page's.
_KEEP_S = 60.0
_KEEP_AT_LEAST_S = 5.0
_REFRESH_EVERY_S = 300.0

# How the account page counts time (its plugin and several clients agree on 3, 5 and 6).
_UNITS: dict[int, tuple[str, int | None]] = {
    1: ("d", 1440),
    3: ("h", 60),
    4: ("d", 1440),
    5: ("month", None),
    6: ("w", 10_080),
}


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one provider's plan.

    Attributes:
        provider: as configured.
        status: whether it has said anything.
        reason: why it has not, in one sentence.
        at: Unix seconds when it said so.
        plan: the plan's name, None when it is not said.
        windows: its limits, the shortest first.
    """

    provider: str
    status: Literal["ok", "unavailable"]
    reason: str | None = None
    at: float
    plan: str | None = None
    windows: tuple[QuotaWindow, ...] = ()


class QuotaDesk:
    """Asks providers for their windows, each at most once a minute.

    Args:
        home: where the answers are kept for the gateways.
        read_config: the configuration as it is now.
        env: where keys are looked up.
        transport: what carries the questions; the network when None.
        wall: Unix seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        home: Home,
        read_config: Callable[[], Config],
        *,
        env: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._read_config = read_config
        self._env = os.environ if env is None else env
        self._transport = transport
        self._wall = wall
        self._clock = clock
        self._known: dict[str, tuple[float, Quota]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def show(self, provider: str | None = None, *, fresh: bool = False) -> list[Quota]:
        """The windows of one provider, or of all.

        Args:
            provider: as configured.
            fresh: ask again unless that was done just now.

        Raises:
            ConfigError: the configuration cannot be read.
            BadRequest: there is no such provider.
        """
        upstreams = RouteTable(self._read_config()).upstreams
        if provider is not None and provider not in upstreams:
            raise BadRequest(f"there is no provider {provider[:100]!r}")
        chosen = [
            upstream
            for name, upstream in upstreams.items()
            if name == provider or (provider is None and not upstream.embedded)
        ]
        return list(await asyncio.gather(*(self._one(upstream, fresh) for upstream in chosen)))

    async def keep(self, used_lately: Callable[[], set[str]]) -> None:
        """Refresh the windows of providers in use until cancelled, so that gateways can show them.

        Args:
            used_lately: providers with requests in the last minutes; may block.
        """
        while True:
            await asyncio.sleep(_REFRESH_EVERY_S)
            try:
                for name in await asyncio.to_thread(used_lately):
                    await self.show(name)
            except Exception:  # noqa: BLE001, S112 - figures for show: the next time will do
                continue

    async def _one(self, upstream: Upstream, fresh: bool) -> Quota:
        lock = self._asking.setdefault(upstream.name, asyncio.Lock())
        async with lock:
            known = self._known.get(upstream.name)
            if known is not None:
                age = self._clock() - known[0]
                if age < (_KEEP_AT_LEAST_S if fresh else _KEEP_S):
                    return known[1]
            found = await self._ask(upstream)
            self._known[upstream.name] = (self._clock(), found)
            if found.status == "ok":
                await asyncio.to_thread(self._keep_for_gateways, found)
            return found

    async def _ask(self, upstream: Upstream) -> Quota:
        if upstream.profile_name != "zai":
            return self._unavailable(upstream, "this provider does not say what is left")
        keys = await asyncio.to_thread(
            lambda: find_keys(upstream.keys, self._env, self._home, missed=lambda _: None)
        )
        if not keys:
            return self._unavailable(upstream, "there is no key for it")
        secret = keys[0].secret
        url = _limits_url(next(iter(upstream.wires.values())))
        try:
            verify: Any = ssl.create_default_context(cafile=upstream.ca_file) if upstream.ca_file else True
            async with httpx.AsyncClient(
                transport=self._transport, timeout=_TIMEOUT_S, verify=verify, follow_redirects=False
            ) as client:
                said: Any = None
                # The account page shows the bare key; some of its hosts want the usual form.
                for shown in (f"Bearer {secret}", secret):
                    said = await _get_json(client, url, shown)
                    if _code(said) != 401:
                        break
            return self._read(upstream, said)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return self._unavailable(upstream, f"{urlsplit(url).hostname}: {_short(error)}")

    def _read(self, upstream: Upstream, said: Any) -> Quota:
        code = _code(said)
        if code == 401:
            return self._unavailable(upstream, "the provider does not know the key")
        try:
            answer = msgspec.convert(said, _Answer, strict=False)
        except msgspec.ValidationError:
            return self._unavailable(upstream, "the provider's answer has another shape than the known one")
        if answer.data is None or not answer.data.limits:
            return self._unavailable(upstream, f"the provider gave no limits (code {code})")
        windows = [window for limit in answer.data.limits if (window := _window(limit)) is not None]
        windows.sort(key=lambda w: (w.counts != "tokens", w.window_minutes or math.inf))
        return Quota(
            provider=upstream.name,
            status="ok",
            at=round(self._wall(), 3),
            plan=answer.data.level,
            windows=tuple(windows),
        )

    def _unavailable(self, upstream: Upstream, reason: str) -> Quota:
        at = round(self._wall(), 3)
        return Quota(provider=upstream.name, status="unavailable", reason=reason, at=at)

    def _keep_for_gateways(self, quota: Quota) -> None:
        folder = self._home.state / "quota"
        content = msgspec.json.encode(QuotaFile(at=quota.at, plan=quota.plan, windows=quota.windows))
        try:
            ensure_private_folder(folder)
            write_private_file(quota_file(folder, quota.provider), content)
        except (OSError, ValueError):
            return  # the figures are shown all the same


def quota_routes(desk: QuotaDesk) -> list[Route]:
    """The routes of quota; query: `provider`, and `fresh=1` to ask again."""

    async def show(request: Request) -> JsonResponse:
        """What providers say is left of their plans."""
        query = request.query_params
        found = await desk.show(query.get("provider"), fresh=query.get("fresh") in ("1", "true"))
        return JsonResponse({"providers": found})

    return [Route("/api/v1/quota", show)]


class _Limit(msgspec.Struct):
    type: str = ""
    unit: int | None = None
    number: int | None = None
    percentage: float | None = None
    usage: float | None = None
    currentValue: float | None = None
    remaining: float | None = None
    nextResetTime: float | str | None = None


class _Data(msgspec.Struct):
    limits: list[_Limit] = []
    level: str | None = None


class _Answer(msgspec.Struct):
    data: _Data | None = None


def _limits_url(base: str) -> str:
    parts = urlsplit(base)
    return urlunsplit((parts.scheme, parts.netloc, "/api/monitor/usage/quota/limit", "", ""))


async def _get_json(client: httpx.AsyncClient, url: str, authorization: str) -> Any:
    async with client.stream(
        "GET", url, headers={"authorization": authorization, "accept": "application/json"}
    ) as answer:
        body = b""
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > _MAX_ANSWER_BYTES:
                raise ValueError("its answer is too large")
        if answer.status_code == 401:
            return {"code": 401}
        if answer.status_code != 200:
            raise ValueError(f"it answered {answer.status_code}")
    return msgspec.json.decode(body)


def _code(said: Any) -> int | None:
    """Refusals come with status 200 and a code inside."""
    code = said.get("code") if isinstance(said, dict) else None
    return code if isinstance(code, int) else None


def _window(limit: _Limit) -> QuotaWindow | None:
    used, whole = _counts(limit)
    percent = limit.percentage
    if percent is None and used is not None and whole:
        percent = 100 * used / whole
    if percent is None or not math.isfinite(percent):
        return None
    unit, minutes = _UNITS.get(limit.unit or 0, ("", None))
    number = limit.number or 1
    length = f"{number}{unit}" if minutes is not None else unit
    match limit.type:
        case "TOKENS_LIMIT":
            counts, name = "tokens", length or "tokens"
        case "TIME_LIMIT":
            counts, name = "tools", f"tools, {length}" if length else "tools"
        case other:
            counts, name = "other", f"{other or 'limit'} {length}".strip()
    return QuotaWindow(
        name=name,
        counts=counts,
        used_percent=round(min(max(percent, 0.0), 100.0), 2),
        window_minutes=minutes * number if minutes is not None else None,
        resets_at=_reset(limit.nextResetTime),
        used=round(used) if used is not None else None,
        limit=round(whole) if whole is not None else None,
    )


def _counts(limit: _Limit) -> tuple[float | None, float | None]:
    """What is used of how much. `usage` has meant the limit and the use; the percentage decides."""
    if limit.usage is None:
        return None, None
    if limit.currentValue is not None:
        return limit.currentValue, limit.usage
    if limit.remaining is None or limit.percentage is None:
        return None, None
    share = limit.percentage / 100
    whole = limit.usage + limit.remaining
    if whole > 0 and abs(limit.usage / whole - share) <= 0.01:
        return limit.usage, whole
    if limit.usage > 0 and abs((limit.usage - limit.remaining) / limit.usage - share) <= 0.01:
        return limit.usage - limit.remaining, limit.usage
    return None, None


def _reset(value: float | str | None) -> float | None:
    """Milliseconds since the epoch, or a date."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return None if value is None or not math.isfinite(value) else round(value / 1000, 3)


def _short(error: Exception) -> str:
    """What went wrong, never what was sent."""
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {_TIMEOUT_S:g} s"
    if isinstance(error, httpx.HTTPError):
        return type(error).__name__
    return str(error)[:100]

"""Tariffs: what tokens cost at a minute of the day, as plain numbers, and where the numbers come from.

The price list is the package genai-prices: a hundred megabytes once loaded, so only `look_up` loads it, in a
short process of its own. Everybody else reads the plain numbers that were written down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_MILLION = 1_000_000
_DAY_S = 86_400


class PerMillion(Protocol):
    """What a million tokens cost, in US dollars; cached input costs `input` unless given."""

    @property
    def input(self) -> float: ...
    @property
    def output(self) -> float: ...
    @property
    def cache_read(self) -> float | None: ...
    @property
    def cache_write(self) -> float | None: ...


class Counted(Protocol):
    """Tokens: `input_tokens` has cache reads and writes in it, `output_tokens` has reasoning in it."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...


class Rates(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a million tokens cost, in US dollars; cached input costs `input` unless given."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None


class Tier(msgspec.Struct, frozen=True):
    """Other rates, for all its tokens, once a prompt has more than `above` tokens."""

    above: int
    rates: Rates


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rates that hold for a while.

    Attributes:
        rates: what tokens cost.
        tiers: what they cost in long prompts, shortest first.
        since: Unix seconds from which they hold; None is always.
        from_s, until_s: seconds of the UTC day between which they hold; None is all day. The end is not in
            it, and a window may go past midnight.
    """

    rates: Rates
    tiers: tuple[Tier, ...] = ()
    since: float | None = None
    from_s: int | None = None
    until_s: int | None = None

    def holds(self, at: float) -> bool:
        """Whether these rates hold at a time, in Unix seconds."""
        if self.since is not None and at < self.since:
            return False
        if self.from_s is None or self.until_s is None:
            return True
        now = at % _DAY_S
        if self.until_s < self.from_s:
            return now >= self.from_s or now < self.until_s
        return self.from_s <= now < self.until_s


class Tariff(msgspec.Struct, frozen=True):
    """All rates of one model: the last window that holds counts, the first one when none does."""

    windows: tuple[Window, ...]

    def rates(self, at: float, input_tokens: int = 0) -> Rates:
        """The rates of a request.

        Args:
            at: Unix seconds when it arrived.
            input_tokens: the size of its prompt.
        """
        window = next((w for w in reversed(self.windows) if w.holds(at)), self.windows[0])
        for tier in reversed(window.tiers):
            if input_tokens > tier.above:
                return tier.rates
        return window.rates


def cost_usd(tokens: Counted, price: PerMillion) -> float:
    """What tokens cost, in US dollars."""
    cached = tokens.cache_read_tokens + tokens.cache_write_tokens
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    return (
        max(tokens.input_tokens - cached, 0) * price.input
        + tokens.cache_read_tokens * read
        + tokens.cache_write_tokens * write
        + tokens.output_tokens * price.output
    ) / _MILLION


def price_list_name() -> str:
    """The price list and its version, such as `genai-prices 0.2.3`; loads nothing heavy."""
    from importlib.metadata import version

    return f"genai-prices {version('genai-prices')}"


def look_up(addresses: Iterable[str], models: Iterable[str]) -> dict[str, Tariff | None]:
    """The tariffs of a provider. Loads the price list: a second of work, a hundred megabytes.

    Args:
        addresses: the provider's base addresses; they say which provider of the list it is.
        models: names that are asked for. All other names the list has for the provider are given as well.

    Returns:
        A tariff by name; None for a name that was asked for and has none. Nothing but that when the list
        does not know the provider.
    """
    from genai_prices.data import providers

    wanted = list(dict.fromkeys(models))
    provider = _provider_at(list(addresses), providers)
    found: dict[str, Tariff | None] = dict.fromkeys(wanted)
    if provider is None:
        return found
    for info in provider.models:
        if (tariff := _tariff(info)) is not None:
            found[info.id] = tariff
    for name in wanted:
        info = provider.find_model(name, all_providers=providers)
        found[name] = _tariff(info) if info is not None else None
    return found


def _provider_at(addresses: list[str], providers: list[Provider]) -> Provider | None:
    for provider in providers:
        for address in addresses:
            if re.match(provider.api_pattern, address):
                return provider
    return None


def _tariff(info: ModelInfo) -> Tariff | None:
    if not isinstance(info.prices, list):
        window = _window(info.prices, None)
        return Tariff((window,)) if window is not None else None
    windows = [_window(each.prices, each.constraint) for each in info.prices]
    whole = tuple(window for window in windows if window is not None)
    return Tariff(whole) if whole and len(whole) == len(windows) else None


def _window(price: ModelPrice, constraint: Any) -> Window | None:
    """One entry of the list; None where it prices something else than tokens, or by rules we cannot say."""
    from datetime import UTC, datetime

    from genai_prices.types import StartDateConstraint, TimeOfDateConstraint

    values = {
        name: getattr(price, f"{name}_mtok", None)
        for name in ("input", "output", "cache_read", "cache_write")
    }
    if values["input"] is None or values["output"] is None:
        return None
    starts = sorted({tier.start for value in values.values() for tier in getattr(value, "tiers", ())})
    tiers = tuple(Tier(start, _rates(values, start + 1)) for start in starts)
    since = from_s = until_s = None
    match constraint:
        case None:
            pass
        case StartDateConstraint(start_date=day):
            since = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        case TimeOfDateConstraint(start_time=start, end_time=end):
            from_s, until_s = _second_of_day(start), _second_of_day(end)
        case _:
            return None
    return Window(_rates(values, 0), tiers, since, from_s, until_s)


def _rates(values: dict[str, Any], input_tokens: int) -> Rates:
    return Rates(**{name: _one(value, input_tokens) for name, value in values.items()})  # pyright: ignore[reportArgumentType]


def _one(value: Any, input_tokens: int) -> float | None:
    if value is None:
        return None
    for tier in reversed(getattr(value, "tiers", ())):
        if input_tokens > tier.start:
            return float(tier.price)
    return float(getattr(value, "base", value))


def _second_of_day(time: Any) -> int:
    offset = time.utcoffset()
    shift = int(offset.total_seconds()) if offset is not None else 0
    return (time.hour * 3600 + time.minute * 60 + time.second - shift) % _DAY_S

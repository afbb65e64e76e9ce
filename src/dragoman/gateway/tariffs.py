"""What a request costs: the tariffs control has written down, multiplied here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from dragoman.catalog.tariffs import PerMillion, Rates, Tariff
from dragoman.config.schema import Price

# A change of tariffs is announced days ahead; looking for one costs a request nothing.
_LOOK_EVERY_S = 5.0

PriceSource = Literal["", "config", "tariff", "plan", "embedded"]
"""Why a request has this price: said in the configuration, in a list of tariffs, free because embedded.
`plan` has no price of its own, a subscription pays for it; "" is not known."""

_FREE = Rates(0.0, 0.0)


class Priced(Protocol):
    """What of a route decides its price."""

    @property
    def provider(self) -> str: ...
    @property
    def upstream_model(self) -> str: ...
    @property
    def price(self) -> Price | None: ...
    @property
    def embedded(self) -> bool: ...


class TariffFile(msgspec.Struct, frozen=True, kw_only=True):
    """`state/tariffs.json`.

    Attributes:
        key: of what it was made from; another one means it has to be made again.
        source: the price list and its version.
        plans: providers whose tokens a subscription pays for.
        prices: by provider and upstream model; None for a model that was looked for in vain.
    """

    key: str = ""
    source: str = ""
    plans: tuple[str, ...] = ()
    prices: dict[str, dict[str, Tariff | None]] = {}


class Tariffs:
    """Prices by the file control has written; no file, no prices.

    Args:
        file: `state/tariffs.json`; it need not exist.
        clock: monotonic seconds.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._looked_at = float("-inf")
        self._mark: tuple[int, int] | None = None
        self.table = TariffFile()

    def price_of(
        self, route: Priced, at: float, input_tokens: int = 0
    ) -> tuple[PerMillion | None, PriceSource]:
        """What a million tokens of a request cost, and why.

        Args:
            route: where it went.
            at: Unix seconds when it arrived.
            input_tokens: the size of its prompt.
        """
        if route.price is not None:
            return route.price, "config"
        if route.embedded:
            return _FREE, "embedded"
        self._look()
        if route.provider in self.table.plans:
            return None, "plan"
        tariff = self.table.prices.get(route.provider, {}).get(route.upstream_model)
        return (None, "") if tariff is None else (tariff.rates(at, input_tokens), "tariff")

    def look_again(self) -> None:
        """Read the file at the next question, however lately that was done."""
        self._looked_at = float("-inf")

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        try:
            found = self._file.stat()
            mark = (found.st_mtime_ns, found.st_ino)
            if mark != self._mark:
                self._mark = mark
                self.table = msgspec.json.decode(self._file.read_bytes(), type=TariffFile)
        except FileNotFoundError:
            self._mark, self.table = None, TariffFile()
        except (OSError, msgspec.MsgspecError):
            return  # what was known goes on

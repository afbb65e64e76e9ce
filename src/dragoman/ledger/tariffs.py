"""Writing the tariffs down, and giving rows the price they lacked.

`python -m dragoman.ledger.tariffs` reads what is wanted, looks it up, writes it and is gone: the price list
takes a hundred megabytes, which a process of its own gives back.
"""

from __future__ import annotations

import hashlib
import importlib.metadata  # noqa: F401 - `price_list_name` wants it, and control imports nothing later
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from sqlalchemy import ColumnElement, and_, select, update

from dragoman.catalog.presets import shipped_presets
from dragoman.catalog.tariffs import cost_usd, look_up, price_list_name
from dragoman.config.files import write_private_file
from dragoman.config.paths import Home
from dragoman.gateway.routes import RouteTable
from dragoman.gateway.spool import UsageRow
from dragoman.gateway.tariffs import TariffFile, Tariffs
from dragoman.ledger.tables import ROWS
from dragoman.store.database import Database

_FORM = 1
_LOOK_UP_TIMEOUT_S = 60.0
_ROWS_AT_ONCE = 2000
_MAX_PAIRS = 2000

Pair = tuple[str, str]
"""A provider and an upstream model."""


class Wanted(msgspec.Struct, frozen=True):
    """One provider whose prices are wanted.

    Attributes:
        addresses: its base addresses.
        models: upstream models that may be asked for.
    """

    addresses: tuple[str, ...]
    models: tuple[str, ...]


class Order(msgspec.Struct, frozen=True):
    """What the process that looks prices up is told.

    Attributes:
        file: where the tariffs go.
        key: of everything below and the price list.
        plans: providers whose tokens a subscription pays for.
        providers: the others, by name.
    """

    file: str
    key: str
    plans: tuple[str, ...]
    providers: dict[str, Wanted]


def tariffs_file(home: Home) -> Path:
    """Where gateways look for tariffs."""
    return home.state / "tariffs.json"


def plan_tariffs(home: Home, routes: RouteTable, *, seen: Iterable[Pair] = ()) -> Order:
    """What has to be looked up for a configuration; changes nothing.

    Args:
        home: whose tariffs.
        routes: providers and models.
        seen: pairs that were used beyond the listed models.
    """
    names: dict[str, dict[str, None]] = {name: {} for name in routes.upstreams}
    for listed in routes.models:
        route = routes.resolve(listed.name, "chat")
        names.setdefault(route.provider, {})[route.upstream_model] = None
    for provider, model in sorted(seen):
        if provider in names:
            names[provider][model] = None
    presets = shipped_presets()
    plans = tuple(
        name
        for name, upstream in routes.upstreams.items()
        if upstream.preset_name is not None and presets[upstream.preset_name].plan
    )
    wanted = {
        name: Wanted(tuple(upstream.wires.values()), tuple(names[name]))
        for name, upstream in routes.upstreams.items()
        if name not in plans and not upstream.embedded
    }
    said = msgspec.json.encode((_FORM, price_list_name(), plans, wanted), order="deterministic")
    return Order(str(tariffs_file(home)), hashlib.sha256(said).hexdigest()[:32], plans, wanted)


def is_written(order: Order) -> bool:
    """Whether the file has just this already."""
    return _read(Path(order.file)).key == order.key


def run_order(order: Order, *, python: str = sys.executable) -> str | None:
    """Look prices up in a process of its own and write the file; what went wrong, or None.

    Args:
        order: from `plan_tariffs`.
        python: the interpreter.
    """
    try:
        done = subprocess.run(
            (python, "-P", "-m", "dragoman.ledger.tariffs"),
            input=msgspec.json.encode(order),
            capture_output=True,
            timeout=_LOOK_UP_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    if done.returncode == 0:
        return None
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return last[0][:200] if last else f"ended with {done.returncode}"


def carry_out(order: Order) -> None:
    """Look prices up here and write the file."""
    prices = {name: look_up(wanted.addresses, wanted.models) for name, wanted in order.providers.items()}
    table = TariffFile(key=order.key, source=price_list_name(), plans=order.plans, prices=prices)
    write_private_file(Path(order.file), msgspec.json.encode(table))


def ensure_tariffs(home: Home, routes: RouteTable) -> str | None:
    """Write the tariffs of a configuration unless they are there; what went wrong, or None.

    Control does this by itself while it lives. It is for whoever needs prices before control first runs, such
    as a token with a limit in money. Takes a second or two when there is something to look up.

    Args:
        home: whose tariffs.
        routes: providers and models.
    """
    order = plan_tariffs(home, routes)
    # Models that were seen in use are in a file control has written, and not in this order.
    known = _read(Path(order.file))
    listed = all(
        set(wanted.models) <= known.prices.get(n, {}).keys() for n, wanted in order.providers.items()
    )
    return None if is_written(order) or (listed and known.plans == order.plans) else run_order(order)


def price_by(tariffs: Tariffs) -> Callable[[UsageRow], tuple[float | None, str]]:
    """Prices a row its gateway could not price, by the same tariffs of the same minute."""

    def price(row: UsageRow) -> tuple[float | None, str]:
        found, why = tariffs.price_of(_Place(row.provider, row.upstream_model), row.at, row.input_tokens)
        return (None if found is None else round(cost_usd(row, found), 9)), why

    return price


def unpriced_pairs(database: Database) -> set[Pair]:
    """Providers and models with rows whose price is not known."""
    c = ROWS.c
    with database.read() as connection:
        found = connection.execute(select(c.provider, c.upstream_model).where(_unpriced()).distinct())
        return {(provider, model) for provider, model in found if provider and model}


def seen_pairs(database: Database) -> set[Pair]:
    """Providers and models that were used."""
    c = ROWS.c
    with database.read() as connection:
        found = connection.execute(select(c.provider, c.upstream_model).distinct().limit(_MAX_PAIRS))
        return {(provider, model) for provider, model in found if provider and model}


def price_again(database: Database, tariffs: Tariffs, pairs: Iterable[Pair]) -> int:
    """Give rows of these pairs the price that is known by now; how many got one.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    c, priced = ROWS.c, 0
    for provider, model in pairs:
        place = _Place(provider, model)
        if tariffs.price_of(place, 0.0) == (None, ""):
            continue
        these = and_(_unpriced(), c.provider == provider, c.upstream_model == model)
        while True:
            with database.write() as connection:
                rows = connection.execute(select(ROWS).where(these).limit(_ROWS_AT_ONCE)).all()
                for row in rows:
                    rates, why = tariffs.price_of(place, row.at, row.input_tokens)
                    cost = None if rates is None else round(cost_usd(row, rates), 9)  # pyright: ignore[reportArgumentType]
                    connection.execute(
                        update(ROWS).where(c.id == row.id).values(cost_usd=cost, price_source=why)
                    )
            priced += len(rows)
            if len(rows) < _ROWS_AT_ONCE:
                break
    return priced


def _unpriced() -> ColumnElement[bool]:
    c = ROWS.c
    return and_(c.usage_source != "none", c.cost_usd.is_(None), c.price_source == "")


class _Place(msgspec.Struct, frozen=True):
    provider: str
    upstream_model: str
    price: None = None
    embedded: bool = False


def _read(file: Path) -> TariffFile:
    try:
        return msgspec.json.decode(file.read_bytes(), type=TariffFile)
    except (OSError, msgspec.MsgspecError):
        return TariffFile()


def main() -> None:
    """Entry of the process: an `Order` on stdin."""
    carry_out(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))


if __name__ == "__main__":
    main()

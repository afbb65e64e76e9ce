"""Keeping the ledger: the spool taken in while we live, and the tariffs written for the gateways."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.errors import DragomanError
from dragoman.gateway.routes import RouteTable
from dragoman.gateway.spool import UsageRow
from dragoman.gateway.tariffs import Tariffs
from dragoman.ledger.intake import Intake, Taken
from dragoman.ledger.summary import Asked, By, UsageSummary, providers_since, summarize
from dragoman.ledger.tariffs import (
    Pair,
    is_written,
    plan_tariffs,
    price_again,
    price_by,
    run_order,
    seen_pairs,
    tariffs_file,
    unpriced_pairs,
)
from dragoman.store.database import Database

# Rows are on disk a quarter of a second after their request; a look at a quiet spool costs a tenth of a
# millisecond.
_LOOK_EVERY_S = 1.0
_LOOK_UP_AGAIN_S = 60.0
_IN_USE_S = 900.0

_log = logging.getLogger("dragoman.control")


class Books:
    """One home's ledger; its methods block and may be called from any thread, but for `keep`.

    Args:
        home: whose spool and tariffs.
        database: where the ledger is.
        read_config: the configuration as it is now; without one no tariffs are written.
        job_of: the jobs of runs, where there are jobs.
        on_rows: told how many rows came in, in the thread that took them.
        clock: monotonic seconds.
        wall: Unix seconds.
    """

    def __init__(
        self,
        home: Home,
        database: Database,
        *,
        read_config: Callable[[], Config] | None = None,
        job_of: Callable[[], Mapping[str, str]] = dict,
        on_rows: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        self.database = database
        self._home = home
        self._read_config = read_config
        self._job_of = job_of
        self._on_rows = on_rows
        self._clock = clock
        self._tariffs = Tariffs(tariffs_file(home), clock=clock)
        self._price = price_by(self._tariffs)
        self._intake = Intake(database, home.spool, price=self._price_noting_unknown)
        self._unknown: set[Pair] = set()
        self._config_mark: object = None
        self._looked_up_at = float("-inf")
        self._upkeep_lock = threading.Lock()
        self._told = ""

    def take_in(self) -> Taken:
        """Take in every row that is on disk now.

        Raises:
            StoreUnavailable: the database does not answer; the rows wait in the spool.
        """
        taken = self._intake.take_in()
        if taken.rows:
            self._on_rows(taken.rows)
        return taken

    def usage(self, asked: Asked, *, by: By = "model") -> UsageSummary:
        """What the ledger says, everything on disk taken in before.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        self.take_in()
        return summarize(self.database, asked, by=by, job_of=self._job_of() if by == "job" else None)

    def usage_of_runs(self, runs: Sequence[str]) -> UsageSummary:
        """What some runs cost: for results, which are composed only once their rows are in.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        return self.usage(Asked(runs=tuple(runs)))

    def providers_in_use(self) -> set[str]:
        """Providers with requests in the last quarter of an hour.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        return providers_since(self.database, self._wall() - _IN_USE_S)

    async def keep(self) -> None:
        """Look after the ledger until cancelled; a database that does not answer is asked again."""
        while True:
            try:
                await asyncio.to_thread(self._look)
                self._tell("")
            except DragomanError as error:
                self._tell(error.code)
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the looking
                self._tell(type(error).__name__)
            await asyncio.sleep(_LOOK_EVERY_S)

    def upkeep(self) -> None:
        """Write the tariffs anew when the configuration or the models in use ask for it.

        Raises:
            StoreUnavailable: the database does not answer.
            ConfigError: the configuration cannot be read.
        """
        if self._read_config is None:
            return
        with self._upkeep_lock:
            mark = _mark_of(self._home)
            known = self._tariffs.table.prices
            news = {pair for pair in self._unknown if pair[1] not in known.get(pair[0], {})}
            if mark == self._config_mark and not news:
                return
            if news and self._clock() - self._looked_up_at < _LOOK_UP_AGAIN_S:
                return
            self._intake.prepare()
            order = plan_tariffs(
                self._home, RouteTable(self._read_config()), seen=seen_pairs(self.database) | news
            )
            if not is_written(order):
                self._looked_up_at = self._clock()
                if (wrong := run_order(order)) is not None:
                    _log.warning("tariffs_not_written", extra={"fields": {"reason": wrong}})
                    return
            self._config_mark = mark
            self._unknown.clear()
            self._tariffs.look_again()
            price_again(self.database, self._tariffs, unpriced_pairs(self.database))

    def _look(self) -> None:
        self.take_in()
        self.upkeep()

    def _price_noting_unknown(self, row: UsageRow) -> tuple[float | None, str]:
        cost, why = self._price(row)
        if cost is None and not why and row.provider and row.upstream_model:
            self._unknown.add((row.provider, row.upstream_model))
        return cost, why

    def _tell(self, wrong: str) -> None:
        """Log a change, not every look."""
        if wrong != self._told:
            self._told = wrong
            if wrong:
                _log.warning("ledger_waits", extra={"fields": {"reason": wrong}})
            else:
                _log.info("ledger_goes_on")


def _mark_of(home: Home) -> Any:
    try:
        found = home.config_file.stat()
    except OSError:
        return "none"
    return (found.st_mtime_ns, found.st_ino, found.st_size)

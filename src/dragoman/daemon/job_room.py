"""The jobs of the control process: service, engine and janitor, joined with configuration and ledger."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.engine import URL

from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.control.bookkeeping import Books
from dragoman.control.feed import Feed
from dragoman.daemon.where import read_daemon_json
from dragoman.errors import DragomanError
from dragoman.gateway.routes import RouteTable
from dragoman.jobs.engine import DbosEngine, executor_of
from dragoman.jobs.janitor import put_in_order
from dragoman.jobs.launching import Launcher, Place
from dragoman.jobs.service import JobService
from dragoman.jobs.view import JobView
from dragoman.store.database import Database

# Whoever delegated lately will again: then the engine is loaded before the first job comes.
_LATELY_S = 7 * 86_400.0
_TRY_AGAIN_S = 5.0

_log = logging.getLogger("dragoman.control")


class Upgraded(DragomanError):
    """The package on disk is not the one that runs."""

    code = "upgraded"
    http_status = 503


class NotServing(DragomanError):
    """There is no gateway for a worker to ask."""

    code = "not_serving"
    http_status = 503


@dataclass
class JobRoom:
    """What the control process has of jobs.

    Attributes:
        service: what can be done with them.
        engine: what sees them through.
    """

    service: JobService
    engine: DbosEngine

    async def keep(self) -> None:
        """Put things in order once the database answers, and load the engine where it will be needed."""
        while True:
            try:
                await asyncio.to_thread(self._begin)
            except DragomanError as error:
                _log.warning("jobs wait: %s", error.message)
                await asyncio.sleep(_TRY_AGAIN_S)
            else:
                return

    def _begin(self) -> None:
        self.service.open()
        put_in_order(self.service)
        newest = self.service.find(limit=1)
        if newest and self.service.wall() - newest[0].created_at < _LATELY_S:
            self.engine.warm()


def open_jobs(
    home: Home,
    database: Database,
    address: URL,
    books: Callable[[], Books],
    feed: Feed,
    read_config: Callable[[], Config],
) -> JobRoom:
    """Join the jobs of a home; touches no database yet.

    Args:
        home: whose jobs.
        database: where their table is.
        address: of that database; the engine's own tables go there when it is PostgreSQL.
        books: the ledger, once there is one.
        feed: told of every change.
        read_config: the configuration as it is at that time.
    """
    installed = _installed()

    def same_version() -> None:
        if _installed() != installed:
            raise Upgraded("dragoman was upgraded while it ran", hint="dragoman restart")

    def place() -> Place:
        note = read_daemon_json(home)
        if note is None:
            raise NotServing("the gateway is not running", hint="dragoman serve")
        config = read_config()
        return Place(config, RouteTable(config), note.url)

    executor = executor_of(home)
    service = JobService(
        home,
        database,
        executor,
        Launcher(home, place, env=os.environ),
        max_writes=lambda: read_config().delegation.max_writes_per_repo,
        usage_of=lambda run_id: _usage(books(), run_id),
    )
    engine = DbosEngine(
        home,
        executor,
        service.carry,
        service.glance,
        postgres=address if database.kind == "postgresql" else None,
        check=same_version,
    )
    service.engine = engine
    service.on_change.append(lambda job: _publish(feed, job))
    return JobRoom(service, engine)


def _publish(feed: Feed, job: JobView) -> None:
    feed.publish("job", job)
    if job.phase is not None:
        told = {"run_id": job.run_id, "job_id": job.job_id, "status": job.status, "phase": job.phase}
        feed.publish("run", told)


def _usage(books: Books, run_id: str) -> dict[str, Any] | None:
    """The ledger's word on one run; None when it does not answer, and the run's own count stands."""
    with contextlib.suppress(DragomanError):
        found = books.usage_of_runs((run_id,))
        by_model = {one.model: msgspec.to_builtins(one) for one in found.by_model}
        return {"source": "ledger", "total": msgspec.to_builtins(found.total), "by_model": by_model}
    return None


def _installed() -> tuple[str | None, str | None]:
    """Versions on disk of what is imported late."""

    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    return version("dragoman"), version("dbos")

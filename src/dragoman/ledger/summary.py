"""Adding usage up: what a run, a session, a client or a day cost, by model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, String, and_, case, func, literal, or_, select
from sqlalchemy.sql import Select

from dragoman.ledger.tables import COUNTS, DAYS, LOST, ROWS, TOKENS
from dragoman.store.database import Database

By = Literal["model", "client", "key", "session", "run", "job", "day", "provider"]


class Usage(msgspec.Struct, kw_only=True):
    """What something was used for, or used.

    Attributes:
        name: what it is: a model, a day, a session, as asked.
        model: the name the clients asked for; `*` is several.
        provider: where it went; `*` is several.
        upstream_wires: the wires its providers were spoken to in.
        requests: every request, failed ones too.
        failed: those that did not end well, `cancelled` among them.
        cancelled: those whose client hung up first.
        input_tokens: everything the prompts cost, cache reads and writes included.
        cache_read_tokens, cache_write_tokens: parts of `input_tokens`.
        output_tokens: everything generated, reasoning included.
        reasoning_tokens: part of `output_tokens`.
        cost_usd: what priced requests cost, in US dollars; None when none of them has a price.
        priced: requests that have a price.
        unpriced: requests with tokens whose price is not known: what they cost is not in `cost_usd`.
        plan: requests with tokens that a subscription pays for: they have no price of their own.
        total_ms: time the requests took, added up.
        gateway_ms: the part of it that was the gateway's own work.
        unreported: requests whose tokens the provider did not report.
        estimated: the part of `unreported` whose tokens we estimated; of the rest nothing is known.
        first_at, last_at: Unix seconds of the first and the last request; None for days that were folded.
    """

    name: str = "*"
    model: str = "*"
    provider: str = "*"
    upstream_wires: tuple[str, ...] = ()
    requests: int = 0
    failed: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    priced: int = 0
    unpriced: int = 0
    plan: int = 0
    total_ms: float = 0.0
    gateway_ms: float = 0.0
    unreported: int = 0
    estimated: int = 0
    first_at: float | None = None
    last_at: float | None = None

    def add(self, sums: RowMapping) -> None:
        """Add a row of sums."""
        for name in (*COUNTS, *TOKENS):
            setattr(self, name, getattr(self, name) + int(sums[name] or 0))
        if self.priced:
            self.cost_usd = round((self.cost_usd or 0.0) + (sums["cost_usd"] or 0.0), 9)
        self.total_ms = round(self.total_ms + (sums["total_ms"] or 0.0), 3)
        self.gateway_ms = round(self.gateway_ms + (sums["gateway_ms"] or 0.0), 3)
        wire = sums["upstream_wire"]
        if wire and wire not in self.upstream_wires:
            self.upstream_wires = tuple(sorted((*self.upstream_wires, wire)))
        if sums["first_at"] is not None:
            self.first_at = min(self.first_at or sums["first_at"], sums["first_at"])
            self.last_at = max(self.last_at or sums["last_at"], sums["last_at"])


class UsageSummary(msgspec.Struct, kw_only=True):
    """Usage by model, all of it together, and as it was asked for.

    Attributes:
        by_model: by model and provider.
        total: all of it.
        by: what `groups` are.
        groups: usage by that; days in order, else the most tokens first.
        lost_requests: requests of the time asked for that are missing, because a gateway's disk was full.
    """

    by_model: list[Usage]
    total: Usage
    by: By = "model"
    groups: list[Usage] = []
    lost_requests: int = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests count; None is all.

    Attributes:
        since, until: Unix seconds of their arrival, the second one not included.
        runs, session, token: exactly.
        client: the program's name, with or without its version.
        model, provider, key: exactly; a key is its label.
    """

    since: float | None = None
    until: float | None = None
    runs: tuple[str, ...] | None = None
    session: str | None = None
    token: str | None = None
    client: str | None = None
    model: str | None = None
    provider: str | None = None
    key: str | None = None

    @property
    def only_single_rows(self) -> bool:
        """Whether folded days cannot answer it: they know no run, session or token."""
        return any(value is not None for value in (self.runs, self.session, self.token))


def summarize(
    database: Database,
    asked: Asked | None = None,
    *,
    by: By = "model",
    job_of: Mapping[str, str] | None = None,
) -> UsageSummary:
    """Add up what is in the tables; take the spool in before.

    Args:
        database: with the ledger's tables in it.
        asked: which requests count.
        by: how to group them.
        job_of: the job of each run, for `by="job"`; a run that is not in it stands for itself.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    asked = asked or Asked()
    total = Usage()
    models: dict[tuple[str, str], Usage] = {}
    groups: dict[tuple[str, str], Usage] = {}
    with database.read() as connection:
        for sums in _sums(connection, asked, by):
            total.add(sums)
            place = (sums["model"], sums["provider"])
            models.setdefault(place, Usage(name=place[0], model=place[0], provider=place[1])).add(sums)
            if by != "model":
                name, provider = _name(by, sums, job_of or {})
                groups.setdefault((name, provider), Usage(name=name, provider=provider)).add(sums)
        lost = _lost(connection, asked)
    by_model = [models[place] for place in sorted(models)]
    return UsageSummary(
        by_model=by_model,
        total=total,
        by=by,
        groups=_in_order(by, groups.values() if by != "model" else by_model),
        lost_requests=lost,
    )


def _in_order(by: By, groups: Iterable[Usage]) -> list[Usage]:
    if by == "day":
        return sorted(groups, key=lambda usage: usage.name)
    return sorted(groups, key=lambda usage: (-usage.input_tokens - usage.output_tokens, usage.name))


def _name(by: By, sums: RowMapping, job_of: Mapping[str, str]) -> tuple[str, str]:
    match by:
        case "client":
            return str(sums["by"]).partition("/")[0], "*"
        case "job":
            return job_of.get(sums["by"], sums["by"]), "*"
        case "key":
            return sums["by"], sums["provider"]
        case _:
            return sums["by"], "*"


def _sums(connection: Connection, asked: Asked, by: By) -> Iterable[RowMapping]:
    yield from connection.execute(_of_rows(asked, by)).mappings()
    if not asked.only_single_rows:
        yield from connection.execute(_of_days(asked, by)).mappings()


_BY_COLUMN = {"job": "run"}


def _of_rows(asked: Asked, by: By) -> Select[Any]:
    c = ROWS.c
    name = c[_BY_COLUMN.get(by, by)]
    return (
        select(
            name.label("by"),
            c.model,
            c.provider,
            c.upstream_wire,
            *row_sums(),
            func.min(c.at).label("first_at"),
            func.max(c.at).label("last_at"),
        )
        .where(*_row_filter(asked))
        .group_by(name, c.model, c.provider, c.upstream_wire)
    )


def row_sums() -> list[ColumnElement[Any]]:
    """Rows added up, under the names the folded days have."""
    c = ROWS.c

    def count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
        return func.sum(case((condition, 1), else_=0))

    without_price = and_(c.usage_source != "none", c.cost_usd.is_(None))
    counts = {
        "requests": func.count(),
        "failed": count(c.outcome != "ok"),
        "cancelled": count(c.outcome == "client_left"),
        "unreported": count(c.usage_source != "reported"),
        "estimated": count(c.usage_source == "estimated"),
        "priced": func.count(c.cost_usd),
        "unpriced": count(and_(without_price, c.price_source != "plan")),
        "plan": count(and_(without_price, c.price_source == "plan")),
    }
    sums = {name: func.sum(c[name]) for name in TOKENS}
    sums |= {name: func.coalesce(func.sum(c[name]), 0.0) for name in ("cost_usd", "total_ms", "gateway_ms")}
    return [each.label(name) for name, each in (counts | sums).items()]


def _of_days(asked: Asked, by: By) -> Select[Any]:
    c = DAYS.c
    name = c[by] if by in c else literal("", String)
    return select(
        name.label("by"),
        c.model,
        c.provider,
        c.upstream_wire,
        *(c[each] for each in (*COUNTS, *TOKENS, "cost_usd", "total_ms", "gateway_ms")),
        literal(None).label("first_at"),
        literal(None).label("last_at"),
    ).where(*_day_filter(asked))


def _row_filter(asked: Asked) -> list[ColumnElement[bool]]:
    c = ROWS.c
    found = _common_filter(c, asked)
    if asked.since is not None:
        found.append(c.at >= asked.since)
    if asked.until is not None:
        found.append(c.at < asked.until)
    if asked.runs is not None:
        found.append(c.run.in_(asked.runs))
    if asked.session is not None:
        found.append(c.session == asked.session)
    if asked.token is not None:
        found.append(c.token == asked.token)
    return found


def _day_filter(asked: Asked) -> list[ColumnElement[bool]]:
    found = _common_filter(DAYS.c, asked)
    if asked.since is not None:
        found.append(DAYS.c.day >= day_of(asked.since))
    if asked.until is not None:
        found.append(DAYS.c.day < day_of(asked.until))
    return found


def _common_filter(c: Any, asked: Asked) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        c[name] == value
        for name in ("model", "provider", "key")
        if (value := getattr(asked, name)) is not None
    ]
    if asked.client is not None:
        found.append(or_(c.client == asked.client, c.client.startswith(asked.client + "/", autoescape=True)))
    return found


def _lost(connection: Connection, asked: Asked) -> int:
    statement = select(func.coalesce(func.sum(LOST.c.rows), 0))
    if asked.since is not None:
        statement = statement.where(LOST.c.until >= asked.since)
    if asked.until is not None:
        statement = statement.where(LOST.c.since < asked.until)
    return int(connection.execute(statement).scalar_one())


def providers_since(database: Database, at: float) -> set[str]:
    """Providers with requests since a time in Unix seconds.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    with database.read() as connection:
        found = connection.execute(select(ROWS.c.provider).where(ROWS.c.at >= at).distinct()).scalars()
        return {provider for provider in found if provider}


def day_of(at: float) -> str:
    """The UTC day of a time in Unix seconds, such as `2026-01-31`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")

"""The ledger's tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Connection, Float, Index, Integer, MetaData, String, Table

from dragoman.store.database import Database
from dragoman.store.migrations import Migration, migrate

ROOM = "ledger"
_META = MetaData()

TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")

ROWS = Table(
    "usage_rows",
    _META,
    Column("id", String, primary_key=True),
    Column("at", Float, nullable=False),
    Column("day", String, nullable=False),  # of the UTC calendar, 2026-01-31
    Column("client", String, nullable=False),
    Column("session", String, nullable=False),
    Column("turn", String, nullable=False),
    Column("token", String, nullable=False),
    Column("run", String, nullable=False),
    Column("client_wire", String, nullable=False),
    Column("upstream_wire", String, nullable=False),
    Column("model", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("upstream_model", String, nullable=False),
    Column("key", String, nullable=False),
    Column("stream", Boolean, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in TOKENS),
    Column("usage_source", String, nullable=False),
    Column("cost_usd", Float),
    Column("price_source", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", String, nullable=False),
    Column("failure", String, nullable=False),
    Column("ttfb_ms", Float),
    Column("total_ms", Float, nullable=False),
    Column("gateway_ms", Float, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("shims", String, nullable=False),
    Index("usage_rows_at", "at"),
    Index("usage_rows_run", "run"),
    Index("usage_rows_session", "session"),
)

COUNTS = ("requests", "failed", "cancelled", "unreported", "estimated", "priced", "unpriced", "plan")

# What remains of rows older than `[retention] usage_days`.
DAYS = Table(
    "usage_days",
    _META,
    *(
        Column(name, String, primary_key=True)
        for name in ("day", "client", "model", "provider", "upstream_wire", "key")
    ),
    *(Column(name, BigInteger, nullable=False) for name in (*COUNTS, *TOKENS)),
    Column("cost_usd", Float, nullable=False),
    Column("total_ms", Float, nullable=False),
    Column("gateway_ms", Float, nullable=False),
)

# How far each spool file has been taken in: with the rows, in one transaction.
FILES = Table(
    "usage_files",
    _META,
    Column("name", String, primary_key=True),
    Column("taken_bytes", BigInteger, nullable=False),
)

LOST = Table(
    "usage_lost",
    _META,
    Column("id", String, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("since", Float, nullable=False),
    Column("until", Float, nullable=False),
)


def make_tables(connection: Connection) -> None:
    """The first version."""
    _META.create_all(connection)


MIGRATIONS: tuple[Migration, ...] = (make_tables,)


def prepare(database: Database) -> None:
    """Bring the ledger's tables up to date.

    Raises:
        StoreUnavailable: the database does not answer.
        StoreTooNew: the tables are a newer dragoman's.
    """
    migrate(database, ROOM, MIGRATIONS)

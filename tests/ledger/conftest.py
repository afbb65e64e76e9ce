"""Rows, spools, and a ledger on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dragoman.config.paths import resolve_home
from dragoman.gateway.spool import UsageRow
from dragoman.store.address import database_address
from dragoman.store.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database."""
    env = {"DRAGOMAN_HOME": str(tmp_path / "home")}
    if request.param == "postgresql":
        env["DRAGOMAN_DATABASE"] = request.getfixturevalue("postgres_url")
    database = Database(database_address(resolve_home(env), env), busy_timeout_s=0.5)
    yield database
    database.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """An empty spool folder."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@pytest.fixture
def row() -> Callable[..., UsageRow]:
    """A row by its number; other fields as given."""

    def make(number: int, **fields: Any) -> UsageRow:
        base: dict[str, Any] = {
            "id": f"req-{number:06d}",
            "at": 1_700_000_000.0 + number,
            "client": "claude-cli/2.1.329",
            "client_wire": "messages",
            "upstream_wire": "chat",
            "model": "glm-5.2",
            "upstream_model": "glm-5.2",
            "provider": "zai",
            "outcome": "ok",
            "usage_source": "reported",
        }
        return msgspec.convert({**base, **fields}, UsageRow)

    return make


@pytest.fixture
def lines() -> Callable[..., bytes]:
    """Rows as a spool file's bytes."""

    def encode(rows: list[UsageRow], tail: bytes = b"") -> bytes:
        return b"".join(msgspec.json.encode(row) + b"\n" for row in rows) + tail

    return encode

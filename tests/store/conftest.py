"""The same tests on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.config.paths import resolve_home
from dragoman.store.address import database_address
from dragoman.store.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database; a writer waits half a second for another."""
    env = {"DRAGOMAN_HOME": str(tmp_path)}
    if request.param == "postgresql":
        env["DRAGOMAN_DATABASE"] = request.getfixturevalue("postgres_url")
    database = Database(database_address(resolve_home(env), env), busy_timeout_s=0.5)
    yield database
    database.close()

"""Which database is meant: a file of the home unless the environment names another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from dragoman.config.paths import Home
from dragoman.store.errors import StoreAddressInvalid

DATABASE_VARIABLE = "DRAGOMAN_DATABASE"
_POSTGRES_SCHEMES = ("postgres", "postgresql", "postgresql+psycopg")


def sqlite_file(home: Home) -> Path:
    """The database of a home that names no other."""
    return home.state / "dragoman.db"


def database_address(home: Home, env: Mapping[str, str], url_env: str | None = None) -> URL:
    """Find the address of the database; opens nothing.

    A password never comes from a file or an argument: only from the environment.

    Args:
        home: whose database.
        env: where the address may stand.
        url_env: the variable `[store] url_env` names; `DRAGOMAN_DATABASE` wins over it.

    Raises:
        StoreAddressInvalid: neither `sqlite:///FILE` nor `postgresql://…`, or the named variable is not set.
    """
    source = DATABASE_VARIABLE
    text = env.get(DATABASE_VARIABLE, "").strip()
    if not text and url_env and url_env != DATABASE_VARIABLE:
        source = url_env
        text = env.get(url_env, "").strip()
        if not text:
            raise StoreAddressInvalid(
                f"[store] url_env names {url_env}, and that variable is not set",
                hint=f"export {url_env}=postgresql://user@host/database, or remove url_env",
            )
    if not text:
        return URL.create("sqlite", database=str(sqlite_file(home)))
    try:
        url = make_url(text)
    except ArgumentError:
        # The text may hold a password: it is not quoted.
        raise _invalid(source) from None
    if url.drivername == "sqlite" and url.database:
        return url
    if url.drivername in _POSTGRES_SCHEMES:
        return url.set(drivername="postgresql+psycopg")
    raise _invalid(source)


def _invalid(source: str) -> StoreAddressInvalid:
    return StoreAddressInvalid(
        f"{source} is no database address that can be used",
        hint="write sqlite:////absolute/file.db or postgresql://user:password@host/database",
    )

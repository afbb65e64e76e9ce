"""`/api/v1/usage`: what the ledger says, everything on disk taken in before."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast, get_args

from starlette.requests import Request
from starlette.routing import Route

from dragoman.control.answers import JsonResponse
from dragoman.control.bodies import BadRequest
from dragoman.control.bookkeeping import Books
from dragoman.ledger.summary import Asked, By

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_BY: tuple[By, ...] = get_args(By)
_EXACT = ("session", "token", "client", "model", "provider", "key")


def usage_routes(books: Books, *, wall: Callable[[], float] = time.time) -> list[Route]:
    """The routes of usage.

    Query: `by` (model, client, key, session, run, job, day, provider), `since` and `until` (Unix seconds,
    `2026-01-31`, or a time ago such as `12h` or `7d`), `run` (more than once for several), and the exact
    filters session, token, client, model, provider, key.

    Args:
        books: the ledger.
        wall: Unix seconds.
    """

    async def show(request: Request) -> JsonResponse:
        """Requests, tokens and money, summed up."""
        query = request.query_params
        if (named := query.get("by", "model")) not in _BY:
            raise BadRequest(f"by is one of {', '.join(_BY)}")
        by = cast(By, named)
        runs = tuple(query.getlist("run"))
        asked = Asked(
            since=_moment("since", query.get("since"), wall()),
            until=_moment("until", query.get("until"), wall()),
            runs=runs or None,
            **{name: query.get(name) for name in _EXACT},
        )
        # A full spool takes a while; other requests go on meanwhile.
        return JsonResponse(await asyncio.to_thread(books.usage, asked, by=by))

    return [Route("/api/v1/usage", show)]


def _moment(name: str, text: str | None, now: float) -> float | None:
    """Unix seconds of a time as people write it."""
    if not text:
        return None
    if ago := _AGO.fullmatch(text):
        return now - float(ago[1]) * _UNITS_S[ago[2]]
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{name} is a time like 12h, 7d, 2026-01-31 or Unix seconds") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()

"""`/api/v1/usage`: what the gateways noted, added up."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.routing import Route

from dragoman.config.paths import Home
from dragoman.control.answers import JsonResponse
from dragoman.ledger.reading import read_rows
from dragoman.ledger.summary import UsageSummary, summarize


def usage_routes(home: Home) -> list[Route]:
    """The routes of usage.

    Args:
        home: whose spool is read.
    """

    async def show(request: Request) -> JsonResponse:
        run = request.query_params.get("run")
        # Many rows take a while to read; other requests go on meanwhile.
        return JsonResponse(await asyncio.to_thread(_summary, home.spool, run))

    return [Route("/api/v1/usage", show)]


def _summary(spool: Path, run: str | None) -> UsageSummary:
    return summarize(read_rows(spool), run=run)

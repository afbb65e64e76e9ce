"""`/api/v1/usage`: what was spent."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dragoman.config.paths import Home
from dragoman.control.answers import JsonResponse
from dragoman.ledger.reading import read_rows
from dragoman.ledger.summary import UsageSummary, summarize


def usage_routes(home: Home) -> list[BaseRoute]:
    """The routes of this resource.

    `GET /api/v1/usage[?run=ID]` answers `{"by_model": [...], "total": {...}}` (see `ledger.summary`).
    """

    def read(run: str | None) -> UsageSummary:
        return summarize(read_rows(home.spool), run=run)

    async def usage(request: Request) -> Response:
        summary = await asyncio.to_thread(read, request.query_params.get("run"))
        return JsonResponse(msgspec.to_builtins(summary))

    return [Route("/api/v1/usage", usage)]

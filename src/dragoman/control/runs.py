"""`/api/v1/runs`: the logs of runs."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dragoman.config.paths import Home
from dragoman.control.answers import JsonResponse
from dragoman.control.jobs import number_in_query
from dragoman.jobs.run_logs import inspect_run, list_runs


def run_routes(home: Home) -> list[Route]:
    """The routes of runs.

    Args:
        home: whose runs.
    """

    async def show_all(request: Request) -> Response:
        """Runs, the newest first."""
        limit = number_in_query(request, "limit", 20, 200)
        status = request.query_params.get("status")
        return JsonResponse({"runs": await asyncio.to_thread(list_runs, home, limit=limit, status=status)})

    async def inspect(request: Request) -> Response:
        """A run whole: what was asked, its files, its result; never its packet."""
        return JsonResponse(await asyncio.to_thread(inspect_run, home, request.path_params["id"]))

    return [Route("/api/v1/runs", show_all), Route("/api/v1/runs/{id}", inspect)]

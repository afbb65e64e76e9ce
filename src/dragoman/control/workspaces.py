"""`/api/v1/workspaces`: the clones workers wrote in, and what was changed in them."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dragoman.config.paths import Home
from dragoman.control.answers import JsonResponse
from dragoman.workspace import all_trash, all_workspaces, delta, open_workspace
from dragoman.workspace.describe import describe_delta, describe_workspace


def workspace_routes(home: Home) -> list[Route]:
    """The routes of workspaces.

    Args:
        home: whose workspaces.
    """

    async def show_all(request: Request) -> Response:
        """Workspaces, oldest first; with `trash=1` those that were discarded."""
        find = all_trash if request.query_params.get("trash") == "1" else all_workspaces
        found = await asyncio.to_thread(find, home.state)
        return JsonResponse({"workspaces": [describe_workspace(workspace) for workspace in found]})

    async def show(request: Request) -> Response:
        """A workspace and what was changed in it against its base."""
        return JsonResponse(await asyncio.to_thread(_describe, home, request.path_params["id"]))

    return [Route("/api/v1/workspaces", show_all), Route("/api/v1/workspaces/{id}", show)]


def _describe(home: Home, id: str) -> dict[str, Any]:
    workspace = open_workspace(home.state, id)
    return {"workspace": describe_workspace(workspace), "delta": describe_delta(delta(workspace))}

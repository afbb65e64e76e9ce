"""The control application: what answers behind `/api`, `/c/`, `/mcp` and `/`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from dragoman.config.load import load_config
from dragoman.config.paths import Home
from dragoman.config.tokens import TokenCache
from dragoman.control.access import AccessGate
from dragoman.control.activity import Activity
from dragoman.control.answers import JsonResponse, error_response
from dragoman.control.bookkeeping import Books
from dragoman.control.captures import capture_routes
from dragoman.control.openapi import openapi_route
from dragoman.control.terminal import session_routes
from dragoman.control.tokens import token_routes
from dragoman.control.usage import usage_routes
from dragoman.errors import DragomanError
from dragoman.store.address import database_address
from dragoman.store.database import Database

Application = Callable[[Any, Any, Any], Awaitable[None]]

_ENTRANCE = """\
dragoman {version}: the gateway answers here.

The console opens by a one-time link:     dragoman console
The control API is at /api/v1 and wants a control token.
Model calls go to /v1/messages, /v1/chat/completions and /v1/responses.
"""


@dataclass(slots=True)
class Control:
    """What every part of the control plane is given.

    Attributes:
        home: whose daemon this is.
        version: our version.
        describe_daemon: what `/api/v1/status` says about parent and children.
        hosts: names this machine is called by, besides the loopback ones.
        activity: who needs us.
        closing: set when the process is leaving; endless answers end then.
        wall: seconds since the epoch.
        books: the ledger; one of the home's own database when None.
    """

    home: Home
    version: str
    describe_daemon: Callable[[], dict[str, Any]]
    hosts: Iterable[str] = ()
    activity: Activity = field(default_factory=Activity)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    wall: Callable[[], float] = time.time
    books: Books | None = None


def control_app(control: Control, more_routes: Sequence[BaseRoute] = ()) -> Application:
    """The application, gate and all.

    Args:
        control: what it works with.
        more_routes: routes of the rooms above this one.
    """
    started_at = control.wall()
    books = control.books or Books(control.home, Database(database_address(control.home, {})))

    async def entrance(request: Request) -> Response:
        return PlainTextResponse(_ENTRANCE.format(version=control.version))

    async def status(request: Request) -> Response:
        """The daemon, its children and this process."""
        return JsonResponse(
            control.describe_daemon()
            | {
                "home": str(control.home.state),
                "control_since": round(started_at, 3),
                "control_version": control.version,
            }
        )

    routes = [
        Route("/", entrance),
        Route("/api/v1/status", status),
        *token_routes(control.home, wall=control.wall),
        *usage_routes(books, wall=control.wall),
        *capture_routes(
            control.home, lambda: load_config(control.home, os.environ).retention, wall=control.wall
        ),
        *session_routes(control.home, control.closing),
        *more_routes,
    ]
    inner = Starlette(
        routes=[*routes, openapi_route(routes, control.version)],
        exception_handlers={DragomanError: _our_error, HTTPException: _http_error, Exception: _mistake},
    )
    tokens = TokenCache(control.home, wall=control.wall)
    return control.activity.watch(AccessGate(inner, tokens, hosts=control.hosts))


async def _our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DragomanError)
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            found = DragomanError(
                f"nothing answers at {request.url.path[:200]}", code="not_found", http_status=404
            )
        case 405:
            message = f"{request.method} is not for {request.url.path[:200]}"
            found = DragomanError(message, code="method_not_allowed", http_status=405)
        case status:
            found = DragomanError(str(error.detail), code="http_error", http_status=status)
    response = error_response(found)
    response.headers.update(error.headers or {})
    return response


async def _mistake(request: Request, error: Exception) -> Response:
    """Ours. Its type and place are logged by the server; its text may quote what nobody else may read."""
    return error_response(DragomanError("the control process made a mistake", hint="dragoman logs"))

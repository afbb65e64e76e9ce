"""`/api/v1/captures`: record exchanges, look at the recordings, play one again."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dragoman.config.paths import Home, unwritable
from dragoman.config.schema import Retention
from dragoman.control.answers import JsonResponse
from dragoman.control.bodies import read_body
from dragoman.gateway.capture_file import find_capture, list_captures
from dragoman.gateway.capture_order import (
    captures_folder,
    order_file,
    order_state,
    plan_order,
    remove_order,
    write_order,
)
from dragoman.gateway.capture_replay import describe_replay, replay


class CaptureBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to record.

    Attributes:
        minutes: how long at most.
        exchanges: how many at most.
        failed_only: leave out exchanges that end well.
    """

    minutes: float = 10.0
    exchanges: int = 20
    failed_only: bool = False


def capture_routes(
    home: Home, read_rules: Callable[[], Retention], *, wall: Callable[[], float] = time.time
) -> list[Route]:
    """The routes of recordings.

    Args:
        home: whose exchanges.
        read_rules: `[retention]` as it is now.
        wall: Unix seconds.
    """
    folder = captures_folder(home.state)

    async def show_all(request: Request) -> Response:
        """Whether exchanges are recorded, and the recordings, the newest first."""
        found = await asyncio.to_thread(list_captures, folder)
        return JsonResponse({"capture": order_state(home.state, wall()), "captures": found})

    async def begin(request: Request) -> Response:
        """Record exchanges from now on, for a while."""
        asked, rules, now = await read_body(request, CaptureBody), read_rules(), wall()
        order = plan_order(
            minutes=asked.minutes,
            exchanges=asked.exchanges,
            failed_only=asked.failed_only,
            days=rules.captures_days,
            megabytes=rules.captures_mb,
            now=now,
            id=secrets.token_hex(8),
        )
        try:
            await asyncio.to_thread(write_order, home.state, order)
        except OSError as error:
            raise unwritable(order_file(home.state), error) from None
        return JsonResponse({"capture": order_state(home.state, now)}, status_code=201)

    async def end(request: Request) -> Response:
        """Record no more."""
        was_on = remove_order(home.state) is not None
        return JsonResponse({"was_on": was_on, "capture": order_state(home.state, wall())})

    async def show(request: Request) -> Response:
        """A recording, whole."""
        return JsonResponse(await asyncio.to_thread(find_capture, folder, request.path_params["id"]))

    async def play(request: Request) -> Response:
        """Play a recording again, without a network, and compare."""
        capture = await asyncio.to_thread(find_capture, folder, request.path_params["id"])
        return JsonResponse(describe_replay(await asyncio.to_thread(replay, capture)))

    return [
        Route("/api/v1/captures", show_all, methods=["GET"]),
        Route("/api/v1/captures", begin, methods=["POST"]),
        Route("/api/v1/captures", end, methods=["DELETE"]),
        Route("/api/v1/captures/{id}", show, methods=["GET"]),
        Route("/api/v1/captures/{id}/replay", play, methods=["POST"]),
    ]

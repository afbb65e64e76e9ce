"""`/api/v1/events`: everything that changes, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import get_args

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from dragoman.control.bodies import BadRequest
from dragoman.control.feed import Feed, Topic
from dragoman.control.streaming import frame, server_sent

_TOPICS = frozenset(get_args(Topic))


def event_routes(feed: Feed, closing: asyncio.Event) -> list[Route]:
    """The route of the feed.

    Args:
        feed: where changes come from.
        closing: set when this process is leaving.
    """

    async def listen(request: Request) -> StreamingResponse:
        """Follow what changes: `event:` says what, `data:` has `id`, `at` and the `resource` as it is now."""
        topics = _topics(request.query_params.get("topics"))
        return server_sent(_frames(feed, last_known(request), topics), closing)

    return [Route("/api/v1/events", listen)]


def last_known(request: Request) -> int | None:
    """The last event a reader has seen: the header browsers send, or `after` in the query.

    Raises:
        BadRequest: it is no number.
    """
    said = request.headers.get("last-event-id") or request.query_params.get("after")
    if not said:
        return None
    if not said.isdigit() or len(said) > 18:
        raise BadRequest("after is the id of an event")
    return int(said)


async def _frames(feed: Feed, after: int | None, topics: frozenset[str] | None) -> AsyncIterator[bytes]:
    async for happening in feed.listen(after, topics=topics):
        told = {"id": happening.id, "at": happening.at, "resource": happening.resource}
        yield frame(happening.topic, told, id=happening.id)


def _topics(said: str | None) -> frozenset[str] | None:
    if not said:
        return None
    asked = frozenset(said.split(","))
    if unknown := asked - _TOPICS:
        raise BadRequest(
            f"there is no topic {min(unknown)[:40]}", hint=f"topics: {', '.join(sorted(_TOPICS))}"
        )
    return asked

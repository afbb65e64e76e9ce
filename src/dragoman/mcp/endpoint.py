"""`/mcp`: the server over streamable HTTP, made when the first client comes.

Stateless: each call stands alone, so a client that went through a restart of this process notices nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

# Tasks may bring a diff; what is larger is refused before it is read.
MAX_BODY_BYTES = 4 << 20


class McpEndpoint:
    """Serves MCP once somebody asks; until then nothing of the SDK is imported.

    Args:
        build: makes the server; called once, in a thread, since its imports take a second.
    """

    def __init__(self, build: Callable[[], Server[Any]]) -> None:
        self._build = build
        self._starting: asyncio.Task[StreamableHTTPSessionManager] | None = None
        self._running: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def route(self) -> Route:
        """The route to mount."""
        endpoint = self

        class Served(Response):
            """Hands the whole exchange to the SDK."""

            def __init__(self) -> None:
                super().__init__()

            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                await endpoint(scope, receive, send)

        async def serve(request: Request) -> Response:
            return Served()

        return Route("/mcp", serve, methods=["GET", "POST", "DELETE"])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        manager = await asyncio.shield(self._starting)
        await manager.handle_request(scope, receive, send)

    async def close(self) -> None:
        """End every exchange."""
        self._closing.set()
        if self._running is not None:
            await self._running

    async def _start(self) -> StreamableHTTPSessionManager:
        manager = await asyncio.to_thread(self._make)
        ready = asyncio.Event()

        async def run() -> None:
            async with manager.run():
                ready.set()
                await self._closing.wait()

        self._running = asyncio.create_task(run())
        await ready.wait()
        return manager

    def _make(self) -> StreamableHTTPSessionManager:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        return StreamableHTTPSessionManager(
            self._build(), stateless=True, max_request_body_size=MAX_BODY_BYTES
        )

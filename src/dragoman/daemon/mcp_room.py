"""The tools for a lead, wired to the jobs of this process; built when the first client comes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman import __version__
from dragoman.clients import checks
from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.gateway.routes import RouteTable
from dragoman.jobs.service import JobService
from dragoman.mcp.endpoint import McpEndpoint

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server


def mcp_endpoint(home: Home, service: JobService, read_config: Callable[[], Config]) -> McpEndpoint:
    """The endpoint behind `/mcp`.

    Args:
        home: whose daemon this is.
        service: its jobs.
        read_config: the configuration as it is at that time.
    """

    def look() -> Iterator[checks.Finding]:
        config = read_config()
        routes = RouteTable(config)
        yield checks.check_git()
        yield from checks.check_providers(home, os.environ, config, routes)
        yield from checks.check_clients(os.environ, config)

    def build() -> Server[Any]:
        from dragoman.mcp.place import Desk
        from dragoman.mcp.server import mcp_server

        service.expect_work()
        desk = Desk(service, lambda: read_config().delegation, Path.home(), os.environ)
        return mcp_server(desk, look, __version__)

    return McpEndpoint(build)

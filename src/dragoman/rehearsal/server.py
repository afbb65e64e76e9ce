"""The provider's process side: a loopback socket, uvicorn on it, and an owner it does not outlive."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable

import uvicorn

from dragoman.errors import DragomanError, ExitCode
from dragoman.rehearsal.app import Rehearsal


class NotLoopback(DragomanError):
    """An address that other machines can reach."""

    code = "not_loopback"
    exit_code = ExitCode.USAGE


class PortTaken(DragomanError):
    """The address cannot be listened on."""

    code = "port_taken"


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """Open a listening socket.

    Args:
        host: a loopback address, or `localhost`.
        port: 0 picks a free one.

    Returns:
        The socket and its base address.

    Raises:
        NotLoopback: other machines could reach it.
        PortTaken: the address cannot be listened on.
    """
    host = "127.0.0.1" if host == "localhost" else host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise NotLoopback(f"'{host}' is not a loopback address", hint="leave --host out, or use 127.0.0.1")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise PortTaken(f"cannot listen on port {port}: {error}", hint="use --port 0") from error
    shown = f"[{host}]" if address.version == 6 else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


class RehearsalServer(uvicorn.Server):
    """Serves the app until it is told to end.

    Args:
        app: what is served.
        on_ready: called once it answers.
        parent_fd: read end of a pipe that its owner holds open; when it closes, the process ends at once.
    """

    def __init__(
        self, app: Rehearsal, *, on_ready: Callable[[], None] | None = None, parent_fd: int | None = None
    ) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            # The same request gets the same bytes, headers included.
            date_header=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self.on_ready = on_ready
        self.parent_fd = parent_fd

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, then say so."""
        await super().startup(sockets)
        if self.parent_fd is not None:
            asyncio.get_running_loop().add_reader(self.parent_fd, self._end_with_parent, self.parent_fd)
        if self.on_ready is not None:
            self.on_ready()

    @staticmethod
    def _end_with_parent(parent_fd: int) -> None:
        if not os.read(parent_fd, 1024):
            os._exit(0)  # nobody is left to answer

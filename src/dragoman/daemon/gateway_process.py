"""A gateway process: `python -m dragoman.daemon.gateway_process`, always there, lean.

Two sockets, one data plane: the TCP port, which also relays to the control process, and the unix socket that
sandboxed workers see, which serves model calls alone.
"""

from __future__ import annotations

from dragoman.daemon import light_imports  # noqa: F401 - before whatever it makes light

# isort: split
import encodings.idna  # noqa: F401 - the first look-up of a host name would import it later
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dragoman.config.load import load_config
from dragoman.config.paths import Home, resolve_home
from dragoman.config.schema import Config
from dragoman.config.tokens import TokenCache
from dragoman.daemon.child_log import log_to
from dragoman.daemon.config_in_force import config_at_start
from dragoman.daemon.listening import (
    Listener,
    child_arguments,
    failures_reported,
    run_child,
    serve_until_told,
)
from dragoman.daemon.log import JsonLog
from dragoman.gateway.app import Gateway
from dragoman.gateway.forward import ControlDoor
from dragoman.gateway.runtime import Runtime, make_runtime
from dragoman.gateway.server import calm_collector
from dragoman.gateway.spans import open_spans
from dragoman.gateway.spool import Spool
from dragoman.gateway.transport import Transport
from dragoman.process.limits import raise_open_files_limit
from dragoman.process.prctl import forbid_inspection


class _GatewayEnding:
    """The usage rows of the last requests are written before we go."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def begin(self) -> None:
        return

    async def finish(self) -> None:
        await self._gateway.aclose()


async def serve_gateway(
    home: Home,
    config: Config,
    log: JsonLog,
    *,
    read_config: Callable[[], Config],
    tcp_fd: int,
    unix_fd: int,
    channel: socket.socket,
    embedded_url: str,
) -> None:
    """Serve until the parent says so or is gone.

    Args:
        home: whose daemon this is.
        config: the configuration in force.
        log: where events go.
        read_config: the configuration as it is at a reload.
        tcp_fd: the inherited listening TCP socket.
        unix_fd: the inherited listening unix socket, for sandboxed workers.
        channel: our end of the socket pair with the parent.
        embedded_url: where the embedded model answers.

    Raises:
        ConfigError: the configuration names something that does not exist.
    """

    def build(config: Config) -> Runtime:
        return make_runtime(
            config, home, os.environ, warn=lambda text: log.write("warning", "key", message=text)
        )

    def reload() -> None:
        gateway.runtime = build(read_config())

    transport = Transport.from_environment(os.environ)
    gateway = Gateway(
        build(config),
        transport=transport,
        spool=Spool(home.spool, wall=time.time),
        slots=home.slots,
        find_token=TokenCache(home).find,
        door=ControlDoor(home.control_socket, transport),
        embedded_url=embedded_url,
        log=log.write,
        spans=open_spans(os.environ, warn=lambda text: log.write("warning", "spans", message=text)),
    )
    listeners = [
        Listener(socket.socket(fileno=tcp_fd), gateway.app),
        Listener(socket.socket(fileno=unix_fd), gateway.data_plane_app),
    ]
    calm_collector()
    await serve_until_told(listeners, channel, ending=_GatewayEnding(gateway), reload=reload)


def main() -> None:
    """Entry of the process; its arguments come from the parent."""
    forbid_inspection()
    raise_open_files_limit()
    arguments = child_arguments(sys.argv[1:], extra=["--tcp-fd", "--unix-fd", "--rehearsal-url"])
    channel = socket.socket(fileno=int(arguments.channel_fd))
    home = resolve_home(os.environ, Path(arguments.config))
    with failures_reported(channel):
        flags = json.loads(arguments.flags)
        config = config_at_start(home, os.environ, flags, arguments.in_force)
        log = log_to(home.logs / "daemon.log", "gateway", config.log.level)
        run_child(
            serve_gateway(
                home,
                config,
                log,
                read_config=lambda: load_config(home, os.environ, flags),
                tcp_fd=int(arguments.tcp_fd),
                unix_fd=int(arguments.unix_fd),
                channel=channel,
                embedded_url=arguments.rehearsal_url,
            )
        )


if __name__ == "__main__":
    main()

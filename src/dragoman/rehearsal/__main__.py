"""`python -m dragoman.rehearsal`: the embedded model as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import socket
import sys
from pathlib import Path

import uvicorn

from dragoman.errors import DragomanError, ExitCode
from dragoman.rehearsal.app import Rehearsal
from dragoman.rehearsal.journal import Journal
from dragoman.rehearsal.load import load_scenario


class NotLoopback(DragomanError):
    """An address that other machines can reach."""

    code = "not_loopback"
    exit_code = ExitCode.USAGE


class PortTaken(DragomanError):
    """The address cannot be listened on."""

    code = "port_taken"


class _Server(uvicorn.Server):
    """Says where it listens once it answers, and ends when its owner does."""

    def __init__(self, config: uvicorn.Config, url: str, parent_fd: int | None) -> None:
        super().__init__(config)
        self.url = url
        self.parent_fd = parent_fd

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.parent_fd is not None:
            asyncio.get_running_loop().add_reader(self.parent_fd, self.end_with_parent, self.parent_fd)
        sys.stdout.write(f"listening on {self.url}\n")
        sys.stdout.flush()

    def end_with_parent(self, parent_fd: int) -> None:
        """Nobody is left to answer: end at once when the pipe is closed."""
        if not os.read(parent_fd, 1024):
            os._exit(0)


def main(argv: list[str] | None = None) -> int:
    """Run the embedded model until it is ended; return an exit code."""
    options = _parser().parse_args(argv)
    try:
        scenarios = [load_scenario(name) for name in options.scenario or ["greeting"]]
        if options.check:
            for one in scenarios:
                sys.stdout.write(f"{one.name}: {len(one.rules)} rules\n")
            return ExitCode.OK
        journal = Journal(options.journal)
        listener, url = _listen(options.host, options.port)
    except DragomanError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    app = Rehearsal(scenarios, wait_factor=options.pace, journal=journal)
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
    server = _Server(config, url, options.parent_fd)
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listener]))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dragoman.rehearsal",
        description="The embedded model: plays scenario files as a provider on loopback.",
    )
    add = parser.add_argument
    add("--scenario", action="append", metavar="FILE|NAME", help="may be repeated; default: greeting")
    add("--host", default="127.0.0.1", help="a loopback address")
    add("--port", type=int, default=0, help="0 picks a free one")
    add(
        "--pace",
        type=float,
        default=1.0,
        metavar="X",
        help="factor on every silence; 0 plays without waiting",
    )
    add("--journal", type=Path, metavar="FILE", help="append one JSON line a request")
    add("--parent-fd", type=int, metavar="N", help="inherited pipe; the process ends when it closes")
    add("--check", action="store_true", help="only check the scenario files")
    return parser


def _listen(host: str, port: int) -> tuple[socket.socket, str]:
    if host == "localhost":
        host = "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise NotLoopback(f"'{host}' is not a loopback address", hint="leave --host out, or use 127.0.0.1")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise PortTaken(f"cannot listen on port {port}: {error.strerror}", hint="use --port 0") from error
    shown = f"[{host}]" if address.version == 6 else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


if __name__ == "__main__":
    sys.exit(main())

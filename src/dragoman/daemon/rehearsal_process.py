"""The embedded model inside the daemon: `python -m dragoman.daemon.rehearsal_process`, started by a knock.

It makes the model name `rehearsal` answer with no configuration at all. As `python -m dragoman.rehearsal` it
is the same application with a port of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

from dragoman.config.paths import resolve_home
from dragoman.control.activity import Activity
from dragoman.daemon.child_log import log_to
from dragoman.daemon.config_in_force import config_at_start
from dragoman.daemon.listening import (
    Listener,
    ParentLink,
    child_arguments,
    failures_reported,
    offer_to_leave,
    run_child,
    serve_until_told,
)
from dragoman.process.prctl import forbid_inspection
from dragoman.rehearsal.app import Rehearsal
from dragoman.rehearsal.journal import Journal
from dragoman.rehearsal.load import load_scenario

_DEFAULT_SCENARIO = "greeting"


class _NothingToEnd:
    def begin(self) -> None:
        return

    async def finish(self) -> None:
        return


async def serve_rehearsal(app: Rehearsal, fd: int, channel: socket.socket, idle_s: float) -> None:
    """Serve until the parent says so or is gone.

    Args:
        app: the embedded model.
        fd: the inherited listening socket, on loopback.
        channel: our end of the socket pair with the parent.
        idle_s: after how long without a request to offer the parent to leave.
    """
    activity = Activity()
    leaving: list[asyncio.Task[None]] = []

    def on_link(link: ParentLink) -> None:
        leaving.append(asyncio.create_task(offer_to_leave(link, activity.idle_s, idle_s)))

    listener = Listener(socket.socket(fileno=fd), activity.watch(app))
    try:
        await serve_until_told([listener], channel, ending=_NothingToEnd(), on_link=on_link)
    finally:
        for task in leaving:
            task.cancel()


def main() -> None:
    """Entry of the process; its arguments come from the parent."""
    forbid_inspection()
    arguments = child_arguments(sys.argv[1:], extra=["--listen-fd", "--idle-s"])
    channel = socket.socket(fileno=int(arguments.channel_fd))
    home = resolve_home(os.environ, Path(arguments.config))
    with failures_reported(channel):
        config = config_at_start(home, os.environ, json.loads(arguments.flags), arguments.in_force)
        log_to(home.logs / "daemon.log", "rehearsal", config.log.level)
        app = Rehearsal(
            [load_scenario(config.rehearsal.scenario or _DEFAULT_SCENARIO)],
            wait_factor=1.0,
            journal=Journal(None),
        )
        run_child(serve_rehearsal(app, int(arguments.listen_fd), channel, float(arguments.idle_s)))


if __name__ == "__main__":
    main()

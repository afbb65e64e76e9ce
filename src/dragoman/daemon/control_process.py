"""The control process: `python -m dragoman.daemon.control_process`, started when somebody knocks.

It serves the control application on the inherited unix socket and tells the parent when nobody has needed
it for a while.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dragoman import __version__
from dragoman.config.paths import Home, resolve_home
from dragoman.config.schema import Config
from dragoman.control.app import Control, control_app
from dragoman.control.bookkeeping import Books
from dragoman.control.events import event_routes
from dragoman.control.feed import Feed
from dragoman.control.jobs import job_routes
from dragoman.control.quota import QuotaDesk, quota_routes
from dragoman.control.retention import Retainer, retention_routes, room_sweepers
from dragoman.control.runs import run_routes
from dragoman.control.session_changes import SessionChanges
from dragoman.control.workspaces import workspace_routes
from dragoman.daemon.child_log import log_to
from dragoman.daemon.config_in_force import ConfigReader, config_at_start
from dragoman.daemon.job_room import open_jobs
from dragoman.daemon.listening import (
    Listener,
    ParentLink,
    child_arguments,
    failures_reported,
    offer_to_leave,
    run_child,
    serve_until_told,
)
from dragoman.daemon.mcp_room import mcp_endpoint
from dragoman.daemon.where import read_daemon_json
from dragoman.process.prctl import forbid_inspection
from dragoman.store.address import database_address
from dragoman.store.database import Database


def describe_daemon(home: Home) -> dict[str, Any]:
    """Parent and children as `daemon.json` has them."""
    note = read_daemon_json(home)
    if note is None:
        return {
            "url": None,
            "pid": None,
            "version": None,
            "since": None,
            "children": [],
            "config_error": None,
        }
    return {
        "url": note.url,
        "pid": note.pid,
        "version": note.version,
        "since": note.since,
        "children": [
            {"role": child.role, "index": child.index, "pid": child.pid, "state": child.state}
            for child in note.children
        ],
        "config_error": note.reloads.message,
    }


class _ControlEnding:
    """Event feeds would never end by themselves."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def begin(self) -> None:
        self._control.closing.set()

    async def finish(self) -> None:
        return


async def serve_control(
    home: Home,
    config: Config,
    fd: int,
    channel: socket.socket,
    idle_s: float,
    *,
    read_config: Callable[[], Config],
) -> None:
    """Serve until the parent says so or is gone.

    Args:
        home: whose daemon this is.
        config: the configuration in force.
        fd: the inherited listening unix socket.
        channel: our end of the socket pair with the parent.
        idle_s: after how long without a request to offer the parent to leave.
        read_config: the configuration as it is at that time.
    """
    hosts = (config.gateway.host,)
    address = database_address(home, os.environ, config.store.url_env)
    database = Database(address)
    feed = Feed()
    room = open_jobs(home, database, address, lambda: books, feed, read_config)
    books = Books(
        home,
        database,
        read_config=read_config,
        job_of=room.service.job_of_runs,
        on_rows=lambda rows: feed.publish("usage", {"rows": rows}),
    )
    control = Control(home, __version__, lambda: describe_daemon(home), hosts=hosts, books=books)
    quota = QuotaDesk(home, read_config)
    retainer = Retainer(read_config, room_sweepers(home, books))
    keeping = [asyncio.create_task(books.keep()), asyncio.create_task(quota.keep(books.providers_in_use))]
    keeping.append(asyncio.create_task(room.keep()))
    keeping.append(asyncio.create_task(SessionChanges(home, feed).keep()))
    control.activity.stay_while(room.service.needs_us)
    leaving: list[asyncio.Task[None]] = []
    mcp = mcp_endpoint(home, room.service, read_config)
    job_resources = [
        *job_routes(room.service, control.closing, settings=lambda: read_config().delegation),
        *run_routes(home),
        *workspace_routes(home),
        *event_routes(feed, control.closing),
        mcp.route(),
    ]

    def on_link(link: ParentLink) -> None:
        leaving.append(asyncio.create_task(offer_to_leave(link, control.activity.idle_s, idle_s)))

    listener = Listener(
        socket.socket(fileno=fd),
        control_app(control, [*quota_routes(quota), *retention_routes(retainer), *job_resources]),
    )
    try:
        await serve_until_told([listener], channel, ending=_ControlEnding(control), on_link=on_link)
    finally:
        for task in (*keeping, *leaving):
            task.cancel()
        await mcp.close()
        await asyncio.to_thread(room.engine.close)


def main() -> None:
    """Entry of the process; its arguments come from the parent."""
    forbid_inspection()
    arguments = child_arguments(sys.argv[1:], extra=["--listen-fd", "--idle-s"])
    channel = socket.socket(fileno=int(arguments.channel_fd))
    home = resolve_home(os.environ, Path(arguments.config))
    with failures_reported(channel):
        flags = json.loads(arguments.flags)
        config = config_at_start(home, os.environ, flags, arguments.in_force)
        log = log_to(home.logs / "daemon.log", "control", config.log.level)
        run_child(
            serve_control(
                home,
                config,
                int(arguments.listen_fd),
                channel,
                float(arguments.idle_s),
                read_config=ConfigReader(
                    home,
                    os.environ,
                    flags,
                    config,
                    warn=lambda text: log.write("warning", "config_refused", message=text),
                ),
            )
        )


if __name__ == "__main__":
    main()

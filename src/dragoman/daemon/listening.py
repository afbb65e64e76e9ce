"""The serving half of a child: uvicorn on inherited sockets, ended by the parent's word or its death.

uvicorn is used as a library: it installs no signal handlers, configures no logging and does not wake up ten
times a second (its own loop does, to look at a flag; this one waits for an event).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import uvicorn

from dragoman import __version__
from dragoman.daemon.channel import LineReader, Message, encode_message
from dragoman.daemon.child_log import describe_exception
from dragoman.errors import DragomanError
from dragoman.gateway.server import server_config

# A connection we have accepted and that has not asked yet gets so long to do it before it is closed.
_FRESH_GRACE_S = 1.0
_LOOK_EVERY_S = 0.01
# Streams of a daemon whose parent was killed may still finish.
ORPHAN_GRACE_S = 30.0

Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Listener:
    """An inherited listening socket and the application that answers there."""

    sock: socket.socket
    app: Application


class ParentLink:
    """The child's side of the channel to its parent.

    Args:
        sock: our end of the socket pair.
        on_drain: the parent wants us to end within so many seconds.
        on_orphaned: the parent is gone.
        reload: reads the configuration anew and takes it into use.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_drain: Callable[[float], None],
        on_orphaned: Callable[[], None],
        reload: Callable[[], None] | None = None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._lines = LineReader()
        self._on_drain = on_drain
        self._on_orphaned = on_orphaned
        self._reload = reload
        self._alive = True

    @property
    def alive(self) -> bool:
        """Whether the parent is there."""
        return self._alive

    def attach(self) -> None:
        """Listen from now on, in the running loop."""
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    def send(self, kind: str, **fields: Any) -> None:
        """Tell the parent; a parent that is gone is told nothing."""
        with contextlib.suppress(OSError):
            self._sock.send(encode_message(kind, **fields))

    def _read(self) -> None:
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._alive = False
            asyncio.get_running_loop().remove_reader(self._sock)
            self._on_orphaned()
            return
        for message in self._lines.feed(data):
            self._on_message(message)

    def _on_message(self, message: Message) -> None:
        match message["type"]:
            case "drain":
                self._on_drain(float(message.get("grace_s", ORPHAN_GRACE_S)))
            case "reload":
                self.send("reloaded", error=self._try_reload())
            case _:
                pass  # of a newer parent

    def _try_reload(self) -> Message | None:
        """Why the configuration could not be taken into use; the one in force stays then."""
        if self._reload is None:
            return None
        try:
            self._reload()
        except DragomanError as error:
            return {"message": error.message, "hint": error.hint}
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not end what serves well
            return {"message": f"a mistake of ours: {describe_exception(error)}", "hint": "dragoman logs"}
        return None


class Ending(Protocol):
    """What a child does beside uvicorn's own shutdown."""

    def begin(self) -> None:
        """No more is accepted: end what would never end by itself, such as event feeds."""
        ...

    async def finish(self) -> None:
        """All is answered: write out what must not be lost."""
        ...


class _Server(uvicorn.Server):
    """uvicorn that waits for an event and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leave = asyncio.Event()

    def leave(self, grace_s: float) -> None:
        if self._leave.is_set():
            # Told once more, such as by the parent's death: the shorter time counts.
            asyncio.get_running_loop().call_later(grace_s, self._force)
            return
        # uvicorn hands it to wait_for, which takes fractions.
        self.config.timeout_graceful_shutdown = grace_s  # type: ignore[assignment]
        self.should_exit = True
        self._leave.set()

    def _force(self) -> None:
        self.force_exit = True

    async def main_loop(self) -> None:
        await self.on_tick(0)  # sets the headers uvicorn adds; without a date they never change
        await self._leave.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, answer whom we have accepted, then let uvicorn wait for what is open.

        uvicorn alone closes a connection whose request is still on its way, which its client must take for a
        failure: nobody else will answer what we have taken out of the kernel's queue.
        """
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _FRESH_GRACE_S
        while fresh := [one for one in self.server_state.connections if getattr(one, "cycle", None) is None]:
            if loop.time() >= deadline:
                break
            for connection in self.server_state.connections.difference(fresh):
                connection.shutdown()
            await asyncio.sleep(_LOOK_EVERY_S)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_until_told(
    listeners: Sequence[Listener],
    channel: socket.socket,
    *,
    ending: Ending,
    reload: Callable[[], None] | None = None,
    on_link: Callable[[ParentLink], None] = lambda link: None,
) -> None:
    """Serve, say `ready`, and come back when the parent said `drain` (or is gone) and all streams have ended.

    Args:
        listeners: inherited sockets with their applications.
        channel: our end of the socket pair with the parent.
        ending: what else to do at the end.
        reload: reads the configuration anew and takes it into use; raises when it cannot.
        on_link: gets the link to the parent, to send on it.
    """
    servers = [_Server(server_config(listener.app)) for listener in listeners]

    def leave(grace_s: float) -> None:
        ending.begin()
        for server in servers:
            server.leave(grace_s)

    link = ParentLink(channel, on_drain=leave, on_orphaned=lambda: leave(ORPHAN_GRACE_S), reload=reload)
    loop = asyncio.get_running_loop()
    # The parent decides. A terminal's Ctrl-C does not reach us; a SIGTERM meant for us alone is a drain.
    loop.add_signal_handler(signal.SIGTERM, leave, ORPHAN_GRACE_S)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    tasks = [
        asyncio.create_task(server.serve(sockets=[listener.sock]))
        for server, listener in zip(servers, listeners, strict=True)
    ]
    starting = [
        asyncio.create_task(_started(server, task)) for server, task in zip(servers, tasks, strict=True)
    ]
    await asyncio.gather(*starting)
    link.attach()
    on_link(link)
    link.send("ready", version=__version__)
    await asyncio.gather(*tasks)
    await ending.finish()


async def _started(server: _Server, task: asyncio.Task[None]) -> None:
    while not server.started:
        if task.done():
            task.result()
            raise RuntimeError("the server ended before it started")
        await asyncio.sleep(0)


async def offer_to_leave(link: ParentLink, idle_for_s: Callable[[], float], idle_s: float) -> None:
    """Tell the parent once nobody has needed us for `idle_s`.

    Args:
        link: to the parent.
        idle_for_s: how long nobody has.
        idle_s: how long is enough.
    """
    while (left_s := idle_s - idle_for_s()) > 0:  # noqa: ASYNC110 - waiting for time itself
        await asyncio.sleep(max(left_s, 0.05))
    link.send("idle")


def child_arguments(argv: Sequence[str], *, extra: Sequence[str] = ()) -> SimpleNamespace:
    """Read a child's command line, pairs of `--name VALUE`; all of it comes from the parent.

    argparse would cost every gateway a megabyte for it.

    Args:
        argv: `sys.argv[1:]`.
        extra: further `--name`s this child gets.
    """
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    wanted = ("--config", "--flags", "--index", "--channel-fd", *extra)
    known = {"--in-force": ""} | {name: given[name] for name in wanted} | given
    return SimpleNamespace(**{name[2:].replace("-", "_"): value for name, value in known.items()})


@contextlib.contextmanager
def failures_reported(channel: socket.socket) -> Iterator[None]:
    """Tell the parent why this child cannot start or go on, and exit; the parent tells the user.

    Args:
        channel: our end of the socket pair with the parent.
    """
    try:
        yield
    except DragomanError as error:
        _report(channel, message=error.message, hint=error.hint, code=error.code)
        sys.exit(error.exit_code)
    except Exception as error:
        _report(channel, message=f"it ended by a mistake of ours: {describe_exception(error)}")
        raise


def _report(channel: socket.socket, **fields: Any) -> None:
    with contextlib.suppress(OSError):
        channel.sendall(encode_message("failed", **fields))


def run_child(main: Awaitable[None]) -> None:
    """Run a child's coroutine on uvloop where it is installed, on asyncio elsewhere."""

    async def run() -> None:
        await main

    try:
        import uvloop
    except ImportError:
        asyncio.run(run())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())

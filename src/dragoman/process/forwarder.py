"""Inside a sandbox without a network: give a program an address on loopback that leads to a unix socket.

Run as a script by a bare interpreter, with the standard library alone:

    python -I -S forwarder.py SOCKET PORT -- PROGRAM ARGUMENT…

It listens on 127.0.0.1:PORT, leaves a child behind that carries bytes, and becomes PROGRAM, which so keeps
the process id, the standard streams and every inherited descriptor. The child keeps none of them: neither a
pipe nor a lock may outlive the program because of it. It ends with the sandbox.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time

_CHUNK_BYTES = 65_536
# A gateway that is being restarted is back within seconds; its folder is mounted, so its new socket is seen.
_PATIENCE_S = 10.0
_LOOK_EVERY_S = 0.1


def main(argv: list[str]) -> None:
    """Serve in the background and become the program; returns only by raising."""
    path, port, dashes, *program = argv
    if dashes != "--" or not program:
        raise SystemExit("usage: forwarder.py SOCKET PORT -- PROGRAM ARGUMENT…")
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=128)
    # Twice, so that it is nobody's child: a program may be surprised by one it never started.
    first = os.fork()
    if first == 0:
        if os.fork() == 0:
            _let_go_of_everything_but(listener.fileno())
            serve(listener, path)
        os._exit(0)
    os.waitpid(first, 0)
    listener.close()
    os.execvp(program[0], program)  # noqa: S606 - this is what it is for


def serve(listener: socket.socket, path: str) -> None:
    """Carry every connection of the listener to the unix socket, for ever.

    Args:
        listener: a listening socket.
        path: of the unix socket; it may be gone and come back.
    """
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            if listener.fileno() < 0:
                return
            time.sleep(_LOOK_EVERY_S)  # out of descriptors: some will be given back
            continue
        threading.Thread(target=_carry_both_ways, args=(client, path), daemon=True).start()


def _carry_both_ways(client: socket.socket, path: str) -> None:
    upstream = _connect(path)
    if upstream is None:
        client.close()
        return
    back = threading.Thread(target=_carry, args=(upstream, client), daemon=True)
    back.start()
    _carry(client, upstream)
    back.join()
    client.close()
    upstream.close()


def _connect(path: str) -> socket.socket | None:
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            upstream.connect(path)
        except OSError:
            upstream.close()
            if time.monotonic() >= give_up:
                return None
            time.sleep(_LOOK_EVERY_S)
        else:
            return upstream


def _carry(source: socket.socket, sink: socket.socket) -> None:
    """Bytes from one to the other until the end, told on; a break on one side breaks the other."""
    try:
        while chunk := source.recv(_CHUNK_BYTES):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _let_go_of_everything_but(kept: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    limit = min(os.sysconf("SC_OPEN_MAX"), 1 << 20)
    os.closerange(3, kept)
    os.closerange(kept + 1, limit)
    os.chdir("/")


if __name__ == "__main__":
    main(sys.argv[1:])

"""A child of the parent: how it is started, what is known about it, how it is told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from enum import StrEnum

from dragoman.daemon.channel import Message, ParentEnd


class ChildState(StrEnum):
    """A child's life: it only ever moves down this list."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"


@dataclass(slots=True)
class Child:
    """One running child.

    Attributes:
        role: `gateway` or `control`.
        index: its number among its role; a successor takes it over.
        process: the process.
        channel: how we speak with it.
        since: seconds, monotonic, when it was started.
        state: see `ChildState`.
        failure: what it said when it could not start.
    """

    role: str
    index: int
    process: subprocess.Popen[bytes]
    channel: ParentEnd
    since: float
    state: ChildState = ChildState.STARTING
    failure: Message | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def drain(self, grace_s: float) -> None:
        """Ask it to take no more and to end when its streams have, within `grace_s`."""
        if self.state in (ChildState.STARTING, ChildState.READY):
            self.state = ChildState.DRAINING
            if not self.channel.send("drain", grace_s=grace_s):
                self.kill()

    def kill(self) -> None:
        """SIGKILL. It is our own unreaped child, so its pid cannot be anybody else's."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)


def start_child(
    role: str,
    index: int,
    argv: tuple[str, ...],
    *,
    pass_fds: tuple[int, ...],
    stderr_file: str,
    since: float,
) -> Child:
    """Start a child in a session of its own (a Ctrl-C at the terminal is the parent's to handle).

    Args:
        role: what it is.
        index: its number.
        argv: its command; `--index` and `--channel-fd` are added.
        pass_fds: sockets it inherits under the same numbers.
        stderr_file: where its stdout and stderr are appended.
        since: now, in seconds, monotonic.

    Raises:
        OSError: it cannot be started.
    """
    ours, theirs = socket.socketpair()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        stderr = os.open(stderr_file, flags, 0o600)
    except OSError:
        stderr = os.open(os.devnull, flags)  # a full disk must not keep the gateway from starting
    try:
        process = subprocess.Popen(
            [*argv, "--index", str(index), "--channel-fd", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
            pass_fds=(theirs.fileno(), *pass_fds),
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(stderr)
    return Child(role, index, process, ParentEnd(ours), since)

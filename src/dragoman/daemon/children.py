"""A child of the parent: how it is started, what is known about it, how it is told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dragoman.daemon.channel import Message, ParentEnd
from dragoman.daemon.plan import Adopted

GATEWAY = "gateway"


class ChildState(StrEnum):
    """A child's life: it only ever moves down this list."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Running(Protocol):
    """A process of ours, as far as the parent uses it."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int: ...


class AdoptedProcess:
    """A child that was started before our `exec`: known by its pid, which stays its own until we reap it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        code = self._reap(0)
        assert code is not None
        return code

    def _reap(self, flags: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, flags)
            except ChildProcessError:
                self.returncode = -1  # gone while nobody looked
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


@dataclass(slots=True)
class Child:
    """One running child.

    Attributes:
        role: `gateway`, or the role of a child on demand.
        index: its number among its role; a successor takes it over.
        process: the process.
        channel: how we speak with it.
        since: seconds, monotonic, when it was started.
        state: see `ChildState`.
        old: whether it is of the parent's earlier life and its successor is being started.
        failure: what it said when it could not start.
    """

    role: str
    index: int
    process: Running
    channel: ParentEnd
    since: float
    state: ChildState = ChildState.STARTING
    old: bool = False
    failure: Message | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def drain(self, grace_s: float) -> None:
        """Ask it to take no more and to end when its streams have, within `grace_s`."""
        if self.state is not ChildState.DRAINING:
            self.state = ChildState.DRAINING
            if not self.channel.send("drain", grace_s=grace_s):
                self.kill()

    def kill(self) -> None:
        """SIGKILL. It is our own unreaped child, so its pid cannot be anybody else's."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    def as_adopted(self) -> Adopted:
        """What the parent's next life has to know."""
        draining = self.state is ChildState.DRAINING
        return Adopted(self.role, self.index, self.pid, self.channel.fileno(), draining)


def adopt(child: Adopted, *, since: float) -> Child:
    """A child of the parent's earlier life.

    Args:
        child: what is known of it.
        since: now, in seconds, monotonic.
    """
    state = ChildState.DRAINING if child.draining else ChildState.READY
    channel = ParentEnd(socket.socket(fileno=child.channel_fd))
    return Child(child.role, child.index, AdoptedProcess(child.pid), channel, since, state, old=True)


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

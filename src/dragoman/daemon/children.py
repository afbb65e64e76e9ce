"""A child of the parent: how it is started, what is known about it, how it is told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from enum import StrEnum

from dragoman.daemon.channel import Message, ParentEnd
from dragoman.daemon.plan import Adopted

GATEWAY = "gateway"
_MAX_STDERR_BYTES = 1_000_000


class ChildState(StrEnum):
    """A child's life: it only ever moves down this list."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class OwnProcess:
    """A child known by its pid, which stays its own until we reap it: ours, or of the life before our `exec`.

    subprocess would cost the parent another tenth of its memory.
    """

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

    def __init__(
        self,
        role: str,
        index: int,
        process: OwnProcess,
        channel: ParentEnd,
        since: float,
        state: ChildState = ChildState.STARTING,
        *,
        old: bool = False,
    ) -> None:
        self.role = role
        self.index = index
        self.process = process
        self.channel = channel
        self.since = since
        self.state = state
        self.old = old
        self.failure: Message | None = None

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
    return Child(child.role, child.index, OwnProcess(child.pid), channel, since, state, old=True)


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
    given = (theirs.fileno(), *pass_fds)
    try:
        for fd in given:
            os.set_inheritable(fd, True)
        pid = _spawn((*argv, "--index", str(index), "--channel-fd", str(theirs.fileno())), stderr_file)
    except OSError:
        ours.close()
        raise
    finally:
        for fd in given:
            os.set_inheritable(fd, False)
        theirs.close()
    return Child(role, index, OwnProcess(pid), ParentEnd(ours), since)


def _spawn(argv: tuple[str, ...], stderr_file: str) -> int:
    """Start it with our environment and what is inheritable; with one thread nobody else starts one now."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        bound_file(stderr_file)
        stderr = os.open(stderr_file, flags, 0o600)
    except OSError:
        stderr = os.open(os.devnull, flags)  # a full disk must not keep the gateway from starting
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, stderr, 1),
                (os.POSIX_SPAWN_DUP2, stderr, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    finally:
        os.close(stderr)


def bound_file(path: str) -> None:
    """Empty a file that has grown too large, so that children that die again and again fill no disk."""
    try:
        if os.stat(path).st_size > _MAX_STDERR_BYTES:  # noqa: PTH116 - the parent does without pathlib
            os.truncate(path, 0)
    except OSError:
        return

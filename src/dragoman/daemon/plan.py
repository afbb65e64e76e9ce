"""What the parent is told: everything it needs to supervise, as plain data it can hand to itself.

The parent imports the standard library alone. Whoever starts it has read the configuration, taken the lock
and bound the sockets, and passes the result on across `exec`, in memory only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A daemon about to run.

    Attributes:
        url: the data plane's address, as printed and written to `daemon.json`.
        version: our version, so that others can see an upgrade.
        started_at: the parent's start time (see `ProcessIdentity`); it survives `exec`.
        tcp_fd: listening TCP socket.
        gateway_fd: listening unix socket of the data plane, for sandboxed workers.
        control_fd: listening unix socket of the control process; watched by the parent while unserved.
        lock_fd: the file that carries the home's lock; held until exit.
        ready_fd: where whoever started us waits for one line of JSON, or None.
        daemon_json: path of the file that says where we are.
        sockets: paths of unix sockets to remove at the end.
        log_file: JSON lines, ours and our children's.
        stderr_file: what children say without our logging, such as a fatal interpreter error.
        gateway_argv: command of a gateway; `--index N --channel-fd N` and the sockets follow.
        control_argv: command of the control process, likewise.
        workers: number of gateways.
        start_s: how long children may take until they are ready.
        drain_s: how long open streams may take after SIGTERM.
        control_idle_s: how long the control process stays without a request.
    """

    url: str
    version: str
    started_at: str
    tcp_fd: int
    gateway_fd: int
    control_fd: int
    lock_fd: int
    ready_fd: int | None
    daemon_json: str
    sockets: tuple[str, ...]
    log_file: str
    stderr_file: str
    gateway_argv: tuple[str, ...]
    control_argv: tuple[str, ...]
    workers: int = 1
    start_s: float = 30.0
    drain_s: float = 30.0
    control_idle_s: float = 600.0

    def to_json(self) -> str:
        """One argument for `python -m dragoman.daemon.parent`; holds no secret."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServePlan:
        """The plan `to_json` wrote."""
        fields = json.loads(text)
        for name in ("sockets", "gateway_argv", "control_argv"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """Descriptors the parent must find open under the same numbers."""
        ready = () if self.ready_fd is None else (self.ready_fd,)
        return (self.tcp_fd, self.gateway_fd, self.control_fd, self.lock_fd, *ready)

"""What the parent is told: everything it needs to supervise, as plain data it can hand to itself.

The parent imports the standard library alone. Whoever starts it has read the configuration, taken the lock
and bound the sockets, and passes the result on across `exec`, in memory only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class OnDemand:
    """A child that runs while it is needed.

    Attributes:
        role: what it is, such as `control`.
        fd: its listening socket; the parent watches it while no child serves it.
        argv: its command; `--listen-fd N --idle-s S`, `--index` and `--channel-fd` follow.
        idle_s: how long it stays without a request.
        grace_s: how long its open answers may take when it is told to end.
    """

    role: str
    fd: int
    argv: tuple[str, ...]
    idle_s: float = 600.0
    grace_s: float = 3.0


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A daemon about to run.

    Attributes:
        url: the data plane's address, as printed and written to `daemon.json`.
        version: our version, so that others can see an upgrade.
        started_at: the parent's start time (see `ProcessIdentity`); it survives `exec`.
        tcp_fd: listening TCP socket.
        gateway_fd: listening unix socket of the data plane, for sandboxed workers.
        lock_fd: the file that carries the home's lock; held until exit.
        ready_fd: where whoever started us waits for one line of JSON, or None.
        daemon_json: path of the file that says where we are.
        sockets: paths of unix sockets to remove at the end.
        log_file: JSON lines, ours and our children's.
        stderr_file: what children say without our logging, such as a fatal interpreter error.
        gateway_argv: command of a gateway; `--index N --channel-fd N` and the sockets follow.
        on_demand: children that are started by a knock on their socket.
        workers: number of gateways.
        start_s: how long children may take until they are ready.
        drain_s: how long open streams may take after SIGTERM.
    """

    url: str
    version: str
    started_at: str
    tcp_fd: int
    gateway_fd: int
    lock_fd: int
    ready_fd: int | None
    daemon_json: str
    sockets: tuple[str, ...]
    log_file: str
    stderr_file: str
    gateway_argv: tuple[str, ...]
    on_demand: tuple[OnDemand, ...] = ()
    workers: int = 1
    start_s: float = 30.0
    drain_s: float = 30.0

    def to_json(self) -> str:
        """One argument for `python -m dragoman.daemon.parent`; holds no secret."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServePlan:
        """The plan `to_json` wrote."""
        fields = json.loads(text)
        for name in ("sockets", "gateway_argv"):
            fields[name] = tuple(fields[name])
        children = [child | {"argv": tuple(child["argv"])} for child in fields.pop("on_demand")]
        return cls(**fields, on_demand=tuple(OnDemand(**child) for child in children))

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """Descriptors the parent must find open under the same numbers."""
        ready = () if self.ready_fd is None else (self.ready_fd,)
        return (*self.listening_fds, self.lock_fd, *ready)

    @property
    def listening_fds(self) -> tuple[int, ...]:
        """The sockets."""
        return (self.tcp_fd, self.gateway_fd, *(child.fd for child in self.on_demand))

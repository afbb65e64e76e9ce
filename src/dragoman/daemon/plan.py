"""What the parent is told: everything it needs to supervise, as plain data it can hand to itself.

The parent imports the standard library alone. Whoever starts it has read the configuration, taken the lock
and bound the sockets, and passes the result on across `exec`, in memory only. A restart is the same step
again: the parent hands sockets and children to its successor, which has its pid.

Named tuples, since dataclasses would cost the parent a tenth of its memory for the modules behind them.
"""

from __future__ import annotations

import json
from typing import NamedTuple


class OnDemand(NamedTuple):
    """A child that runs while it is needed.

    Attributes:
        role: what it is, such as `control`.
        fd: its listening socket; the parent watches it while no child serves it.
        argv: its command; `--listen-fd N --idle-s S`, `--index` and `--channel-fd` follow.
        idle_s: how long it stays without a request.
        grace_s: how long its open answers may take when it is told to end.
        ends_on_reload: whether only a successor can read a changed configuration.
    """

    role: str
    fd: int
    argv: tuple[str, ...]
    idle_s: float = 600.0
    grace_s: float = 3.0
    ends_on_reload: bool = False


class Adopted(NamedTuple):
    """A child of the parent's earlier life.

    Attributes:
        role: `gateway`, or the role of a child on demand.
        index: its number among its role.
        pid: process id; it is our child still.
        channel_fd: our end of the socket pair with it.
        draining: whether it has been told to end.
    """

    role: str
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    pid: int
    channel_fd: int
    draining: bool


class ServePlan(NamedTuple):
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
        config_file: the `dragoman.toml` that is watched; "" watches none.
        config_in_force: where a copy of the last one that was taken into use is kept.
        options: the command line, for a restart (see `ServeOptions.to_argv`).
        rehearsal_url: where the embedded model answers.
        workers: number of gateways.
        start_s: how long children may take until they are ready.
        drain_s: how long open streams may take after SIGTERM.
        since: seconds since the epoch when serving began; None at a first start.
        restarts, reloads: how many were tried.
        adopted: children to hand over from.
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
    config_file: str = ""
    config_in_force: str = ""
    options: str = "{}"
    rehearsal_url: str = ""
    workers: int = 1
    start_s: float = 30.0
    drain_s: float = 30.0
    since: float | None = None
    restarts: int = 0
    reloads: int = 0
    adopted: tuple[Adopted, ...] = ()

    def to_json(self) -> str:
        """One argument for `python -m dragoman.daemon.parent`; holds no secret."""
        children = [child._asdict() for child in self.on_demand]
        adopted = [child._asdict() for child in self.adopted]
        return json.dumps(self._asdict() | {"on_demand": children, "adopted": adopted})

    @classmethod
    def from_json(cls, text: str) -> ServePlan:
        """The plan `to_json` wrote, also that of another version: what we do not know is left out."""
        told = json.loads(text)
        told = {name: value for name, value in told.items() if name in cls._fields}
        for name in ("sockets", "gateway_argv"):
            told[name] = tuple(told[name])
        children = [child | {"argv": tuple(child["argv"])} for child in told.pop("on_demand", ())]
        adopted = tuple(Adopted(**child) for child in told.pop("adopted", ()))
        return cls(**told, on_demand=tuple(OnDemand(**child) for child in children), adopted=adopted)

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """Descriptors the parent must find open under the same numbers."""
        ready = () if self.ready_fd is None else (self.ready_fd,)
        channels = (child.channel_fd for child in self.adopted)
        return (*self.listening_fds, self.lock_fd, *ready, *channels)

    @property
    def listening_fds(self) -> tuple[int, ...]:
        """The sockets."""
        return (self.tcp_fd, self.gateway_fd, *(child.fd for child in self.on_demand))

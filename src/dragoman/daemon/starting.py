"""Become the daemon: read the configuration, take the lock, bind the sockets, then `exec` the lean parent.

Also `python -m dragoman.daemon.starting` for a start in the background (see `connect.py`).
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from dragoman import __version__
from dragoman.config.load import is_loopback, load_config
from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import ensure_control_token, ensure_data_token
from dragoman.daemon.health import split_url, url_of
from dragoman.daemon.plan import OnDemand, ServePlan
from dragoman.daemon.where import read_daemon_json
from dragoman.errors import DragomanError
from dragoman.process.identity import own_identity
from dragoman.process.locks import FileLock, LockHeld
from dragoman.process.spawn import daemon_environment

_BACKLOG = 2048
# After a kill -9 the orphaned gateways need a moment to see it and let go of the port.
_ORPHANS_LET_GO_S = 3.0


class AlreadyServing(DragomanError):
    """Another daemon serves this home."""

    code = "already_serving"
    http_status = 409


class AddressChanged(DragomanError):
    """A running daemon cannot move to another address."""

    code = "address_changed"
    http_status = 409


class CannotListen(DragomanError):
    """The address cannot be listened on."""

    code = "cannot_listen"


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line may say; None is left to the configuration.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 picks a free one.
        config_file: the file to read instead of the home's.
        workers: number of gateways.
        control_idle_s: how long the control process stays without a request.
        drain_s: how long open streams may take after SIGTERM.
        ready_fd: where one line of JSON is written when the daemon serves or has failed.
    """

    host: str | None = None
    port: int | None = None
    config_file: Path | None = None
    workers: int | None = None
    control_idle_s: float = 600.0
    drain_s: float = 30.0
    ready_fd: int | None = None

    def to_argv(self) -> list[str]:
        """Arguments of `python -m dragoman.daemon.starting`."""
        config = None if self.config_file is None else str(self.config_file)
        return [json.dumps({name: getattr(self, name) for name in self.__slots__} | {"config_file": config})]

    @classmethod
    def from_argv(cls, argv: list[str]) -> ServeOptions:
        """What `to_argv` wrote."""
        fields = json.loads(argv[0])
        config = fields.pop("config_file")
        return cls(config_file=None if config is None else Path(config), **fields)

    @property
    def flags(self) -> dict[str, Any]:
        """What was given, by the configuration's own keys."""
        return {"gateway.host": self.host, "gateway.port": self.port, "gateway.workers": self.workers}


def become_daemon(options: ServeOptions, env: Mapping[str, str], *, warn: Callable[[str], None]) -> NoReturn:
    """Turn this process into the daemon's parent; returns only by an error.

    Args:
        options: what the command line said.
        env: the environment; provider keys are read from it later.
        warn: told of things that work but should be known.

    Raises:
        AlreadyServing: another daemon has this home.
        CannotListen: the port is taken, or the address is not ours.
        ConfigError: the configuration is wrong.
        HomeUnwritable: folders cannot be made.
    """
    plan = prepare(options, env, warn=warn)
    for fd in plan.inherited_fds:
        os.set_inheritable(fd, True)
    sys.stdout.flush()
    sys.stderr.flush()
    argv = [sys.executable, "-P", "-m", "dragoman.daemon.parent", plan.to_json()]
    os.execve(sys.executable, argv, daemon_environment(env))  # noqa: S606


def prepare(
    options: ServeOptions, env: Mapping[str, str], *, warn: Callable[[str], None] = lambda text: None
) -> ServePlan:
    """Everything before the `exec`: lock taken, sockets bound, stale files of a killed daemon replaced.

    Raises:
        AlreadyServing, CannotListen, ConfigError, HomeUnwritable: as `become_daemon`.
    """
    home = resolve_home(env, options.config_file)
    config = load_config(home, env, options.flags, must_exist=options.config_file is not None)
    home.ensure()
    lock_fd = _take_lock(home)
    crashed = home.daemon_json.exists()
    home.daemon_json.unlink(missing_ok=True)
    _config_in_force(home).unlink(missing_ok=True)
    _settle_killed_applies(home, warn)
    gateway = config.gateway
    tcp = _bind_tcp(gateway.host, gateway.port, patience_s=_ORPHANS_LET_GO_S if crashed else 0.0)
    if not is_loopback(gateway.host):
        warn(f"listening beyond this machine: {gateway.host} can be reached by others who have a token")
    ensure_data_token(home)
    ensure_control_token(home)
    # The embedded model is an ordinary provider on loopback; its port is nobody's business but the gateways'.
    rehearsal = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    rehearsal_url = url_of(*rehearsal.getsockname())
    paths = (home.gateway_socket, home.control_socket)
    for_gateway, for_control = (_bind_unix(path).detach() for path in paths)
    return ServePlan(
        url=url_of(gateway.host, tcp.getsockname()[1]),
        version=__version__,
        started_at=own_identity().started_at,
        tcp_fd=tcp.detach(),
        gateway_fd=for_gateway,
        lock_fd=lock_fd,
        ready_fd=options.ready_fd,
        daemon_json=str(home.daemon_json),
        sockets=tuple(str(path) for path in paths),
        log_file=str(home.logs / "daemon.log"),
        stderr_file=str(home.logs / "stderr.log"),
        gateway_argv=_gateway_argv(home, options, rehearsal_url),
        on_demand=_on_demand(home, options, {"control": for_control, "rehearsal": rehearsal.detach()}),
        config_file=str(home.config_file),
        config_in_force=str(_config_in_force(home)),
        options=options.to_argv()[0],
        rehearsal_url=rehearsal_url,
        workers=gateway.workers,
        drain_s=options.drain_s,
    )


def renew(plan: ServePlan, env: Mapping[str, str]) -> ServePlan:
    """What a running daemon becomes when it restarts: configuration and version of now, the sockets it has.

    Args:
        plan: what runs.
        env: the daemon's environment.

    Raises:
        ConfigError: the configuration is wrong.
        AddressChanged: it names another address; that takes a stop and a start.
    """
    options = replace(ServeOptions.from_argv([plan.options]), ready_fd=None)
    home = resolve_home(env, options.config_file)
    config = load_config(home, env, options.flags, must_exist=options.config_file is not None)
    wanted, (host, port) = config.gateway, split_url(plan.url)
    if wanted.port not in (0, port) or split_url(url_of(wanted.host, port))[0] != host:
        raise AddressChanged(
            f"the configuration now says {wanted.host}:{wanted.port}, the daemon listens at {plan.url}",
            hint="dragoman stop, then dragoman serve",
        )
    fds = {child.role: child.fd for child in plan.on_demand}
    return plan._replace(
        version=__version__,
        gateway_argv=_gateway_argv(home, options, plan.rehearsal_url),
        on_demand=_on_demand(home, options, fds),
        config_file=str(home.config_file),
        config_in_force=str(_config_in_force(home)),
        workers=wanted.workers,
    )


def _config_in_force(home: Home) -> Path:
    return home.run / "config-in-force.toml"


def _gateway_argv(home: Home, options: ServeOptions, rehearsal_url: str) -> tuple[str, ...]:
    return (*_child_argv("gateway_process", home, options), "--rehearsal-url", rehearsal_url)


def _on_demand(home: Home, options: ServeOptions, fds: Mapping[str, int]) -> tuple[OnDemand, ...]:
    control = _child_argv("control_process", home, options)
    rehearsal = _child_argv("rehearsal_process", home, options)
    return (
        OnDemand("control", fds["control"], control, options.control_idle_s),
        OnDemand("rehearsal", fds["rehearsal"], rehearsal, grace_s=options.drain_s, ends_on_reload=True),
    )


def _child_argv(module: str, home: Home, options: ServeOptions) -> tuple[str, ...]:
    flags = {name: value for name, value in options.flags.items() if value is not None}
    python = (sys.executable, "-P", "-m", f"dragoman.daemon.{module}")
    return (*python, "--config", str(home.config_file), "--flags", json.dumps(flags))


def _settle_killed_applies(home: Home, warn: Callable[[str], None]) -> None:
    """Complete or take back what a killed apply left in a user's files; git is imported only for that."""
    if not any((home.state / "journal").glob("*.json")):
        return
    from dragoman.workspace import recover

    try:
        for found in recover(home.state):
            warn(f"an apply to {found.repository} had been killed: {found.outcome.replace('_', ' ')}")
    except DragomanError as error:
        warn(f"an apply had been killed and cannot be settled yet: {error.message}")


def _take_lock(home: Home) -> int:
    lock = FileLock(home.lock_file, note="daemon")
    try:
        lock.acquire()
    except LockHeld as held:
        where = read_daemon_json(home)
        if where is not None:
            sentence = f"dragoman is serving this home already, at {where.url} (pid {where.pid})"
        else:
            pid = f" (pid {held.holder.identity.pid})" if held.holder else ""
            sentence = f"another dragoman{pid} is just starting or stopping in this home"
        raise AlreadyServing(f"{sentence}: {home.run}", hint="dragoman status, or dragoman stop") from None
    return lock.fileno()


def _bind_tcp(host: str, port: int, *, patience_s: float) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise CannotListen(f"cannot listen on {host}: no such address", hint="check [gateway] host") from None
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            raise _cannot_listen(host, port, error) from None


def _cannot_listen(host: str, port: int, error: OSError) -> CannotListen:
    match error.errno:
        case errno.EADDRINUSE:
            return CannotListen(
                f"port {port} on {host} is taken by another program",
                hint="dragoman serve --port 0, which picks a free one; [gateway] port keeps another choice",
                code="port_taken",
            )
        case errno.EACCES:
            return CannotListen(
                f"port {port} needs rights this user does not have", hint="use a port over 1023"
            )
        case _:
            reason = error.strerror or "not possible"
            return CannotListen(f"cannot listen on {host}:{port}: {reason}", hint="check [gateway] host")


def _bind_unix(path: Path) -> socket.socket:
    """Bind beside and rename into place: a path that exists always leads to the newest daemon."""
    draft = path.with_name(path.name + "~")
    draft.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(draft))
        draft.chmod(0o600)
        sock.listen(_BACKLOG)
        draft.replace(path)
    except OSError as error:
        sock.close()
        raise CannotListen(f"cannot make the socket {path}: {error.strerror}") from None
    return sock


def main() -> None:
    """Start in the background (`OPTIONS`), or tell a running parent what to become (`--renew PLAN`)."""
    if sys.argv[1] == "--renew":
        _print_renewed(ServePlan.from_json(sys.argv[2]))
        return
    options = ServeOptions.from_argv(sys.argv[1:])
    try:
        become_daemon(options, os.environ, warn=_say)
    except DragomanError as error:
        _refuse(options, error)
    except OSError as error:
        # What no room foresaw of the user's surroundings: whoever waits is told, not only a file.
        where = f"{error.filename}: " if error.filename is not None else ""
        _refuse(options, DragomanError(f"{where}{error.strerror or error}", hint="dragoman doctor --offline"))


def _refuse(options: ServeOptions, error: DragomanError) -> NoReturn:
    _say(f"dragoman: {error.message}")
    if options.ready_fd is not None:
        os.write(options.ready_fd, json.dumps(_told(error)).encode() + b"\n")
    sys.exit(error.exit_code)


def _print_renewed(plan: ServePlan) -> None:
    import dragoman.daemon.parent  # noqa: F401 - what cannot be imported shall fail here, not after `exec`

    try:
        told = {"plan": renew(plan, os.environ).to_json()}
    except DragomanError as error:
        told = _told(error)
    print(json.dumps(told))  # noqa: T201


def _told(error: DragomanError) -> dict[str, str | None]:
    return {"message": error.message, "hint": error.hint, "code": error.code}


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()

"""`serve`, `status`, `stop`, `restart`, `reload`, `logs`, `token`: the daemon, seen from a terminal."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.render import show_json
from dragoman.config.paths import Home, resolve_home
from dragoman.errors import DragomanError, ExitCode

if TYPE_CHECKING:
    from dragoman.config.tokens import TokenRecord
    from dragoman.daemon.where import DaemonNote

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

# The daemon gives streams so long after a first SIGTERM, and itself a little more.
_STOP_PATIENCE_S = 40.0


def _home(config: Path | None = None) -> Home:
    return resolve_home(os.environ, config)


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on (default 127.0.0.1).")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on (default 4891); 0: a free one."
)
@click.option("--config", type=click.Path(path_type=Path), metavar="F", help="Read this dragoman.toml.")
@click.option("--workers", type=click.IntRange(1, 64), help="Number of gateway processes (default 1).")
@click.option(
    "--drain",
    "drain_s",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long open streams may take at the end.",
)
@click.option(
    "--control-idle",
    "control_idle_s",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the control process stays without a request.",
)
@click.option("--json", "as_json", is_flag=True, help="Print errors as JSON.")
def serve(
    host: str | None,
    port: int | None,
    config: Path | None,
    workers: int | None,
    drain_s: float,
    control_idle_s: float,
    as_json: bool,
) -> None:
    """Run the gateway in the foreground until it is told to stop.

    Prints `listening on http://HOST:PORT` when it answers.
    """
    from dragoman.daemon.starting import ServeOptions, become_daemon

    become_daemon(
        ServeOptions(host, port, config, workers, control_idle_s, drain_s),
        os.environ,
        warn=lambda text: click.echo(f"dragoman: {text}", err=True),
    )


@click.command()
@AS_JSON
def status(as_json: bool) -> int:
    """Say what is running, where, and since when. Exit code 1 when nothing is."""
    from dragoman.daemon.health import is_healthy
    from dragoman.daemon.where import read_daemon_json

    home = _home()
    note = read_daemon_json(home)
    answers = note is not None and is_healthy(note.url)
    if as_json:
        show_json(_status_json(home, note, answers))
    elif note is None:
        click.echo(f"dragoman is not running ({home.run})")
        click.echo("  next: dragoman serve")
    else:
        click.echo(f"{note.url}  {'answers' if answers else 'DOES NOT ANSWER'}")
        click.echo(f"  version {note.version}, pid {note.pid}, up {_age(time.time() - note.since)}")
        for child in note.children:
            click.echo(f"  {child.role} {child.index}: {child.state}, pid {child.pid}")
        if not any(child.role == "control" for child in note.children):
            click.echo("  control: asleep, starts when needed")
        if note.reloads.message is not None:
            click.echo(f"  dragoman.toml was REFUSED, the one before it is in force: {note.reloads.message}")
        click.echo(f"  home {home.state}")
    return ExitCode.OK if answers else ExitCode.FAILED


def _status_json(home: Home, note: DaemonNote | None, answers: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"running": note is not None, "answers": answers, "home": str(home.state)}
    if note is not None:
        answer |= {"url": note.url, "pid": note.pid, "version": note.version, "since": note.since}
        answer["children"] = [
            {"role": child.role, "index": child.index, "pid": child.pid, "state": child.state}
            for child in note.children
        ]
        answer["config_error"] = note.reloads.message
    return answer


@click.command()
@click.option("--now", is_flag=True, help="Cut open streams instead of waiting for them.")
@AS_JSON
def stop(now: bool, as_json: bool) -> int:
    """Let open streams finish, then stop. Stopping what does not run is fine."""
    from dragoman.daemon.stopping import stop_daemon

    stopped = stop_daemon(_home(), now=now, timeout_s=_STOP_PATIENCE_S)
    if as_json:
        show_json({"stopped": stopped is not None, "pid": stopped})
    else:
        click.echo("dragoman is not running" if stopped is None else f"stopped (pid {stopped})")
    return ExitCode.OK


@click.command()
@AS_JSON
def restart(as_json: bool) -> int:
    """Replace every process by what is installed now; no stream is cut. Starts what does not run."""
    from dragoman.daemon.changing import NotRunning, restart_daemon
    from dragoman.daemon.connect import ensure_daemon

    home = _home()
    try:
        note = restart_daemon(home)
        url, pid, version = note.url, note.pid, note.version
    except NotRunning:
        handle = ensure_daemon(home)
        url, pid, version = handle.url, handle.pid, handle.version
    if as_json:
        show_json({"url": url, "pid": pid, "version": version})
    else:
        click.echo(f"dragoman {version} serves at {url} (pid {pid})")
    return ExitCode.OK


@click.command()
@AS_JSON
def reload(as_json: bool) -> int:
    """Take a changed dragoman.toml into use; a wrong one is refused and changes nothing."""
    from dragoman.daemon.changing import reload_daemon

    note = reload_daemon(_home())
    if as_json:
        show_json({"reloaded": True, "url": note.url, "pid": note.pid})
    else:
        click.echo("reloaded")
    return ExitCode.OK


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines as they are: one JSON object each.")
def logs(follow: bool, lines: int, as_json: bool) -> int:
    """Show what the daemon's processes wrote down; never a prompt, an answer or a secret."""
    from dragoman.daemon import log_reading

    path = _home().logs / "daemon.log"
    here = log_reading.size_of(path)
    for line in log_reading.last_lines(path, lines, until=here):
        click.echo(line if as_json else log_reading.for_people(line))
    if follow:
        for line in log_reading.follow(path, start=here):
            click.echo(line if as_json else log_reading.for_people(line))
    return ExitCode.OK


@click.group(invoke_without_command=True)
@click.option("--ensure", is_flag=True, help="Start the daemon first when it does not run.")
@AS_JSON
@click.pass_context
def token(context: click.Context, ensure: bool, as_json: bool) -> None:
    """Print the data token, alone on stdout; it reads a file and starts nothing.

    That is what a client's `auth.command` runs. The subcommands manage further tokens.
    """
    context.obj = as_json
    if context.invoked_subcommand is None:
        context.invoke(show_token, ensure=ensure, as_json=as_json)


@token.command("show")
@click.option("--ensure", is_flag=True, help="Start the daemon first when it does not run.")
@AS_JSON
def show_token(ensure: bool, as_json: bool) -> None:
    """Print the data token, alone on stdout."""
    from dragoman.config.tokens import ensure_data_token

    home = _home()
    if ensure:
        from dragoman.daemon.connect import ensure_daemon

        ensure_daemon(home)
    secret = ensure_data_token(home)
    if as_json:
        show_json({"token": secret})
    else:
        click.echo(secret)


@token.command("create")
@click.option("--models", metavar="A,B", help="The only models it may ask for.")
@click.option("--requests", type=click.IntRange(0), help="Model calls it may make in all.")
@click.option("--tokens", type=click.IntRange(0), help="Input plus output tokens it may use in all.")
@click.option("--usd", type=click.FloatRange(0), help="Money it may spend in all.")
@click.option("--expires", metavar="TIME", help="When it ends: 90s, 30m, 12h or 7d from now.")
@click.option("--label", help="A name for people.")
@click.option(
    "--scope",
    type=click.Choice(["data", "control"]),
    default="data",
    show_default=True,
    help="data: model calls; control: everything.",
)
@AS_JSON
@click.pass_context
def create_token(
    context: click.Context,
    models: str | None,
    requests: int | None,
    tokens: int | None,
    usd: float | None,
    expires: str | None,
    label: str | None,
    scope: str,
    as_json: bool,
) -> None:
    """Make a token and print its secret, alone on stdout. It is shown this once."""
    from dragoman.config.tokens import TokenLimits, mint

    now, home = time.time(), _home()
    if usd is not None and not math.isfinite(usd):
        raise click.BadParameter(f"{usd} is no limit", param_hint="--usd")
    minted = mint(
        home,
        "control" if scope == "control" else "data",
        models=_names(models),
        limits=TokenLimits(requests, tokens, usd),
        expires_at=None if expires is None else now + _seconds(expires),
        label=label,
        now=now,
    )
    if usd is not None:
        _look_prices_up(home)
    if as_json or context.obj:
        show_json({"secret": minted.secret, "token": _token_json(minted.record, now)})
    else:
        click.echo(minted.secret)


@token.command("list")
@AS_JSON
@click.pass_context
def show_tokens(context: click.Context, as_json: bool) -> None:
    """List every token: id, scope, limits, expiry. Secrets are not known."""
    from dragoman.config.tokens import list_tokens

    now = time.time()
    records = list_tokens(_home())
    if as_json or context.obj:
        show_json({"tokens": [_token_json(record, now) for record in records]})
        return
    if not records:
        click.echo("no tokens yet")
    for record in records:
        click.echo(_token_line(record, now))


@token.command("revoke")
@click.argument("id")
@AS_JSON
@click.pass_context
def revoke_token(context: click.Context, id: str, as_json: bool) -> None:
    """End a token by its id, or the first 8 or more characters of it."""
    from dragoman.config.tokens import revoke

    record = revoke(_home(), id)
    if as_json or context.obj:
        show_json({"revoked": _token_json(record, time.time())})
    else:
        click.echo(f"revoked {record.id[:12]}: gateways refuse it within half a second")


def _look_prices_up(home: Home) -> None:
    """A limit in money is kept by prices, and control, which writes them down, may not have run yet."""
    from dragoman.config.load import load_config
    from dragoman.gateway.routes import RouteTable
    from dragoman.ledger.tariffs import ensure_tariffs

    try:
        wrong = ensure_tariffs(home, RouteTable(load_config(home, os.environ)))
    except DragomanError as error:
        wrong = error.message
    if wrong is not None:
        click.echo(f"prices were not looked up ({wrong}): a model without one refuses this token", err=True)


def _names(models: str | None) -> tuple[str, ...] | None:
    if models is None:
        return None
    return tuple(name.strip() for name in models.split(",") if name.strip())


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or float(found[1]) == 0:
        raise click.BadParameter(f"{text!r} is not a time like 90s, 30m, 12h or 7d", param_hint="--expires")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]


def _token_json(record: TokenRecord, now: float) -> dict[str, Any]:
    from dragoman.control.describe import describe_token

    return describe_token(record, now)


def _token_line(record: TokenRecord, now: float) -> str:
    limits = [
        f"{value} {name}"
        for name, value in (
            ("requests", record.limits.requests),
            ("tokens", record.limits.tokens),
            ("USD", record.limits.usd),
        )
        if value is not None
    ]
    if record.models is not None:
        limits.append("models " + ", ".join(record.models))
    if record.is_expired(now):
        limits.append("EXPIRED")
    elif record.expires_at is not None:
        limits.append(f"ends in {_age(record.expires_at - now)}")
    parts = [record.id[:12], f"{record.scope:<7}", record.label or record.run or "-", "; ".join(limits)]
    return "  ".join(part for part in parts if part)


def _age(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

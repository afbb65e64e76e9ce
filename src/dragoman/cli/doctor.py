"""`doctor`: looks at everything, says what is wrong and what to do about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dragoman import __version__
from dragoman.cli.render import show_json
from dragoman.config.paths import Home, resolve_home
from dragoman.errors import DragomanError, ExitCode

if TYPE_CHECKING:
    from dragoman.clients.checks import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "blue"}


@click.command()
@click.option("--offline", is_flag=True, help="Do not ask the gateway.")
@click.option("--verbose", "-v", is_flag=True, help="Show details of every finding.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(offline: bool, verbose: bool, as_json: bool) -> int:
    """Check programs, configuration, keys, files and the gateway; each finding comes with its fix.

    Exit code 1 only when something FAILs. No key or token is ever shown.
    """
    findings = list(_look(resolve_home(os.environ), offline=offline))
    failed = any(finding.verdict == "fail" for finding in findings)
    if as_json:
        show_json(
            {
                "ok": not failed,
                "findings": [
                    {
                        "name": finding.name,
                        "verdict": finding.verdict,
                        "text": finding.text,
                        "fix": finding.fix,
                        "details": list(finding.details),
                    }
                    for finding in findings
                ],
            }
        )
    else:
        for finding in findings:
            word = click.style(f"{finding.verdict.upper():<4}", fg=_COLOURS[finding.verdict])
            click.echo(f"{word}  {finding.name:<14}  {finding.text}")
            if finding.fix and finding.verdict != "ok":
                click.echo(f"      {'':<14}  next: {finding.fix}")
            for line in finding.details if verbose else ():
                click.echo(f"      {'':<14}  {line}")
    return ExitCode.FAILED if failed else ExitCode.OK


def _look(home: Home, *, offline: bool) -> Iterator[Finding]:
    from dragoman.bridge.checks import check_bridge
    from dragoman.clients import checks
    from dragoman.config.load import load_config
    from dragoman.gateway.routes import RouteTable

    python = ".".join(map(str, sys.version_info[:3]))
    yield checks.Finding("dragoman", "ok", f"{__version__} on Python {python}, state in {home.state}")
    yield checks.check_git()
    try:
        config = load_config(home, os.environ)
        routes = RouteTable(config)
    except DragomanError as error:
        yield checks.Finding("config", "fail", error.message, error.hint)
        return
    where = str(home.config_file) if config.source.file else f"no {home.config_file}: defaults"
    yield checks.Finding("config", "ok", where)
    yield from checks.check_providers(home, os.environ, config, routes)
    yield checks.check_routes(routes)
    yield from checks.check_names(routes)
    yield from checks.check_files(home, os.environ, routes)
    yield from checks.check_clients(os.environ, config)
    yield from check_bridge(home, os.environ, config)
    if offline:
        yield checks.Finding("gateway", "skip", "not asked")
        return
    yield from _look_at_gateway(home, config.gateway.port)


def _look_at_gateway(home: Home, port: int) -> Iterator[Finding]:
    import httpx

    from dragoman.clients import checks
    from dragoman.config.tokens import read_kept_token
    from dragoman.daemon.connect import find_daemon
    from dragoman.daemon.health import is_healthy

    daemon = find_daemon(home)
    if daemon is None:
        yield checks.Finding(
            "gateway", "skip", "not running; clients start it when they need it", "dragoman serve"
        )
        yield from checks.check_client_config(os.environ, f"http://127.0.0.1:{port}")
        return
    if not is_healthy(daemon.url):
        yield checks.Finding(
            "gateway", "fail", f"{daemon.url} does not answer", "dragoman stop, then dragoman serve"
        )
        return
    yield checks.Finding("gateway", "ok", f"{daemon.url}, version {daemon.version}, pid {daemon.pid}")
    token = read_kept_token(home.data_token_file) or ""
    try:
        answer = httpx.get(
            f"{daemon.url}/v1/models",
            params={"client_version": "doctor"},
            headers={"Authorization": f"Bearer {token}", "originator": "codex_doctor"},
            timeout=5,
            trust_env=False,
        )
        known = len(answer.json()["models"])
        yield checks.Finding("catalogue", "ok", f"{known} models as Codex reads them")
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        yield checks.Finding("catalogue", "fail", "Codex could not read the list of models", "dragoman logs")
    yield from checks.check_client_config(os.environ, daemon.url)

"""`smoke` and `providers check`: real questions through the gateway, to see that answers come back."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.render import show_json
from dragoman.config.paths import Home, resolve_home
from dragoman.errors import DragomanError, ExitCode

if TYPE_CHECKING:
    from dragoman.clients.trial import Trial
    from dragoman.config.schema import Config
    from dragoman.gateway.routes import RouteTable
    from dragoman.wire.turns import Wire

_PROVES = (
    "The gateway runs, takes your token, finds the route and the key, and a whole answer comes back the way "
    "each client reads it. Whether a client is set up to ask here: dragoman doctor."
)
_PROVES_EMBEDDED = (
    "Only the embedded model was asked: the gateway and both wires work, no provider was reached. "
    "Add one with: dragoman setup"
)


# A first call of a slow model, and a second after a tool's answer.
_PACKET_TIMEOUT_S = 180.0
# The way is on trial here, not the model: an answer that is not all true came the whole way too.
_ANSWERED = ("success", "partial")


class NoModelKnown(DragomanError):
    """There is a provider, and nobody knows what to ask it for."""

    code = "no_model_known"


@click.command()
@click.option("--model", metavar="NAME", help="Ask for this model (default: the default provider's own).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def smoke(model: str | None, as_json: bool) -> int:
    """Ask the default provider one small question as Codex and as Claude Code would. Exit code 0 or 1.

    The question goes the whole way: gateway, token, route, key, provider, and back. Then one read-only packet
    is delegated in a scratch repository: engine, copy, sandbox, worker and result. Nothing of yours is read.
    """
    from dragoman.catalog.models import REHEARSAL
    from dragoman.clients.setup_all import CLIENTS, first_model
    from dragoman.config.load import load_config
    from dragoman.gateway.routes import RouteTable

    home = resolve_home(os.environ)
    config = load_config(home, os.environ)
    routes = RouteTable(config)
    asked = model or first_model(config, routes)
    if asked is None:
        real = [upstream.name for upstream in routes.upstreams.values() if not upstream.embedded]
        if real:
            hint = f"dragoman smoke --model {config.gateway.default_provider or real[0]}/NAME"
            raise NoModelKnown(f"no model of {', '.join(real)} is known", hint=hint)
        asked = REHEARSAL
    embedded = routes.resolve(asked, "responses").embedded
    return ask_as(
        CLIENTS,
        home,
        routes,
        asked,
        proves=_PROVES_EMBEDDED if embedded else _PROVES,
        packet_for=config,
        as_json=as_json,
    )


def ask_as(
    clients: Iterable[str],
    home: Home,
    routes: RouteTable,
    model: str,
    *,
    proves: str = _PROVES,
    packet_for: Config | None = None,
    as_json: bool,
) -> int:
    """Ask for a model on the wire of each client, starting the daemon if need be, and say how it went.

    Args:
        clients: whose wires.
        home: whose gateway.
        routes: what can be reached.
        model: the name asked for.
        proves: what is said when all went well.
        packet_for: the configuration a packet is delegated under as well; None delegates none.
        as_json: print one JSON object.
    """
    wires: dict[str, Wire] = {"codex": "responses", "claude": "messages"}
    trials = _ask(home, [(model, wires[client]) for client in clients], routes, quiet=as_json)
    failed = not all(trial.ok for trial in trials)
    packet: dict[str, Any] | None = None
    # A provider that does not answer has been told of already; a worker would only wait for it.
    if packet_for is not None and not failed:
        packet = _delegate(home, packet_for, model)
        failed = packet["status"] not in _ANSWERED and packet["status"] != "skipped"
        if not as_json:
            _show_packet(packet)
    if as_json:
        rows = [_row(trial, routes) for trial in trials]
        show_json({"ok": not failed, "trials": rows, "packet": packet, "proves": proves})
    elif not failed:
        click.echo(proves)
    return ExitCode.FAILED if failed else ExitCode.OK


def check(home: Home, routes: RouteTable, name: str | None, model: str | None, *, as_json: bool) -> int:
    """Ask providers over every wire they offer.

    Args:
        home: whose gateway.
        routes: what can be reached.
        name: only this provider; all but the embedded one when None.
        model: the upstream's name of the model to ask for; the provider's own, or first listed, when None.
        as_json: print one JSON object.
    """
    questions: list[tuple[str, Wire]] = []
    silent: list[str] = []
    for upstream in routes.upstreams.values():
        if upstream.name != name and (name is not None or upstream.embedded):
            continue
        listed = (one.name for one in routes.models if one.provider == upstream.name)
        own = model or upstream.default_model or next(listed, None)
        if own is None:
            silent.append(upstream.name)
        # a client's own wire wins where it is offered, so asking on it reaches that endpoint as it is
        for wire in upstream.wires if own is not None else ():
            questions.append((f"{upstream.name}/{own}", wire))
    trials = _ask(home, questions, routes, quiet=as_json) if questions else []
    fine = all(trial.ok for trial in trials) and not silent
    if as_json:
        rows = [_row(trial, routes) for trial in trials]
        show_json({"ok": fine, "trials": rows, "no_model_known": silent})
    else:
        for provider in silent:
            click.echo(f"FAIL  {provider}: no model of it is known")
            click.echo(f"      next: dragoman providers check {provider} --model NAME")
        if not questions and not silent:
            click.echo("no provider is configured; next: dragoman setup")
    return ExitCode.OK if fine else ExitCode.FAILED


def _ask(home: Home, questions: list[tuple[str, Wire]], routes: RouteTable, *, quiet: bool) -> list[Trial]:
    from dragoman.clients.trial import run_trial
    from dragoman.config.tokens import ensure_data_token
    from dragoman.daemon.connect import ensure_daemon

    daemon = ensure_daemon(home)
    token = ensure_data_token(home)
    trials: list[Trial] = []
    for model, wire in questions:
        trial = run_trial(daemon.url, token, model=model, wire=wire)
        trials.append(trial)
        if not quiet:
            _show(trial, routes)
    return trials


def _delegate(home: Home, config: Config, model: str) -> dict[str, Any]:
    """Delegate one question about a scratch repository; how it went."""
    from dragoman.cli.control_client import ControlClient
    from dragoman.clients.claude_code import ClaudeCodeMissing, find_claude_code
    from dragoman.daemon.connect import ensure_daemon
    from dragoman.jobs.delegate_result import delegate_result

    if config.delegation.worker == "claude":
        try:
            find_claude_code(config.clients.claude, os.environ)
        except ClaudeCodeMissing as error:
            # Who has none works without one; who names one that is not there has made a mistake.
            status = "failed" if config.clients.claude else "skipped"
            return {"status": status, "error": error.message, "next": error.hint}
    with tempfile.TemporaryDirectory(prefix="dragoman-smoke-") as folder:
        _make_repository(Path(folder))
        request = {
            "task": "Say in one sentence what NOTES.md holds.",
            "cwd": folder,
            "kind": "query",
            "model": model,
            "timeout_s": _PACKET_TIMEOUT_S,
            "asker": {"client": "cli"},
        }
        with ControlClient(home, ensure_daemon(home).url) as control:
            job = control.post("/jobs", request)["job"]
            try:
                while job["status"] in ("queued", "running"):
                    job = control.get(f"/jobs/{job['job_id']}", wait_s="15")["job"]
            except BaseException:
                control.post(f"/jobs/{job['job_id']}/cancel", {})
                raise
            outcome = delegate_result(job, control.get(f"/jobs/{job['job_id']}/result")["result"])
    return {
        "status": outcome["status"],
        "job_id": outcome["job_id"],
        "isolation": outcome["isolation"],
        "answer": outcome["result"],
        "error": outcome["error"],
        "next": outcome["next"],
        "seconds": round(outcome["overall_wall_ms"] / 1000, 3),
    }


def _make_repository(folder: Path) -> None:
    (folder / "NOTES.md").write_text("dragoman was here.\n", encoding="utf-8")
    for words in (
        ("init", "--quiet"),
        ("add", "--all"),
        ("-c", "user.name=Smoke", "-c", "user.email=smoke@localhost", "-c", "commit.gpgsign=false",
         "commit", "--quiet", "--no-verify", "--message=Notes"),
    ):  # fmt: skip
        subprocess.run(("git", "-C", str(folder), *words), check=True, capture_output=True)


def _show_packet(packet: dict[str, Any]) -> None:
    match packet["status"]:
        case "success" | "partial":
            level = (packet["isolation"] or {}).get("level", "none")
            said = f"{_short(packet['answer'] or '')} ({packet['seconds']:.1f} s, {level})"
            click.echo(f"{click.style('OK', fg='green')}    one packet, read-only, by a worker: {said}")
        case "skipped":
            click.echo(f"{click.style('SKIP', fg='yellow')}  no packet was delegated: {packet['error']}")
        case status:
            why = packet["error"] or status
            click.echo(f"{click.style('FAIL', fg='red')}  one packet, read-only, by a worker: {why}")
            click.echo(f"      next: {packet['next'] or 'dragoman doctor'}")


def _show(trial: Trial, routes: RouteTable) -> None:
    route = routes.resolve(trial.model, trial.wire)
    way = route.wire if route.native else f"{trial.wire}, translated to {route.wire}"
    where = f"{trial.model} as {trial.client} asks: {route.provider} over {way}"
    if trial.ok:
        said = f"{_short(trial.answer or '')} ({trial.seconds:.1f} s)"
        click.echo(f"{click.style('OK', fg='green')}    {where}: {said}")
        return
    click.echo(f"{click.style('FAIL', fg='red')}  {where}: {trial.trouble}")
    click.echo(f"      next: {trial.hint}")


def _row(trial: Trial, routes: RouteTable) -> dict[str, Any]:
    route = routes.resolve(trial.model, trial.wire)
    return {
        "model": trial.model,
        "client_wire": trial.wire,
        "provider": route.provider,
        "upstream_model": route.upstream_model,
        "wire": route.wire,
        "ok": trial.ok,
        "answer": trial.answer,
        "error": trial.trouble,
        "next": trial.hint,
        "seconds": round(trial.seconds, 3),
    }


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 60 else text[:59] + "…")

"""`setup`, `uninstall`, `print-config`, `set-model`: what stands in the clients' own configuration."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.render import show_json
from dragoman.config.paths import Home, resolve_home
from dragoman.errors import DragomanError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dragoman.clients.setup_all import ClientName, ClientResult, SetupRequest, Surroundings
    from dragoman.clients.setup_codex import Part
    from dragoman.gateway.routes import RouteTable

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
CLIENT = click.option(
    "--client", type=click.Choice(["codex", "claude"]), help="Only this client (default: both)."
)


class NameUnknown(DragomanError):
    """A model name that leads nowhere."""

    code = "unknown_model"
    exit_code = ExitCode.USAGE


@click.command()
@click.option("--write", is_flag=True, help="Write the clients' files; changes are listed.")
@click.option("--print", "only_print", is_flag=True, help="Only show what would change.")
@CLIENT
@click.option("--only", type=click.Choice(["mcp", "provider"]), help="Write only this part.")
@click.option("--force", is_flag=True, help="Replace a model of yours that has no route here.")
@click.option("--project", is_flag=True, help="Write this project's configuration instead of yours.")
@click.option(
    "--allow-root", "allow_roots", multiple=True, metavar="P", help="A folder that may be delegated."
)
@AS_JSON
def setup(
    write: bool,
    only_print: bool,
    client: ClientName | None,
    only: Part | None,
    force: bool,
    project: bool,
    allow_roots: tuple[str, ...],
    as_json: bool,
) -> int:
    """Make Codex and Claude Code use this gateway. Your files keep every byte that is not ours.

    Without --write or --print it asks, at a terminal; `dragoman uninstall` takes everything back.
    """
    from dragoman.clients.setup_all import CLIENTS, SetupRequest, apply, preview
    from dragoman.clients.setup_codex import USUAL_PARTS

    if project and allow_roots:
        raise click.UsageError("--allow-root is for your own configuration, not for a project's")
    if allow_roots and (only == "provider" or client == "claude"):
        raise click.UsageError(
            "--allow-root belongs to Codex's tools: not with --only provider, --client claude"
        )
    if write and only_print:
        raise click.UsageError("choose --write or --print")
    request = SetupRequest(
        clients=(client,) if client else CLIENTS,
        parts=(only,) if only else USUAL_PARTS,
        allow_roots=tuple(_root(root) for root in allow_roots),
        project=Path.cwd() if project else None,
        force=force,
    )
    if not write and not only_print:
        return _ask(request, as_json=as_json)
    around = _surroundings()
    results = preview(around, request) if only_print else apply(around, request)
    _show(results, as_json=as_json, done=write, notes=_key_notes() if not project else ())
    return ExitCode.OK


@click.command()
@CLIENT
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--project", is_flag=True, help="This project's configuration instead of yours.")
@AS_JSON
def uninstall(client: ClientName | None, dry_run: bool, yes: bool, project: bool, as_json: bool) -> int:
    """Take everything of ours out of Codex's and Claude Code's configuration.

    A file you have not changed since gets its old bytes back; otherwise only our keys go.
    """
    from dragoman.clients.setup_all import CLIENTS, take_down

    clients: tuple[ClientName, ...] = (client,) if client else CLIENTS
    around = _surroundings()
    folder = Path.cwd() if project else None
    if not dry_run and not yes and sys.stdin.isatty():
        if as_json:
            raise click.UsageError("with --json say --yes or --dry-run")
        planned = take_down(around, clients, project=folder, dry_run=True)
        _show_plan(planned, False)
        if not any(result.edit.changed for result in planned):
            return ExitCode.OK
        click.confirm("Write this?", abort=True, err=True)
        _show_plan(take_down(around, clients, project=folder), True)
        return ExitCode.OK
    _show(take_down(around, clients, project=folder, dry_run=dry_run), as_json=as_json, done=not dry_run)
    return ExitCode.OK


@click.command("print-config")
@click.option("--source", metavar="P", help="Another dragoman program to name in it.")
@click.option("--project", is_flag=True, help="What belongs into a project's configuration.")
@AS_JSON
def print_config(source: str | None, project: bool, as_json: bool) -> int:
    """Print what belongs into ~/.codex/config.toml, to be pasted by hand."""
    from dragoman.clients.setup_codex import USUAL_PARTS, plan_codex
    from dragoman.clients.setup_record import plan_setup
    from dragoman.clients.toml_edit import TomlText

    around = _surroundings(source)
    plan = plan_codex(
        {},
        url=around.url,
        program=around.program,
        default_model=around.default_model,
        has_route=around.has_route,
        parts=("mcp",) if project else USUAL_PARTS,
    )
    text = plan_setup(TomlText(""), plan.wishes)[0].text
    if as_json:
        show_json({"text": text, "notes": list(plan.notes)})
    else:
        click.echo(text, nl=False)
    return ExitCode.OK


@click.command("set-model")
@click.argument("name")
@click.option("--client", type=click.Choice(["codex", "claude"]), default="codex", show_default=True)
@click.option("--force", is_flag=True, help="Take a name that has no route.")
@AS_JSON
def set_model(name: str, client: ClientName, force: bool, as_json: bool) -> int:
    """Choose the model a client starts with: one key of its configuration, nothing else."""
    from dragoman.clients.setup_all import set_model as choose

    around = _surroundings()
    if not force and not around.has_route(name):
        hint = f"dragoman models list; or take it anyway: dragoman set-model {name} --force"
        raise NameUnknown(f"no route for the model {name}", hint=hint)
    result = choose(around, client, name)
    _show([result], as_json=as_json, done=True)
    return ExitCode.OK


def program_path() -> str:
    """The absolute path of `dragoman`, as a client shall start it."""
    beside = Path(sys.executable).with_name("dragoman")
    return str(beside) if beside.exists() else shutil.which("dragoman") or str(beside)


def _surroundings(source: str | None = None) -> Surroundings:
    from dragoman.clients.setup_all import look_around
    from dragoman.config.load import load_config

    home: Home = resolve_home(os.environ)
    command = str(Path(source).expanduser().absolute()) if source else program_path()
    return look_around(home, os.environ, load_config(home, os.environ), command)


def _ask(request: SetupRequest, *, as_json: bool) -> int:
    """At a terminal: the wizard when nothing was said, else show everything first and write on yes."""
    from dragoman.clients.setup_all import SetupRequest, apply, preview

    if not sys.stdin.isatty() or as_json:
        raise click.UsageError("without a terminal say --write or --print")
    if request == SetupRequest():
        from dragoman.cli.wizard import run_wizard

        home = resolve_home(os.environ)
        return run_wizard(home, os.environ, program_path(), show=_show_plan, smoke=_smoke)
    around = _surroundings()
    planned = preview(around, request)
    _show_plan(planned, False)
    if not any(result.edit.changed for result in planned):
        return ExitCode.OK
    click.confirm("Write this?", abort=True, err=True)
    _show_plan(apply(around, request), True)
    return ExitCode.OK


def _smoke(home: Home, routes: RouteTable, clients: Sequence[ClientName], model: str) -> int:
    """Ask through a gateway that knows what was just written."""
    from dragoman.cli.smoke import ask_as
    from dragoman.daemon.changing import reload_daemon
    from dragoman.daemon.connect import find_daemon

    if find_daemon(home) is not None:
        reload_daemon(home)
    return ask_as(clients, home, routes, model, as_json=False)


def _key_notes() -> tuple[str, ...]:
    """What a gateway started by a client would miss."""
    from dragoman.clients.setup_provider import keys_only_in_environment
    from dragoman.config.load import load_config
    from dragoman.gateway.routes import RouteTable

    home = resolve_home(os.environ)
    routes = RouteTable(load_config(home, os.environ))
    return tuple(key.note for key in keys_only_in_environment(home, os.environ, routes))


def _show_plan(results: list[ClientResult], done: bool) -> None:
    """Before the question with every line, after it without: those lines were just read."""
    _show(results, as_json=False, done=done, lines=not done)


def _show(
    results: list[ClientResult],
    *,
    as_json: bool,
    done: bool,
    lines: bool = True,
    notes: tuple[str, ...] = (),
) -> None:
    if as_json:
        clients = [_as_json(result) for result in results]
        show_json({"written": done, "clients": clients, "notes": list(notes)})
        return
    for result in results:
        edit = result.edit
        verb = "unchanged" if not edit.changed else "written" if done else "would change"
        click.echo(f"{edit.path}  {'removed' if edit.removed and done else verb}")
        for line in edit.diff if lines else ():
            click.echo(click.style(f"  {line}", fg="green" if line.startswith("+") else "red"))
        if edit.backup is not None:
            click.echo(f"  backup: {edit.backup}")
        for note in result.notes if lines else ():
            click.echo(f"  note: {note}")
    for note in notes:
        click.echo(f"note: {note}")


def _as_json(result: ClientResult) -> dict[str, Any]:
    edit = result.edit
    return {
        "client": result.client,
        "path": str(edit.path),
        "changed": edit.changed,
        "removed": edit.removed,
        "diff": list(edit.diff),
        "backup": str(edit.backup) if edit.backup else None,
        "also_removed": [".".join(path) for path in edit.lost],
        "project_trusted": result.trusted,
        "notes": list(result.notes),
    }


def _root(text: str) -> str:
    return str(Path(text).expanduser().resolve())

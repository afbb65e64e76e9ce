"""`lead` and what belongs to it: the interactive bridge, seen from a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dragoman.config.paths import Home, resolve_home
from dragoman.errors import ExitCode

if TYPE_CHECKING:
    from dragoman.config.schema import Config

AS_IS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def supervisor_home(home: Home, config: Config) -> Path:
    """Where the lead works: the configured folder, else one in the state folder."""
    chosen = config.bridge.supervisor_home
    return Path(chosen).expanduser().absolute() if chosen else home.state / "supervisor"


def _say(text: str) -> None:
    click.echo(f"dragoman: {text}", err=True)


@click.command(context_settings=AS_IS, add_help_option=False)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def lead(words: Sequence[str]) -> int:
    """Let Codex lead one interactive Claude Code in this folder. All words go to Codex."""
    import datetime
    import secrets
    import uuid

    from dragoman.bridge.launch import RunningBridge, plan_lead, run_lead, write_commands
    from dragoman.bridge.session import bridge_plan, create_session, write_plan
    from dragoman.bridge.supervisor import STALE_NOTICE, ensure_supervisor, is_stale
    from dragoman.clients.claude_code import find_claude_code
    from dragoman.clients.codex_program import find_codex
    from dragoman.config.load import load_config

    env = dict(os.environ)
    home = resolve_home(env)
    config = load_config(home, env)
    home.ensure()
    settings = config.bridge
    program, arguments = _command(settings.command)
    claude = find_claude_code(program or config.clients.claude, env)
    codex = find_codex(config.clients.codex, env)
    folder = supervisor_home(home, config)
    for name in ensure_supervisor(folder):
        _say(f"made {folder / name}")
    if is_stale(folder):
        click.echo(STALE_NOTICE, err=True)
    now = datetime.datetime.now(datetime.UTC)
    session = create_session(
        home,
        session_id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        claude_session_id=str(uuid.uuid4()),
        project=Path.cwd(),
        supervisor_home=folder,
        created_at=now.isoformat(timespec="seconds"),
        env=env,
    )
    write_plan(session, bridge_plan(claude.path, arguments, settings))
    write_commands(session, sys.executable)
    bridge = RunningBridge(session, env, _say)
    try:
        state = bridge.wait_ready()
        if state["status"] == "needs_permission":
            _say(
                "Claude Code asks something at its start: answer with `dragoman attach`, or let the lead ask"
            )
        return run_lead(plan_lead(codex.path, words, session, folder, env))
    finally:
        bridge.stop()


def _command(command: str | tuple[str, ...] | None) -> tuple[str | None, list[str]]:
    match command:
        case None:
            return None, []
        case str():
            return command, []
        case _:
            return command[0], list(command[1:])


def _passed_on(name: str, summary: str) -> click.Command:
    """A command of the session: its words are read by the small program the lead's shell runs directly."""

    @click.command(name, context_settings=AS_IS, add_help_option=False, help=summary)
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    @AS_JSON
    def command(words: Sequence[str], as_json: bool) -> int:
        from dragoman.bridge import client

        try:
            # Options first: the prompt may stand behind `--`.
            return client.main([name, *(["--json"] if as_json else []), *words])
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else ExitCode.USAGE

    return command


cc_send = _passed_on("cc-send", "Give Claude Code a prompt and wait for the end of its turn.")
cc_input = _passed_on("cc-input", "Press one key in Claude Code and wait for what follows.")
cc_status = _passed_on("cc-status", "Say how the bridge stands.")


@click.command("migrate-supervisor")
@AS_JSON
def migrate(as_json: bool) -> None:
    """Renew the lead's rules in the supervisor's folder. Your own words and MEMORY.md stay."""
    from dragoman.bridge.supervisor import migrate_supervisor
    from dragoman.cli.render import show_json
    from dragoman.config.load import load_config

    home = resolve_home(os.environ)
    folder = supervisor_home(home, load_config(home, os.environ))
    done = migrate_supervisor(folder)
    if as_json:
        files = [
            {"name": d.name, "what": d.what, "backup": str(d.backup) if d.backup else None} for d in done
        ]
        show_json({"supervisor_home": str(folder), "files": files})
        return
    for one in done:
        click.echo(f"{folder / one.name}: {one.what}" + (f", as it was: {one.backup}" if one.backup else ""))

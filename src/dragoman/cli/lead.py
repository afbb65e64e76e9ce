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
    from dragoman.bridge.session import SessionFolder

AS_IS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _say(text: str) -> None:
    click.echo(f"dragoman: {text}", err=True)


class _Verbatim(click.Command):
    """Hands every word on as it is; click itself would take a `--` away, and with it what it protects."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["words"] = tuple(args)
        return []


@click.command(cls=_Verbatim, context_settings=AS_IS, add_help_option=False)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def lead(words: Sequence[str]) -> int:
    """Let Codex lead one interactive Claude Code in this folder. All words go to Codex."""
    import datetime
    import secrets
    import uuid

    from dragoman.bridge.launch import RunningBridge, plan_lead, run_lead, write_commands
    from dragoman.bridge.session import bridge_plan, create_session, write_plan
    from dragoman.bridge.supervisor import STALE_NOTICE, ensure_supervisor, is_stale, supervisor_home
    from dragoman.cli.lead_gateway import claude_variables, codex_words, without_own_account
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
    variables: dict[str, str] = {}
    notes: list[str | None] = []
    claude_env = env
    if settings.gateway:
        variables, note = claude_variables(home, config, arguments, env)
        claude_env = without_own_account(env)
        notes.append(note)
    if settings.lead_gateway:
        words, note = codex_words(home, config, codex.path, words, env)
        notes.append(note)
    for note in filter(None, notes):
        _say(note)
    folder = supervisor_home(home, settings)
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
        env=claude_env,
    )
    write_plan(session, bridge_plan(claude.path, arguments, settings, variables=variables))
    write_commands(session, sys.executable)
    bridge = RunningBridge(session, claude_env, _say)
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

    @click.command(name, cls=_Verbatim, context_settings=AS_IS, add_help_option=False, help=summary)
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    @AS_JSON  # read by the program itself, with all the rest
    def command(words: Sequence[str]) -> int:
        from dragoman.bridge import client

        try:
            return client.main([name, *words])
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
    from dragoman.bridge.supervisor import migrate_supervisor, supervisor_home
    from dragoman.cli.render import show_json
    from dragoman.config.load import load_config

    home = resolve_home(os.environ)
    folder = supervisor_home(home, load_config(home, os.environ).bridge)
    done = migrate_supervisor(folder)
    if as_json:
        files = [
            {"name": d.name, "what": d.what, "backup": str(d.backup) if d.backup else None} for d in done
        ]
        show_json({"supervisor_home": str(folder), "files": files})
        return
    for one in done:
        click.echo(f"{folder / one.name}: {one.what}" + (f", as it was: {one.backup}" if one.backup else ""))


@click.command("attach")
@click.argument("session", required=False)
@click.option("--type", "typing", is_flag=True, help="Type too; without it you only watch.")
@click.option("--fit", is_flag=True, help="With --type: make the session's terminal as large as yours.")
def attach(session: str | None, typing: bool, fit: bool) -> int:
    """Join the terminal of a session that runs. ctrl-] leaves; the session goes on."""
    from dragoman.bridge.join import Seat, connect
    from dragoman.bridge.join import attach as join

    folder = _session(resolve_home(os.environ), session)
    connection = connect(folder.attach_socket)
    how = "you can type" if typing else "you only watch (--type to type)"
    _say(f"session {folder.path.name}: {how}; ctrl-] leaves")
    seat = Seat(sys.stdin.fileno(), sys.stdout.fileno())
    ended = join(connection, seat, "type" if typing else "watch", follow_size=fit)
    _say("the session ended" if ended == "ended" else "left; the session goes on")
    return ExitCode.OK


def _session(home: Home, name: str | None, *, running: bool = True) -> SessionFolder:
    """The session of that name (or the first letters of it), else the newest one that runs."""
    from dragoman.bridge.mailbox import Mailbox
    from dragoman.bridge.session import SessionUnknown, open_sessions

    found = [one for one in open_sessions(home) if name is None or one.path.name.startswith(name)]
    if running:
        found = [one for one in found if Mailbox(one.bridge).bridge_lives()]
    if not found:
        what = f"no session {name}" if name else "no session"
        raise SessionUnknown(
            f"{what} {'runs' if running else 'is there'}", hint="start one with `dragoman lead`"
        )
    return found[0]


@click.group("bridge")
def bridge() -> None:
    """Settings, sessions and recordings of the bridge."""


@bridge.command("sessions")
@AS_JSON
def show_sessions(as_json: bool) -> None:
    """List sessions, the newest first."""
    from dragoman.bridge.listing import describe_sessions
    from dragoman.cli.render import show_json

    rows = describe_sessions(resolve_home(os.environ))
    if as_json:
        show_json({"sessions": rows})
        return
    if not rows:
        click.echo("no sessions yet\n  next: dragoman lead")
    for row in rows:
        runs = "runs" if row["runs"] else "ended"
        click.echo(f"{row['session_id']}  {runs:<5}  {row['status'] or '-'}  {row['project_path']}")


@bridge.command("export")
@click.argument("session", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="F", help="Where to write it.")
@AS_JSON
def export(session: str | None, output: Path | None, as_json: bool) -> None:
    """Write a session's terminal as an asciicast, with all that was to be seen (play it with asciinema)."""
    from dragoman.bridge.session import SessionUnknown
    from dragoman.cli.render import show_json
    from dragoman.config.files import write_private_file

    folder = _session(resolve_home(os.environ), session, running=False)
    try:
        content = folder.recording.read_bytes()
    except OSError as error:
        raise SessionUnknown(f"session {folder.path.name} has no recording: {error.strerror}") from None
    target = output or Path(f"{folder.path.name}.cast")
    write_private_file(target.absolute(), content)
    if as_json:
        show_json({"session_id": folder.path.name, "file": str(target.absolute()), "bytes": len(content)})
    else:
        click.echo(f"{target}: {len(content):,} bytes")


@bridge.group("config")
def bridge_config() -> None:
    """The `[bridge]` section of dragoman.toml."""


@bridge_config.command("show")
@AS_JSON
def show_config(as_json: bool) -> None:
    """Print the settings in force."""
    import msgspec

    from dragoman.bridge.supervisor import supervisor_home
    from dragoman.cli.render import show_json
    from dragoman.config.load import load_config

    home = resolve_home(os.environ)
    config = load_config(home, os.environ)
    folder = supervisor_home(home, config.bridge)
    values = msgspec.to_builtins(config.bridge) | {"supervisor_home": str(folder)}
    if as_json:
        show_json(values)
        return
    for key, value in values.items():
        click.echo(f"{key} = {'(found on PATH)' if value is None else value}")


@bridge_config.command("path")
@AS_JSON
def config_path(as_json: bool) -> None:
    """Print the file they stand in."""
    from dragoman.cli.render import show_json

    file = resolve_home(os.environ).config_file
    show_json({"path": str(file)}) if as_json else click.echo(file)


@bridge_config.command("reset")
@AS_JSON
def reset_config(as_json: bool) -> None:
    """Take the `[bridge]` section out of the file; everything else in it stays as it is."""
    from dragoman.bridge.settings import without_bridge_section
    from dragoman.cli.render import show_json
    from dragoman.config.files import read_small_file, write_private_file

    file = resolve_home(os.environ).config_file
    old = read_small_file(file) or b""
    new = without_bridge_section(old)
    if new != old:
        write_private_file(file, new)
    if as_json:
        show_json({"path": str(file), "changed": new != old})
    else:
        click.echo(
            f"{file}: " + ("the [bridge] section is gone" if new != old else "has no [bridge] section")
        )

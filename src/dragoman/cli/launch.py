"""`codex`, `claude`: the user's own client through the gateway, its configuration untouched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dragoman.cli.setup import program_path
from dragoman.config.paths import HOME_VARIABLE, Home, resolve_home

if TYPE_CHECKING:
    from dragoman.config.schema import Config
    from dragoman.gateway.routes import RouteTable

_ALL_WORDS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

# Codex commands that talk to no model: nothing is added to them.
_CODEX_WITHOUT_MODEL = frozenset(
    {
        "login",
        "logout",
        "mcp",
        "completion",
        "features",
        "plugin",
        "update",
        "help",
        "--help",
        "-h",
        "--version",
        "-V",
    }
)


@click.command(context_settings=_ALL_WORDS)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def codex(args: tuple[str, ...]) -> None:
    """Start Codex through the gateway; all words go to Codex."""
    from dragoman.clients.codex_program import find_codex
    from dragoman.clients.config_file import read_client_file
    from dragoman.clients.launch import asked_model, choose_model, plan_codex_launch
    from dragoman.clients.setup_all import client_file, first_model
    from dragoman.clients.setup_codex import Program
    from dragoman.clients.setup_record import open_document
    from dragoman.daemon.connect import ensure_daemon

    home, config, routes = _loaded()
    program = find_codex(config.clients.codex, os.environ).path
    if args and args[0] in _CODEX_WITHOUT_MODEL:
        _become([str(program), *args], dict(os.environ))
    asked = asked_model(args, ("-m", "--model"))
    tree = open_document(read_client_file(client_file("codex", os.environ, None))).tree
    configured = tree.get("model")
    chosen = choose_model(
        routes,
        "responses",
        asked=asked,
        configured=configured if isinstance(configured, str) else None,
        default=first_model(config, routes),
    )
    if chosen.note:
        click.echo(f"dragoman: {chosen.note}", err=True)
    daemon = ensure_daemon(home)
    ours = Program(program_path(), str(home.state.parent) if os.environ.get(HOME_VARIABLE) else None)
    model = None if asked is not None else chosen
    _become(plan_codex_launch(program, args, url=daemon.url, program=ours, model=model), dict(os.environ))


@click.command(context_settings=_ALL_WORDS)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def claude(args: tuple[str, ...]) -> None:
    """Start Claude Code through the gateway; all words go to Claude Code."""
    from dragoman.clients.claude_code import find_claude_code
    from dragoman.clients.config_file import read_client_file
    from dragoman.clients.launch import (
        choose_model,
        claude_asked_model,
        claude_configured_model,
        claude_launch_settings,
        encode_settings,
        launch_settings_file,
        plan_claude_launch,
    )
    from dragoman.clients.setup_all import client_file, first_model
    from dragoman.clients.setup_record import open_document
    from dragoman.config.files import write_private_file
    from dragoman.config.tokens import ensure_data_token
    from dragoman.daemon.connect import ensure_daemon

    home, config, routes = _loaded()
    program = find_claude_code(config.clients.claude, os.environ).path
    tree = open_document(read_client_file(client_file("claude", os.environ, None))).tree
    chosen = choose_model(
        routes,
        "messages",
        asked=claude_asked_model(args),
        configured=claude_configured_model(tree, os.environ),
        default=first_model(config, routes),
    )
    if chosen.note:
        click.echo(f"dragoman: {chosen.note}", err=True)
    daemon = ensure_daemon(home)
    settings = claude_launch_settings(
        url=daemon.url,
        token=ensure_data_token(home),
        model=chosen,
        claude_names_routed=any(upstream.is_anthropic for upstream in routes.upstreams.values()),
    )
    content = encode_settings(settings)
    file = launch_settings_file(home, content)
    write_private_file(file, content)
    argv, env = plan_claude_launch(program, args, os.environ, settings_file=file)
    _become(argv, env)


def _loaded() -> tuple[Home, Config, RouteTable]:
    from dragoman.config.load import load_config
    from dragoman.gateway.routes import RouteTable

    home = resolve_home(os.environ)
    config = load_config(home, os.environ)
    return home, config, RouteTable(config)


def _become(argv: list[str], env: dict[str, str]) -> None:
    """Let the client take this process over: its terminal, signals and exit code are its own."""
    os.execve(Path(argv[0]), argv, env)  # noqa: S606 - no shell: an argument list for the client the user named

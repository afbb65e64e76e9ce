"""`lead` through the gateway, for who asked for it: what Claude Code's settings and Codex's words get."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman.config.paths import HOME_VARIABLE, Home

if TYPE_CHECKING:
    from dragoman.config.schema import Config


def claude_variables(
    home: Home, config: Config, arguments: Sequence[str], env: Mapping[str, str]
) -> tuple[dict[str, str], str | None]:
    """What Claude Code's own settings put into its environment, and a note when its model was replaced.

    The same as for `dragoman claude`; the daemon is started when it does not run.
    """
    from dragoman.clients.config_file import read_client_file
    from dragoman.clients.launch import (
        choose_model,
        claude_asked_model,
        claude_configured_model,
        claude_launch_settings,
    )
    from dragoman.clients.setup_all import client_file, first_model
    from dragoman.clients.setup_record import open_document
    from dragoman.config.tokens import ensure_data_token
    from dragoman.daemon.connect import ensure_daemon
    from dragoman.gateway.routes import RouteTable

    routes = RouteTable(config)
    tree = open_document(read_client_file(client_file("claude", env, None))).tree
    chosen = choose_model(
        routes,
        "messages",
        asked=claude_asked_model(arguments),
        configured=claude_configured_model(tree, env),
        default=first_model(config, routes),
    )
    settings = claude_launch_settings(
        url=ensure_daemon(home).url,
        token=ensure_data_token(home),
        model=chosen,
        claude_names_routed=any(upstream.is_anthropic for upstream in routes.upstreams.values()),
    )
    return settings["env"], chosen.note


def codex_words(
    home: Home, config: Config, codex: Path, words: Sequence[str], env: Mapping[str, str]
) -> tuple[list[str], str | None]:
    """The user's words for Codex, the gateway in front of them, and a note when its model was replaced."""
    from dragoman.cli.setup import program_path
    from dragoman.clients.config_file import read_client_file
    from dragoman.clients.launch import asked_model, choose_model, plan_codex_launch
    from dragoman.clients.setup_all import client_file, first_model
    from dragoman.clients.setup_codex import Program
    from dragoman.clients.setup_record import open_document
    from dragoman.daemon.connect import ensure_daemon
    from dragoman.gateway.routes import RouteTable

    routes = RouteTable(config)
    asked = asked_model(words, ("-m", "--model"))
    configured = open_document(read_client_file(client_file("codex", env, None))).tree.get("model")
    chosen = choose_model(
        routes,
        "responses",
        asked=asked,
        configured=configured if isinstance(configured, str) else None,
        default=first_model(config, routes),
    )
    ours = Program(program_path(), str(home.state.parent) if os.environ.get(HOME_VARIABLE) else None)
    model = None if asked is not None else chosen
    argv = plan_codex_launch(codex, words, url=ensure_daemon(home).url, program=ours, model=model)
    return argv[1:], chosen.note


def without_own_account(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without the accounts Claude Code would prefer to its settings."""
    from dragoman.clients.launch import plan_claude_launch

    return plan_claude_launch(Path("claude"), (), env, settings_file=Path("settings"))[1]

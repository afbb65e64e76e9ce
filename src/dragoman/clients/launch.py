"""Starts the user's own Codex or Claude Code through the gateway, with settings for this one launch.

No configuration file of a client is touched. Codex takes overrides on its command line; Claude Code takes a
settings file, which wins over the user's own, and gets one that only the user can read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.clients.editing import lookup
from dragoman.clients.setup_codex import ENDLESS_RETRIES, NAME, Program, provider_table
from dragoman.clients.toml_edit import dotted, spelled
from dragoman.config.paths import Home
from dragoman.gateway.routes import RouteTable, UnknownModel
from dragoman.wire.turns import Wire

CLAUDE_ALIASES = frozenset({"default", "best", "opus", "sonnet", "haiku", "opusplan"})
"""Names Claude Code turns into models itself; the variables below say into which."""

_ALIAS_VARIABLES = (
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "CLAUDE_CODE_SUBAGENT_MODEL",
)


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """The model a launch starts with.

    Attributes:
        name: as the client asks for it.
        context_window, max_output_tokens: in tokens, None when unknown.
        note: a sentence when the user's own choice had to be replaced.
    """

    name: str
    context_window: int | None = None
    max_output_tokens: int | None = None
    note: str | None = None


def choose_model(
    routes: RouteTable, wire: Wire, *, asked: str | None, configured: str | None, default: str | None
) -> ChosenModel:
    """The model to start with: asked for on the command line, else configured in the client, else ours.

    Args:
        routes: what can be reached.
        wire: what the client speaks.
        asked: named on the command line; it must have a route.
        configured: what the client's own configuration says; replaced when it has no route.
        default: ours; the embedded model when None.

    Raises:
        UnknownModel: `asked` leads nowhere.
    """
    if asked is not None:
        return _described(routes, wire, asked)
    fallback = default or "rehearsal"
    if configured is None:
        return _described(routes, wire, fallback)
    try:
        if routes.resolve(configured, wire).known:
            return _described(routes, wire, configured)
    except UnknownModel:
        pass
    note = f"your model {configured} has no route here; starting with {fallback}"
    chosen = _described(routes, wire, fallback)
    return ChosenModel(chosen.name, chosen.context_window, chosen.max_output_tokens, note)


def asked_model(args: Sequence[str], flags: Sequence[str]) -> str | None:
    """The model named among a client's own words, `--model X`, `--model=X` or `-m X`.

    Args:
        args: the client's words.
        flags: how this client spells it.
    """
    for position, word in enumerate(args):
        if word == "--":
            return None
        if word in flags and position + 1 < len(args):
            return args[position + 1]
        for flag in flags:
            if flag.startswith("--") and word.startswith(f"{flag}="):
                return word.partition("=")[2]
    return None


def plan_codex_launch(
    codex: Path, args: Sequence[str], *, url: str, program: Program, model: ChosenModel | None
) -> list[str]:
    """The command line of Codex through the gateway.

    Args:
        codex: the program.
        args: the user's words; they come last and win.
        url: the gateway's address.
        program: how Codex gets its token.
        model: the model to start with, None when the user's words or configuration name one already.
    """
    overrides: list[tuple[str, object]] = [
        (f"model_providers.{NAME}", provider_table(url, program)),
        ("model_provider", NAME),
        (dotted(ENDLESS_RETRIES), False),
    ]
    if model is not None:
        overrides.append(("model", model.name))
    words = [word for key, value in overrides for word in ("-c", f"{key}={spelled(value)}")]
    return [str(codex), *words, *args]


def plan_claude_launch(
    claude: Path, args: Sequence[str], env: Mapping[str, str], *, settings_file: Path
) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of Claude Code through the gateway.

    Args:
        claude: the program.
        args: the user's words.
        env: the environment; keys of other accounts are left out of it.
        settings_file: holds `claude_launch_settings`.
    """
    kept = {name: value for name, value in env.items() if name not in ("ANTHROPIC_API_KEY", *_OWN)}
    return [str(claude), "--settings", str(settings_file), *args], kept


_OWN = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN")


def claude_launch_settings(
    *, url: str, token: str, model: ChosenModel, claude_names_routed: bool
) -> dict[str, Any]:
    """The settings of one launch of Claude Code; they hold the token and belong into a 0600 file.

    Learned from 2.1.197 and 2.1.329: a model they do not know is taken for 200,000 or 1,000,000 tokens unless
    told; side calls ask for a haiku whatever the main model is.

    Args:
        url: the gateway's address.
        token: the user's data token.
        model: the model to start with.
        claude_names_routed: whether Claude's own names lead to Anthropic; then its aliases stay.
    """
    variables = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": token,
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_MODEL": model.name,
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
    }
    if not claude_names_routed:
        variables |= dict.fromkeys(_ALIAS_VARIABLES, model.name)
    if model.context_window is not None:
        variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(model.context_window)
    if model.max_output_tokens is not None:
        variables["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(model.max_output_tokens)
    return {"env": variables}


def claude_asked_model(args: Sequence[str]) -> str | None:
    """The model named among Claude Code's words, its own aliases aside."""
    return _no_alias(asked_model(args, ("--model",)))


def claude_configured_model(settings: Mapping[str, Any], env: Mapping[str, str]) -> str | None:
    """The model Claude Code would start with, settings before environment; None for an alias of its own."""
    in_settings = lookup(dict(settings), ("env", "ANTHROPIC_MODEL"))
    for found in (in_settings, env.get("ANTHROPIC_MODEL"), settings.get("model")):
        if isinstance(found, str) and found:
            return _no_alias(found)
    return None


def encode_settings(settings: Mapping[str, Any]) -> bytes:
    """A settings file's bytes."""
    return json.dumps(settings, indent=2).encode() + b"\n"


def launch_settings_file(home: Home, content: bytes) -> Path:
    """Where the settings of a launch stand: one file for each content, so that a launch with another model
    changes nothing a running session may read again."""
    return home.state / f"claude-launch-{hashlib.sha256(content).hexdigest()[:12]}.json"


def _no_alias(name: str | None) -> str | None:
    return None if name is None or name.removesuffix("[1m]") in CLAUDE_ALIASES else name


def _described(routes: RouteTable, wire: Wire, name: str) -> ChosenModel:
    route = routes.resolve(name, wire)
    ceiling = route.limits.default_output_tokens or route.limits.max_output_tokens
    return ChosenModel(name, route.context_window, ceiling)

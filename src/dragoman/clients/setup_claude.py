"""What stands in Claude Code's settings once it is set up.

A command gives the token (`apiKeyHelper`), so that no secret stands in the file. A token or key in `env`
would win over it and is taken out while we are set up; it comes back at the end.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from dragoman.clients.editing import Path as KeyPath
from dragoman.clients.editing import Tree, has, lookup
from dragoman.clients.setup_codex import Program, SetupPlan
from dragoman.clients.setup_record import Owned, Wish

BASE_URL: KeyPath = ("env", "ANTHROPIC_BASE_URL")
MODEL: KeyPath = ("env", "ANTHROPIC_MODEL")
DISCOVERY: KeyPath = ("env", "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY")
TOKEN_COMMAND: KeyPath = ("apiKeyHelper",)
RIVALS: tuple[KeyPath, ...] = (("env", "ANTHROPIC_AUTH_TOKEN"), ("env", "ANTHROPIC_API_KEY"))


def claude_settings_file(env: Mapping[str, str], *, project: Path | None = None) -> Path:
    """Claude Code's settings: the user's, or a project's shared ones."""
    if project is not None:
        return project / ".claude" / "settings.json"
    folder = env.get("CLAUDE_CONFIG_DIR")
    if folder:
        return Path(folder) / "settings.json"
    return Path(env.get("HOME") or Path.home()) / ".claude" / "settings.json"


def plan_claude(
    tree: Tree,
    *,
    url: str,
    program: Program,
    default_model: str | None,
    has_route: Callable[[str], bool] = lambda _: False,
) -> SetupPlan:
    """What to write into Claude Code's settings.

    Args:
        tree: what they say now.
        url: the gateway's address, such as `http://127.0.0.1:4891`.
        program: how Claude Code starts us.
        default_model: the model to seed when none is set; None when no real provider is configured.
        has_route: whether a model name leads anywhere; asked when there is no default.
    """
    if default_model is None and not any(has_route(name) for name in _models(tree)[:1]):
        note = "no provider is configured yet, so Claude Code stays as it is: dragoman providers add"
        return SetupPlan((), (note,), selected=False)
    wishes = [
        *(Wish(rival, kind="absent") for rival in RIVALS),
        Wish(TOKEN_COMMAND, shlex.join(program.argv("token", "--ensure"))),
        Wish(BASE_URL, url),
        Wish(DISCOVERY, "1"),
    ]
    if default_model is not None and not _models(tree):
        wishes.append(Wish(MODEL, default_model, "seed"))
    notes = [
        f"{'.'.join(rival)} is set aside until dragoman uninstall" for rival in RIVALS if has(tree, rival)
    ]
    return SetupPlan(tuple(wishes), tuple(notes))


def plan_claude_model(tree: Tree, model: str) -> SetupPlan:
    """Set the model and nothing else; a top-level `model` is named, since it loses to this."""
    notes = ["the key model in the same file no longer counts"] if has(tree, ("model",)) else []
    return SetupPlan((Wish(MODEL, model),), tuple(notes))


def claude_known(url: str) -> tuple[Owned, ...]:
    """What to take out of settings of which no record is left."""
    return (Owned(BASE_URL, "key", url, made=1), Owned(DISCOVERY, "key", "1", made=1))


def _models(tree: Tree) -> list[str]:
    """The models the settings name, the one that counts first."""
    return [name for path in (MODEL, ("model",)) if isinstance(name := lookup(tree, path), str)]

"""What `doctor` looks at that needs no running gateway: configuration, keys, files, programs, clients."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dragoman.catalog.models import REHEARSAL
from dragoman.clients.claude_code import find_claude_code
from dragoman.clients.codex_names import borrowed_names
from dragoman.clients.codex_program import find_codex
from dragoman.clients.config_file import read_client_file
from dragoman.clients.editing import EditRefused, lookup
from dragoman.clients.setup_all import client_file
from dragoman.clients.setup_claude import BASE_URL
from dragoman.clients.setup_codex import PROVIDER, SELECTED
from dragoman.clients.setup_record import open_document
from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.config.secrets import KeyOutOfReach, find_keys, key_path
from dragoman.errors import DragomanError
from dragoman.gateway.routes import RouteTable

Verdict = Literal["ok", "warn", "fail", "skip"]

OLDEST_GIT = (2, 38)

# Variables of a shell that win over what setup writes into Claude Code's settings.
_RIVAL_VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: a stable name, such as `keys.zai`.
        verdict: `fail` makes doctor exit with 1.
        text: what was found; never a secret.
        fix: the next thing to do, None when there is nothing to do.
        details: further lines.
    """

    name: str
    verdict: Verdict
    text: str
    fix: str | None = None
    details: tuple[str, ...] = ()


def check_providers(
    home: Home, env: Mapping[str, str], config: Config, routes: RouteTable
) -> Iterator[Finding]:
    """Who can answer: providers, and whether each has its key."""
    real = [upstream for upstream in routes.upstreams.values() if not upstream.embedded]
    if not real:
        text = "no provider is configured; only the embedded model answers"
        yield Finding("providers", "warn", text, "dragoman providers add")
    for upstream in real:
        name = f"keys.{upstream.name}"
        missed: list[KeyOutOfReach] = []
        found = find_keys(upstream.keys, env, home, missed=missed.append)
        for error in missed:
            yield Finding(name, "warn" if found else "fail", error.message, error.hint)
        if missed and not found:
            continue
        if found:
            yield Finding(name, "ok", ", ".join(key.place for key in found))
        elif upstream.key_required:
            default = upstream.name == config.gateway.default_provider or len(real) == 1
            fix = f"dragoman keys set {upstream.name}"
            yield Finding(name, "fail" if default else "warn", "no key was found", fix)
        else:
            yield Finding(name, "ok", "no key, and none is needed")


def check_routes(routes: RouteTable) -> Finding:
    """Every model that can be asked for, with what is changed on its way from each client."""
    lines: list[str] = []
    for model in routes.models:
        for client, wire in (("Codex", "responses"), ("Claude Code", "messages")):
            route = routes.resolve(model.name, "responses" if wire == "responses" else "messages")
            how = ", ".join(route.shims) or "as it is"
            lines.append(f"{model.name} from {client}: {route.provider}, {route.wire}: {how}")
    names = [model.name for model in routes.models if model.provider != REHEARSAL]
    return Finding("routes", "ok", f"{len(names)} models beside the embedded one", details=tuple(lines))


def check_names(routes: RouteTable) -> Iterator[Finding]:
    """Names by which a model should not go."""
    for name, reason in borrowed_names(routes).items():
        yield Finding("names", "warn", reason, f"give {name} another name in [aliases] or [models]")


def check_files(home: Home, env: Mapping[str, str], routes: RouteTable) -> Iterator[Finding]:
    """Whether others can read what holds a secret."""
    secret = [*home.tokens.glob("*.json"), home.data_token_file, home.control_token_file]
    secret += home.provider_keys.glob("*.key")
    for upstream in routes.upstreams.values():
        for source in upstream.keys:
            if source.file is not None:
                secret.append(key_path(source, env, home))
    secret += [home.config_file.parent / ".env", Path.cwd() / ".env"]
    wide = sorted({str(path) for path in secret if _is_wide(path)})
    for path in wide:
        yield Finding("files", "fail", f"{path} can be read by others", f"chmod 600 {path}")
    if not wide:
        yield Finding("files", "ok", "what holds secrets is yours alone")


def _is_wide(path: Path) -> bool:
    """Whether others than its owner may open a file."""
    try:
        return path.is_file() and bool(path.stat().st_mode & 0o077)
    except OSError:
        return False  # in a folder we may not enter


def check_git(ask: Callable[[], str] | None = None) -> Finding:
    """Git, which every delegation needs."""
    fix = "install git 2.38 or newer"
    try:
        text = (ask or _ask_git)()
    except (OSError, subprocess.SubprocessError):
        return Finding("git", "fail", "git was not found", fix)
    found = re.search(r"(\d+)\.(\d+)", text)
    if found is None:
        return Finding("git", "fail", "git did not tell its version", fix)
    version = (int(found[1]), int(found[2]))
    shown = text.strip().removeprefix("git version ")
    if version < OLDEST_GIT:
        return Finding("git", "fail", f"git {shown} is older than 2.38", fix)
    return Finding("git", "ok", shown)


def check_clients(env: Mapping[str, str], config: Config) -> Iterator[Finding]:
    """The client programs: which ones would be started."""
    try:
        codex = find_codex(config.clients.codex, env)
        yield Finding("codex", "ok", f"{codex.version_text} at {codex.path}", details=codex.passed_over)
    except DragomanError as error:
        yield Finding("codex", "warn", error.message, error.hint)
    try:
        claude = find_claude_code(config.clients.claude, env)
        understood = [name.replace("_", " ") for name, there in asdict(claude.features).items() if there]
        details = (f"understands: {', '.join(understood) or 'nothing beyond the least'}", *claude.passed_over)
        yield Finding("claude", "ok", f"{claude.version_text} at {claude.path}", details=details)
    except DragomanError as error:
        yield Finding("claude", "warn", error.message, error.hint)


def check_client_config(env: Mapping[str, str], url: str) -> Iterator[Finding]:
    """Whether the clients' own files still lead to this gateway."""
    again = "dragoman setup --write"
    for client, path in (("codex", (*PROVIDER, "base_url")), ("claude", BASE_URL)):
        name = f"setup.{client}"
        file = client_file("codex" if client == "codex" else "claude", env, None)
        try:
            tree = open_document(read_client_file(file)).tree
        except EditRefused as error:
            yield Finding(name, "fail", error.message, error.hint)
            continue
        found = lookup(tree, path)
        expected = f"{url}/v1" if client == "codex" else url
        if found is None:
            yield Finding(name, "skip", f"{file} does not use this gateway", again)
        elif client == "claude" and found != expected and not str(found).startswith("http://127.0.0.1"):
            yield Finding(name, "skip", f"{file} uses another gateway", again)
        elif found != expected:
            yield Finding(name, "warn", f"{file} leads to {found}, the gateway is at {url}", again)
        elif client == "codex" and lookup(tree, SELECTED) != PROVIDER[-1]:
            yield Finding(name, "ok", f"{file} knows this gateway and selects another provider")
        else:
            yield Finding(name, "ok", f"{file} leads here")
    rivals = [name for name in _RIVAL_VARIABLES if env.get(name)]
    if rivals:
        text = f"{', '.join(rivals)} in your shell win over Claude Code's settings"
        yield Finding("setup.shell", "warn", text, f"unset {' '.join(rivals)}, or use: dragoman claude")


def _ask_git() -> str:
    done = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout

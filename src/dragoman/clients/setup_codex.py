"""What stands in Codex's configuration once it is set up, and what stays out of it.

Learned from codex-cli 0.163 and 0.169: a provider named OpenAI takes the remote compaction path and dies on
it; without a catalogue a model has no apply_patch; connection refused is retried for ever unless a feature is
switched off; a key from a variable is read where the client's own daemon was started, a command is run anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dragoman.clients.editing import Path as KeyPath
from dragoman.clients.editing import Tree, has, lookup
from dragoman.clients.setup_record import Owned, Wish
from dragoman.config.paths import HOME_VARIABLE

Part = Literal["provider", "mcp"]

# What setup writes unasked.
USUAL_PARTS: tuple[Part, ...] = ("provider", "mcp")

NAME = "dragoman"
PROVIDER: KeyPath = ("model_providers", NAME)
MCP_SERVER: KeyPath = ("mcp_servers", NAME)
SELECTED: KeyPath = ("model_provider",)
MODEL: KeyPath = ("model",)
ENDLESS_RETRIES: KeyPath = ("features", "unbounded_connection_retries")

# Retries of requests and of streams multiply: (1 + 1) * (3 + 1) requests at the very most.
REQUEST_RETRIES = 1
STREAM_RETRIES = 3
TOKEN_TIMEOUT_MS = 15_000  # the daemon may have to be started first
MCP_STARTUP_TIMEOUT_S = 20
MCP_TOOL_TIMEOUT_S = 600
# Codex refuses or asks for whatever is neither read-only nor closed and harmless (0.163): a task asks a
# provider, but runs in a copy, so it may be called unasked. Applying writes into the user's files: an
# interactive Codex asks its user, and `codex exec`, which has none, is refused until the user says otherwise.
APPROVED_TOOLS = ("claude_task",)


@dataclass(frozen=True, slots=True)
class Program:
    """How a client starts us.

    Attributes:
        command: the absolute path of `dragoman`.
        home: the DRAGOMAN_HOME it must be given, None for the platform's own folders: clients pass on little
            of their environment.
    """

    command: str
    home: str | None = None

    def argv(self, *args: str) -> list[str]:
        """The command line that runs us from anywhere."""
        if self.home is None:
            return [self.command, *args]
        return ["/usr/bin/env", f"{HOME_VARIABLE}={self.home}", self.command, *args]


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """What shall stand in a client's file, and what the user must be told.

    Attributes:
        wishes: for `run_setup`.
        notes: sentences.
        selected: whether the client will use the gateway without being asked to.
    """

    wishes: tuple[Wish, ...]
    notes: tuple[str, ...] = ()
    selected: bool = True


def codex_config_file(env: Mapping[str, str], *, project: Path | None = None) -> Path:
    """Codex's configuration file: the user's, or a project's own."""
    if project is not None:
        return project / ".codex" / "config.toml"
    folder = env.get("CODEX_HOME")
    if folder:
        return Path(folder) / "config.toml"
    return Path(env.get("HOME") or Path.home()) / ".codex" / "config.toml"


def plan_codex(
    tree: Tree,
    *,
    url: str,
    program: Program,
    default_model: str | None,
    has_route: Callable[[str], bool],
    parts: Sequence[Part] = USUAL_PARTS,
    allow_roots: Sequence[str] = (),
) -> SetupPlan:
    """What to write into Codex's configuration.

    Args:
        tree: what it says now.
        url: the gateway's address, such as `http://127.0.0.1:4891`.
        program: how Codex starts us.
        default_model: the model to seed when none is set; None when no real provider is configured.
        has_route: whether a model name leads anywhere.
        parts: `provider`, `mcp` or both.
        allow_roots: folders that may be delegated on this connection, instead of the configured ones.
    """
    wishes: list[Wish] = []
    notes: list[str] = []
    selected = False
    if "provider" in parts:
        wishes += [Wish(PROVIDER, provider_table(url, program), "table"), Wish(ENDLESS_RETRIES, False)]
        chosen, notes = _selection(tree, default_model, has_route)
        wishes += chosen
        selected = bool(chosen)
    if "mcp" in parts:
        # approvals of single tools and the like, set by the user on our server, stay
        approved = [name for name in APPROVED_TOOLS if not _has_own_word(tree, name)]
        server = _mcp_server(program, allow_roots, approved)
        wishes.append(Wish(MCP_SERVER, server, "table", shared=True))
        if has(tree, ("mcp_servers", "claude_delegate")):
            notes.append(
                "mcp_servers.claude_delegate offers tools of the same names: codex mcp remove claude_delegate"
            )
    return SetupPlan(tuple(wishes), tuple(notes), selected)


def plan_codex_model(tree: Tree, model: str) -> SetupPlan:
    """Set the model and nothing else; a profile that overrides it is named, and another provider."""
    notes = _profile_notes(tree)
    if tree and lookup(tree, SELECTED) != NAME:
        other = lookup(tree, SELECTED) or "openai"
        notes.append(f"your Codex asks its provider {other} for it; to ask here: dragoman setup --write")
    return SetupPlan((Wish(MODEL, model),), tuple(notes))


def codex_known() -> tuple[Owned, ...]:
    """What to take out of a Codex configuration of which no record is left."""
    example = Program("", home="")
    return (
        Owned(SELECTED, "key", NAME),
        Owned(PROVIDER, "table", provider_table("", example), made=1),
        Owned(MCP_SERVER, "table", _mcp_server(example, ("",), APPROVED_TOOLS), made=1),
    )


def provider_table(url: str, program: Program) -> dict[str, Any]:
    """`[model_providers.dragoman]`: where the gateway is, what it can do, and how to get the token."""
    command, *args = program.argv("token", "--ensure")
    return {
        "name": NAME,
        "base_url": f"{url}/v1",
        "wire_api": "responses",
        "model_catalog_url": f"{url}/v1/models",
        "request_max_retries": REQUEST_RETRIES,
        "stream_max_retries": STREAM_RETRIES,
        "auth": {"command": command, "args": args, "timeout_ms": TOKEN_TIMEOUT_MS},
    }


def _has_own_word(tree: Tree, tool: str) -> bool:
    """Whether the user has said when a tool of ours may be called."""
    own = (*MCP_SERVER, "tools", tool, "approval_mode")
    return has(tree, own) or has(tree, (*MCP_SERVER, "default_tools_approval_mode"))


def _mcp_server(program: Program, allow_roots: Sequence[str], approved: Sequence[str]) -> dict[str, Any]:
    server: dict[str, Any] = {
        "command": program.command,
        "args": ["mcp"],
        "startup_timeout_sec": MCP_STARTUP_TIMEOUT_S,
        "tool_timeout_sec": MCP_TOOL_TIMEOUT_S,
    }
    env: dict[str, str] = {}
    if program.home is not None:
        env[HOME_VARIABLE] = program.home
    if allow_roots:
        env["CODEX_CLAUDE_ALLOW_ROOTS"] = ":".join(allow_roots)
    if env:
        server["env"] = env
    if approved:
        server["tools"] = {name: {"approval_mode": "approve"} for name in approved}
    return server


def _selection(
    tree: Tree, default_model: str | None, has_route: Callable[[str], bool]
) -> tuple[list[Wish], list[str]]:
    """Whether Codex shall use us by itself: never when its model would lead nowhere."""
    notes = _profile_notes(tree)
    current = lookup(tree, MODEL)
    if isinstance(current, str):
        if has_route(current):
            return [Wish(SELECTED, NAME)], notes
        notes.append(
            f"your model {current} has no route here, so model and model_provider stay as they are; "
            "use the gateway with: dragoman codex, or choose it with: dragoman set-model NAME"
        )
        return [], notes
    if default_model is None:
        notes.append(
            "no provider is configured yet, so model and model_provider stay as they are; "
            "add one with: dragoman providers add"
        )
        return [], notes
    return [Wish(SELECTED, NAME), Wish(MODEL, default_model, "seed")], notes


def _profile_notes(tree: Tree) -> list[str]:
    profile = tree.get("profile")
    if not isinstance(profile, str):
        return []
    over = [key for key in ("model", "model_provider") if has(tree, ("profiles", profile, key))]
    if not over:
        return []
    return [f"your profile {profile} overrides {' and '.join(over)}: change it there, or remove profile"]

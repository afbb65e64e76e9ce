"""The shape of `dragoman.toml`. Whether a preset, profile or model exists is judged by the route table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from dragoman.config.toml_lines import key_lines
from dragoman.wire.turns import Effort, Wire

Origin = str
"""Where a value came from: `flag`, `environment NAME`, `file` or `default`."""

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Millis = Annotated[int, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Days = Annotated[int, msgspec.Meta(ge=0)]
Usd = Annotated[float, msgspec.Meta(ge=0)]

Auth = Literal["token", "none"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
KeyHeader = Literal["bearer", "x-api-key", "both", "none"]
Modality = Literal["text", "image", "pdf"]
SandboxLevel = Literal["best", "bubblewrap", "landlock", "none"]


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """The data plane.

    Attributes:
        host, port: where it listens; port 0 picks a free one.
        auth: `token`, or `none` for the data plane on loopback.
        default_provider: where unknown models go.
        workers: gateway processes.
        connect_timeout_s, first_byte_timeout_s, idle_timeout_s: waiting times towards providers.
        max_body_mb: the largest request taken, in MiB.
        ca_file: certificates of authorities trusted besides the system's, in PEM.
    """

    host: str = "127.0.0.1"
    port: Port = 4891
    auth: Auth = "token"
    default_provider: str | None = None
    workers: Count = 1
    connect_timeout_s: Seconds = 10.0
    first_byte_timeout_s: Seconds = 600.0
    idle_timeout_s: Seconds = 300.0
    max_body_mb: Count = 64
    ca_file: str | None = None


class KeySource(msgspec.Struct, frozen=True, kw_only=True):
    """Where one key of a provider is found; exactly one of the first four is given.

    Attributes:
        env: the name of an environment variable.
        keyring: the name of an entry in the system's keyring (service `dragoman`).
        stored: the name under which `dragoman keys set` keeps it.
        file: a file that holds the key alone, readable by its owner only.
        max_concurrency: requests at a time with this key; the provider's when None.
    """

    env: str | None = None
    keyring: str | None = None
    stored: str | None = None
    file: str | None = None
    max_concurrency: Count | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.env, self.keyring, self.stored, self.file)) != 1:
            raise ValueError("a key names exactly one of env, keyring, stored, file")


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream account; what a preset says may be left out.

    Attributes:
        preset: a shipped provider to start from; its name alone when the table has that name.
        profile: quirks of its endpoints.
        key_env: the environment variable with its key.
        keys: several keys, or keys from elsewhere; taken in turn.
        key_header: how the key is shown; by wire when None.
        max_concurrency: requests at a time with one key.
        wires: base address of each wire it speaks, the preferred one first.
        default_model: the upstream model for a Claude name nobody knows.
        headers: constant headers added to every request.
        dialect: single quirks that differ from the profile's.
        connect_timeout_s, first_byte_timeout_s, idle_timeout_s, max_body_mb, ca_file: as in `[gateway]`.
    """

    preset: str | None = None
    profile: str | None = None
    key_env: str | None = None
    keys: tuple[KeySource, ...] = ()
    key_header: KeyHeader | None = None
    max_concurrency: Count | None = None
    wires: dict[Wire, str] = {}
    default_model: str | None = None
    headers: dict[str, str] = {}
    dialect: dict[str, Any] = {}
    connect_timeout_s: Seconds | None = None
    first_byte_timeout_s: Seconds | None = None
    idle_timeout_s: Seconds | None = None
    max_body_mb: Count | None = None
    ca_file: str | None = None

    def __post_init__(self) -> None:
        for wire, base in self.wires.items():
            check_base_address(f"wires.{wire}", base)
        for name, value in self.headers.items():
            if not name or any(c in f"{name}{value}" for c in "\r\n\0") or ":" in name or " " in name:
                raise ValueError("headers are single lines with plain names")


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a model costs, in US dollars a million tokens; cached input costs `input` unless given."""

    input: Usd
    output: Usd
    cache_read: Usd | None = None
    cache_write: Usd | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model as clients ask for it. What is left out comes from the catalogue.

    Attributes:
        provider: where it goes; the catalogue's or the default provider when None.
        upstream: the provider's name for it; the same name when None.
        wire: the only wire to use; any that fits when None.
        display_name: for people.
        context_window, max_output_tokens, default_output_tokens: in tokens.
        input_modalities: what it reads.
        reasoning: whether it thinks.
        efforts, default_effort: how hard it can be told to think.
        price: for the ledger; the shipped tariffs when None.
        fallback: models tried in order when this one fails before its first word.
    """

    provider: str | None = None
    upstream: str | None = None
    wire: Wire | None = None
    display_name: str | None = None
    context_window: Count | None = None
    max_output_tokens: Count | None = None
    default_output_tokens: Count | None = None
    input_modalities: tuple[Modality, ...] | None = None
    reasoning: bool | None = None
    efforts: tuple[Effort, ...] | None = None
    default_effort: Effort | None = None
    price: Price | None = None
    fallback: tuple[str, ...] = ()


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker run can see.

    Attributes:
        level: `best` takes the strongest the system has.
        read: more paths that are readable inside.
        link_dirs: folders of the user's checkout shown in the workspace, such as `node_modules`.
    """

    level: SandboxLevel = "best"
    read: tuple[str, ...] = ()
    link_dirs: tuple[str, ...] = ("node_modules", ".venv")


class Delegation(msgspec.Struct, frozen=True, kw_only=True):
    """How work is handed to a worker.

    Attributes:
        allow_roots: folders whose repositories may be delegated.
        cli_roots: whether commands typed by a person obey `allow_roots` too.
        worker: which client works.
        model: the model it works with; the catalogue's worker model when None.
        max_writes_per_repo: write jobs of one repository at a time.
        setup_command: run in a new workspace before the base is taken, with network.
        worktree_include: whether files named by `.worktreeinclude` are copied to the workspace.
        worker_login: `gateway`, or `own` for the user's own Claude login.
        timeout_s: the longest a run may take; 0 is only the ceiling.
        safety_ceiling_s: the longest a run may take whatever was asked.
        max_budget_usd: the most a run may spend; None is no limit.
        max_output_tokens: the ceiling of one answer; the model's when None.
        env_passthrough: environment variables a worker gets beyond the safe ones.
        sandbox: what a run can see.
    """

    allow_roots: tuple[str, ...] = ("~/projects", "~/work", "~/codex-claude")
    cli_roots: bool = False
    worker: Literal["claude", "codex"] = "claude"
    model: str | None = None
    max_writes_per_repo: Count = 1
    setup_command: str | tuple[str, ...] | None = None
    worktree_include: bool = False
    worker_login: Literal["gateway", "own"] = "gateway"
    timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    safety_ceiling_s: Seconds = 21600.0
    max_budget_usd: Usd | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    env_passthrough: tuple[str, ...] = ()
    sandbox: Sandbox = Sandbox()


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """The interactive terminal; the times belong to the screen, which decides only where hooks cannot.

    Attributes:
        command: the Claude Code program, when not the one found.
        supervisor_home: the folder the lead works in.
        gateway: whether Claude Code asks its model through the gateway; else as the user has set it up.
        lead_gateway: the same for the Codex that leads.
        min_run_ms, quiet_ms, spinner_stable_ms, check_interval_ms, submit_grace_ms: timing of the screen.
    """

    command: str | tuple[str, ...] | None = None
    supervisor_home: str | None = None
    gateway: bool = False
    lead_gateway: bool = False
    min_run_ms: Millis = 1500
    quiet_ms: Millis = 2500
    spinner_stable_ms: Millis = 1000
    check_interval_ms: Annotated[int, msgspec.Meta(ge=1)] = 100
    submit_grace_ms: Millis = 5000


class Clients(msgspec.Struct, frozen=True, kw_only=True):
    """The client programs, when not those found on PATH or shipped with the `clients` extra."""

    claude: str | None = None
    codex: str | None = None


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """The database. Its address may hold a password, so the file only names the variable that has it."""

    url_env: str = "DRAGOMAN_DATABASE"


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long things are kept, in days; 0 keeps them for ever. Unapplied work is never deleted by age.

    `sessions` is a number: so many of the bridge's newest sessions are kept.
    """

    runs_days: Days = 30
    workspaces_days: Days = 30
    trash_days: Days = 30
    usage_days: Days = 0
    captures_days: Days = 7
    captures_mb: Count = 200
    logs_mb: Count = 50
    sessions: Count = 50


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """How much the daemon writes to its log."""

    level: LogLevel = "info"


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """The embedded model: the scenario file it plays; the shipped one when None."""

    scenario: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `dragoman.toml` may say."""

    gateway: Gateway = Gateway()
    providers: dict[str, Provider] = {}
    models: dict[str, Model] = {}
    aliases: dict[str, str] = {}
    delegation: Delegation = Delegation()
    bridge: Bridge = Bridge()
    clients: Clients = Clients()
    store: Store = Store()
    retention: Retention = Retention()
    log: Log = Log()
    rehearsal: Rehearsal = Rehearsal()


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the values came from.

    Attributes:
        file: the file read, or None when there was none.
        text: what it said; keys are looked up in it when an error needs their line.
        origins: dotted key -> origin, for every value that is not a default.
    """

    file: Path | None = None
    text: str = ""
    origins: Mapping[str, Origin] = {}

    def origin(self, key: str) -> Origin:
        """Where the value of a dotted key such as `gateway.port` came from."""
        return self.origins.get(key, "default")

    def line(self, *path: str | int) -> int | None:
        """The line of a key, or of the nearest table around it."""
        lines = key_lines(self.text)
        for length in range(len(path), 0, -1):
            if found := lines.get(path[:length]):
                return found
        return None

    def __repr__(self) -> str:
        return f"Source({str(self.file) if self.file else None!r})"


class Config(Settings, frozen=True, kw_only=True):
    """The settings in force.

    Attributes:
        source: where they came from.
        client_token_env: a variable whose value is accepted as a client token besides our own tokens: users
            of the Z.ai proxy let Codex send their provider key. None unless the environment alone starts us.
    """

    source: Source = Source()
    client_token_env: str | None = None


def check_base_address(key: str, base: str) -> None:
    """Refuse a base address that cannot be one.

    Raises:
        ValueError: with `key` and what is wrong; never with the address, which might hold a password.
    """
    try:
        parts = urlsplit(base)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
        parts = None
    if not usable or parts is None:
        raise ValueError(f"{key}: expected an address such as https://host/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{key}: an address holds no user name or password; use key_env")
    if parts.query or parts.fragment:
        raise ValueError(f"{key}: a base address has no query and no fragment")

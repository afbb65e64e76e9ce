"""Sets up and takes down both clients together: what is written where, for which gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dragoman.catalog.models import REHEARSAL
from dragoman.clients.config_file import read_client_file
from dragoman.clients.editing import EditRefused, lookup
from dragoman.clients.setup_claude import MODEL as CLAUDE_MODEL
from dragoman.clients.setup_claude import (
    claude_known,
    claude_settings_file,
    plan_claude,
    plan_claude_model,
)
from dragoman.clients.setup_codex import (
    MODEL,
    SELECTED,
    USUAL_PARTS,
    Part,
    Program,
    SetupPlan,
    codex_config_file,
    codex_known,
    plan_codex,
    plan_codex_model,
)
from dragoman.clients.setup_record import (
    ClientEdit,
    Wish,
    open_document,
    preview_setup,
    run_setup,
    run_uninstall,
)
from dragoman.clients.toml_edit import spelled
from dragoman.config.paths import HOME_VARIABLE, Home
from dragoman.config.schema import Config
from dragoman.errors import DragomanError, ExitCode
from dragoman.gateway.routes import RouteTable, UnknownModel

ClientName = Literal["codex", "claude"]
CLIENTS: tuple[ClientName, ...] = ("codex", "claude")

TRUSTED_NOTE = "Codex trusts this project, so it reads this file; others who clone it are asked first"


class NoFixedPort(DragomanError):
    """The gateway's port changes with every start: nothing lasting can be written about it."""

    code = "no_fixed_port"
    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a set-up depends on.

    Attributes:
        home: where records and backups are kept.
        env: tells where the clients keep their configuration.
        url: the gateway's address.
        program: how a client starts us.
        default_model: the model to seed; None when no real provider is configured.
        has_route: whether a model name leads anywhere.
    """

    home: Home
    env: Mapping[str, str]
    url: str
    program: Program
    default_model: str | None
    has_route: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """What the user asked for.

    Attributes:
        clients: which clients.
        parts: `provider`, `mcp` or both; only Codex has an MCP part.
        allow_roots: folders that may be delegated from this client.
        project: write the project's configuration instead of the user's; MCP only.
        force: take the model over as well when the user's own has no route.
    """

    clients: tuple[ClientName, ...] = CLIENTS
    parts: tuple[Part, ...] = USUAL_PARTS
    allow_roots: tuple[str, ...] = ()
    project: Path | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class ClientResult:
    """What was, or would be, done for one client.

    Attributes:
        client: which.
        edit: the change of its file.
        notes: sentences for the user.
        trusted: of a project's file: whether Codex trusts the project, so that it reads the file at all.
    """

    client: ClientName
    edit: ClientEdit
    notes: tuple[str, ...] = ()
    trusted: bool | None = None


def look_around(home: Home, env: Mapping[str, str], config: Config, command: str) -> Surroundings:
    """Gather what a set-up depends on.

    Args:
        home: the home in use.
        env: the environment.
        config: the configuration in force.
        command: absolute path of the `dragoman` program.

    Raises:
        NoFixedPort: the configuration says port 0.
        ConfigError: the configuration names something that does not exist.
    """
    gateway = config.gateway
    if gateway.port == 0:
        hint = f"set gateway.port in {home.config_file}, or use: dragoman codex, dragoman claude"
        raise NoFixedPort("the gateway has no fixed port, so nothing lasting can be written", hint=hint)
    host = "127.0.0.1" if gateway.host in ("0.0.0.0", "::", "localhost") else gateway.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    routes = RouteTable(config)
    return Surroundings(
        home=home,
        env=env,
        url=f"http://{host}:{gateway.port}",
        program=Program(command, str(home.state.parent) if env.get(HOME_VARIABLE) else None),
        default_model=first_model(config, routes),
        has_route=lambda name: has_route(routes, name),
    )


def has_route(routes: RouteTable, name: str) -> bool:
    """Whether a name leads to something that knows it."""
    try:
        return routes.resolve(name, "responses").known
    except UnknownModel:
        return False


def first_model(config: Config, routes: RouteTable) -> str | None:
    """The model a new user starts with: the default provider's own, else the first one listed."""
    default = config.gateway.default_provider
    if default is not None and (own := routes.upstreams[default].default_model) is not None:
        return own
    names = [model.name for model in routes.models if model.provider != REHEARSAL]
    return names[0] if names else None


def preview(around: Surroundings, request: SetupRequest) -> list[ClientResult]:
    """What `apply` would do; touches nothing.

    Raises:
        EditRefused: a file cannot be edited safely.
    """
    found: list[ClientResult] = []
    for client in request.clients:
        path, plan = _plan(client, around, request)
        edit = preview_setup(around.home, path, plan.wishes)
        found.append(ClientResult(client, edit, plan.notes, _trusted(client, around, request)))
    return found


def apply(around: Surroundings, request: SetupRequest) -> list[ClientResult]:
    """Set the clients up; all files are checked before the first one is written.

    Raises:
        EditRefused: a file cannot be edited safely.
    """
    preview(around, request)
    done: list[ClientResult] = []
    for client in request.clients:
        path, plan = _plan(client, around, request)
        edit = run_setup(around.home, path, plan.wishes)
        done.append(ClientResult(client, edit, plan.notes, _trusted(client, around, request)))
    return done


def take_down(
    around: Surroundings, clients: Sequence[ClientName], *, project: Path | None = None, dry_run: bool = False
) -> list[ClientResult]:
    """Take everything of ours out of the clients' files; what one refuses does not keep the others back.

    Raises:
        EditRefused: the first refusal, after all the others were done.
    """
    done: list[ClientResult] = []
    refused: EditRefused | None = None
    for client in clients:
        known = codex_known() if client == "codex" else claude_known(around.url)
        path = client_file(client, around.env, project)
        try:
            edit = run_uninstall(around.home, path, known, dry_run=dry_run)
        except EditRefused as error:
            refused = refused or error
            continue
        done.append(ClientResult(client, edit, _lost_notes(edit)))
    if refused is not None:
        raise refused
    return done


def set_model(around: Surroundings, client: ClientName, model: str) -> ClientResult:
    """Make `model` the client's model: one key, or the whole provider where there is no file yet.

    Raises:
        EditRefused: the file cannot be edited safely.
    """
    path = client_file(client, around.env, None)
    file = read_client_file(path)
    tree = open_document(file).tree
    plan = plan_codex_model(tree, model) if client == "codex" else plan_claude_model(tree, model)
    wishes = list(plan.wishes)
    if file.content is None:
        chosen = replace(around, default_model=model)
        whole = _plan(client, chosen, SetupRequest(parts=("provider",)))[1]
        wishes = [wish for wish in whole.wishes if wish.kind != "seed"] + wishes
    return ClientResult(client, run_setup(around.home, path, wishes), plan.notes)


def configured_model(around: Surroundings, client: ClientName) -> str | None:
    """The model a client's own configuration names.

    Raises:
        EditRefused: the file cannot be read as what it is.
    """
    tree = open_document(read_client_file(client_file(client, around.env, None))).tree
    paths = (MODEL,) if client == "codex" else (CLAUDE_MODEL, ("model",))
    named = (lookup(tree, path) for path in paths)
    return next((name for name in named if isinstance(name, str)), None)


def client_file(client: ClientName, env: Mapping[str, str], project: Path | None) -> Path:
    """The file a client reads."""
    if client == "codex":
        return codex_config_file(env, project=project)
    return claude_settings_file(env, project=project)


def _lost_notes(edit: ClientEdit) -> tuple[str, ...]:
    if not edit.lost:
        return ()
    names = ", ".join(".".join(path) for path in edit.lost)
    kept = f"; they are kept in {edit.backup}" if edit.backup else ""
    return (f"what you added to our tables goes with them: {names}{kept}",)


def _trusted(client: ClientName, around: Surroundings, request: SetupRequest) -> bool | None:
    """Whether Codex trusts the project whose file is written; None when there is no such question.

    Codex 0.163 and 0.169 keep the user's word under `projects."<folder>".trust_level`, for the folder itself
    or for its repository.
    """
    if client != "codex" or request.project is None:
        return None
    tree = open_document(read_client_file(codex_config_file(around.env))).tree
    places = (request.project.resolve(), _repository(request.project))
    return "trusted" in (lookup(tree, ("projects", str(place), "trust_level")) for place in places)


def _trust_note(env: Mapping[str, str], project: Path) -> str:
    """Why the file is not read yet, and how it will be; `codex exec --trust` is there only since 0.169."""
    line = f"[projects.{spelled(str(_repository(project)))}] with trust_level = {spelled('trusted')}"
    return (
        "Codex does not trust this project yet, so it leaves this file unread: what a repository brings "
        "along could start programs. To trust it say yes when Codex asks in its terminal, or write "
        f"{line} into {codex_config_file(env)}; then everything in the project's .codex/config.toml counts, "
        "not only our part"
    )


def _repository(folder: Path) -> Path:
    """The repository around a folder, as Codex names a project; the folder itself without one."""
    folder = folder.resolve()
    return next((above for above in (folder, *folder.parents) if (above / ".git").exists()), folder)


def _plan(client: ClientName, around: Surroundings, request: SetupRequest) -> tuple[Path, SetupPlan]:
    path = client_file(client, around.env, request.project)
    tree = open_document(read_client_file(path)).tree
    if client == "claude":
        if "provider" not in request.parts or request.project is not None:
            return path, SetupPlan((), ("there is nothing of that kind to write for Claude Code",), False)
        plan = plan_claude(
            tree,
            url=around.url,
            program=around.program,
            default_model=around.default_model,
            has_route=around.has_route,
        )
        return path, plan
    parts = ("mcp",) if request.project is not None else request.parts
    plan = plan_codex(
        tree,
        url=around.url,
        program=around.program,
        default_model=around.default_model,
        has_route=around.has_route,
        parts=parts,
        allow_roots=request.allow_roots,
    )
    if request.project is not None:
        trusted = _trusted(client, around, request)
        trust = TRUSTED_NOTE if trusted else _trust_note(around.env, request.project)
        return path, SetupPlan(plan.wishes, (*plan.notes, trust), plan.selected)
    if request.force and "provider" in parts and not plan.selected and around.default_model is not None:
        taken = (Wish(SELECTED, "dragoman"), Wish(MODEL, around.default_model))
        return path, SetupPlan((*plan.wishes, *taken), ())
    return path, plan

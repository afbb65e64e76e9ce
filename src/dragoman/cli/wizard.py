"""`setup` at a terminal: a few questions, every change shown, one yes, and a real question to see it work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import click

from dragoman.catalog.listing import ListedModel
from dragoman.catalog.models import REHEARSAL
from dragoman.catalog.presets import shipped_presets
from dragoman.clients.setup_all import (
    CLIENTS,
    ClientName,
    ClientResult,
    SetupRequest,
    Surroundings,
    apply,
    configured_model,
    look_around,
    preview,
)
from dragoman.clients.setup_provider import (
    EnvironmentKey,
    ProviderEdit,
    keep_key,
    keys_only_in_environment,
    plan_default,
    plan_preset,
)
from dragoman.config.load import load_config, parse_config
from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.config.secrets import BadKey, clean_key, find_keys, store_key
from dragoman.gateway.routes import RouteTable, UnknownModel

Smoke = Callable[[Home, RouteTable, Sequence[ClientName], str], int]
Show = Callable[[list[ClientResult], bool], None]

_EMBEDDED_TITLE = "the embedded model: no key and no network, only to see how it works"


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the user wants; nothing is done yet.

    Attributes:
        provider: who shall answer.
        edit: the change of `dragoman.toml`, None when it needs none.
        secret: the key typed in.
        kept: keys of the environment to store.
        around: what the clients' set-up depends on, as it will be.
        routes: the routes as they will be.
        model: the name clients start with.
        request: what to write into the clients' files.
    """

    provider: str
    edit: ProviderEdit | None
    secret: str | None = field(repr=False)
    kept: tuple[EnvironmentKey, ...]
    around: Surroundings
    routes: RouteTable
    model: str
    request: SetupRequest


def run_wizard(home: Home, env: Mapping[str, str], command: str, *, show: Show, smoke: Smoke) -> int:
    """Ask for provider, key, model and clients; show all changes; write them on yes; ask the provider.

    Args:
        home: the home in use.
        env: the environment.
        command: absolute path of the `dragoman` program.
        show: prints what would be, or was, done to the clients' files.
        smoke: asks the provider through the gateway; its result is ours.

    Raises:
        click.Abort: the user said no; nothing was written.
        DragomanError: something stands in the way; the message says whether anything was written.
    """
    wanted = _ask(home, env, command)
    results = preview(wanted.around, wanted.request)
    click.echo("\nThis is what would change:\n")
    _show_own(home, wanted, done=False)
    show(results, False)
    if wanted.edit or wanted.secret or wanted.kept or any(result.edit.changed for result in results):
        click.confirm("\nWrite this?", abort=True, err=True)
        _write(home, env, wanted)
        _show_own(home, wanted, done=True)
        show(apply(wanted.around, wanted.request), True)
    else:
        click.echo("nothing: all of it is there already")
    click.echo("\nNow one small question to see that it works:")
    code = smoke(home, wanted.routes, wanted.request.clients, wanted.model)
    click.echo("Take it all back at any time: dragoman uninstall")
    return code


def choose_preset(env: Mapping[str, str], configured: Mapping[str, str], *, embedded: bool = True) -> str:
    """Ask for a provider by number or name: those configured, then what could be added.

    Args:
        env: a preset whose key is there is proposed.
        configured: name -> title of the providers there are.
        embedded: whether the embedded model can be chosen too.
    """
    presets = shipped_presets()
    titles = {**configured, **{n: p.title for n, p in presets.items() if n not in configured}}
    if embedded:
        titles[REHEARSAL] = _EMBEDDED_TITLE
    with_key = (name for name, preset in presets.items() if preset.key_env and env.get(preset.key_env))
    proposed = next(iter(configured), None) or next(with_key, None) or next(iter(titles))
    click.echo("Who shall answer?")
    return _choose(titles, proposed, "Provider")


def ask_key(name: str) -> str:
    """Ask for a key, hidden, until it looks like one."""
    preset = shipped_presets().get(name)
    if preset is not None and preset.key_page is not None:
        click.echo(f"A key is made at {preset.key_page}")
    while True:
        try:
            return clean_key(name, click.prompt(f"Key of {name} (not shown)", hide_input=True, err=True))
        except BadKey as error:
            click.echo(error.message, err=True)


def _ask(home: Home, env: Mapping[str, str], command: str) -> _Answers:
    config = load_config(home, env)
    routes = RouteTable(config)
    look_around(home, env, config, command)  # what would stand in the way is said before anything is asked
    provider = choose_preset(env, _configured(config, routes))
    edit = _own_edit(home, config, provider)
    if edit is not None:
        config = parse_config(edit.text, env, file=home.config_file)
        routes = RouteTable(config)
    upstream = routes.upstreams[provider]
    secret = None
    if upstream.key_required and not find_keys(upstream.keys, env, home):
        secret = ask_key(provider)
    kept = tuple(key for key in keys_only_in_environment(home, env, routes) if _wants_kept(key))
    model = REHEARSAL if upstream.embedded else _ask_model(routes, provider)
    around = replace(look_around(home, env, config, command), default_model=model)
    clients = _ask_clients()
    force = "codex" in clients and _wants_model_replaced(around, model)
    request = SetupRequest(clients=clients, force=force)
    return _Answers(provider, edit, secret, kept, around, routes, model, request)


def _configured(config: Config, routes: RouteTable) -> dict[str, str]:
    """The providers there are, the default one first."""
    presets = shipped_presets()
    real = [upstream for upstream in routes.upstreams.values() if not upstream.embedded]
    real.sort(key=lambda upstream: upstream.name != config.gateway.default_provider)
    titles = {up.name: presets[up.preset_name].title if up.preset_name else up.profile_name for up in real}
    return {name: f"{title} (configured)" for name, title in titles.items()}


def _own_edit(home: Home, config: Config, provider: str) -> ProviderEdit | None:
    """What `dragoman.toml` needs so that the provider stands in it."""
    if provider == REHEARSAL:
        return None
    if config.source.origin(f"providers.{provider}.preset").startswith("environment "):
        return None  # `keys_only_in_environment` offers to write it down
    if provider not in config.providers:
        return plan_preset(home, provider, name=provider)
    if config.gateway.default_provider is None:
        return plan_default(home, provider)
    return None


def _wants_kept(key: EnvironmentKey) -> bool:
    click.echo(f"The key of {key.provider} is only in {key.variable} of this shell;")
    click.echo("a gateway that Codex or Claude Code starts elsewhere would not find it.")
    return click.confirm("Keep it in a file only you can read?", default=True, err=True)


def _ask_model(routes: RouteTable, provider: str) -> str:
    """The name to ask for: as listed where that leads to this provider, else with the provider's name."""
    listed = {model.name: _described(model) for model in routes.models if model.provider == provider}
    proposed = routes.upstreams[provider].default_model
    if listed:
        click.echo("Which model shall new sessions start with? Any other name can be typed as well.")
        first = proposed if proposed in listed else next(iter(listed))
        name = _choose(listed, first, "Model", others=True)
    else:
        name = click.prompt("Model, as the provider calls it", default=proposed, err=True)
    try:
        route = routes.resolve(name, "responses")
        leads_here = route.known and route.provider == provider
    except UnknownModel:
        leads_here = False
    return name if leads_here else f"{provider}/{name}"


def _ask_clients() -> tuple[ClientName, ...]:
    titles = {"both": "Codex and Claude Code", "codex": "only Codex", "claude": "only Claude Code"}
    click.echo("Which clients shall use it?")
    chosen = _choose(titles, "both", "Clients")
    return tuple(client for client in CLIENTS if chosen in ("both", client))


def _wants_model_replaced(around: Surroundings, model: str) -> bool:
    current = configured_model(around, "codex")
    if current is None or around.has_route(current):
        return False
    click.echo(f"Your Codex asks for {current}, which has no route here.")
    return click.confirm(f"Let it ask for {model} instead?", default=False, err=True)


def _show_own(home: Home, wanted: _Answers, *, done: bool) -> None:
    if wanted.edit is not None and wanted.edit.diff:
        click.echo(f"{home.config_file}  {'written' if done else 'would change'}")
        for line in wanted.edit.diff if not done else ():
            click.echo(click.style(f"  {line}", fg="green" if line.startswith("+") else "red"))
    for name in ([wanted.provider] if wanted.secret else []) + [key.provider for key in wanted.kept]:
        click.echo(f"the key of {name}  {'kept' if done else 'would be kept'} in a file only you can read")
    for key in wanted.kept:
        if not key.configured and not done:
            click.echo(f"{home.config_file}  would change\n  +[providers.{key.provider}]")


def _write(home: Home, env: Mapping[str, str], wanted: _Answers) -> None:
    home.ensure()
    if wanted.edit is not None:
        wanted.edit.run()
    if wanted.secret is not None:
        store_key(home, wanted.provider, wanted.secret)
    for key in wanted.kept:
        keep_key(home, env, key)


def _choose(titles: Mapping[str, str], proposed: str, what: str, *, others: bool = False) -> str:
    """One of several by number or name."""
    names = list(titles)
    width = max(map(len, names))
    for number, name in enumerate(names, 1):
        click.echo(f"  {number:>2}  {name:<{width}}  {titles[name]}")

    def read(text: str) -> str:
        text = text.strip()
        if text.isdecimal() and 1 <= int(text) <= len(names):
            return names[int(text) - 1]
        if text in names or (others and text and not text.isdecimal()):
            return text
        raise click.BadParameter(f"type a number from 1 to {len(names)}, or a name from the list")

    return click.prompt(f"{what}, number or name", default=proposed, value_proc=read, err=True)


def _described(model: ListedModel) -> str:
    window = f", {model.context_window // 1000}k tokens" if model.context_window else ""
    return f"{model.display_name}{window}"

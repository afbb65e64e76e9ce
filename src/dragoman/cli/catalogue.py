"""`models`, `explain`, `providers`, `keys`: what can be asked for, where it goes and with which key."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.render import show_json
from dragoman.config.paths import Home, resolve_home
from dragoman.errors import DragomanError, ExitCode

if TYPE_CHECKING:
    from dragoman.config.schema import Config, KeySource
    from dragoman.config.secrets import FoundKey
    from dragoman.gateway.routes import RouteTable


def _read_json_flag(context: click.Context, _: click.Parameter, said: bool) -> bool:
    """`--json` may stand before a subcommand or after it."""
    context.obj = said or bool(context.obj)
    return context.obj


AS_JSON = click.option(
    "--json", "as_json", is_flag=True, callback=_read_json_flag, help="Print one JSON object."
)


def _listing(name: str, about: str) -> click.Group:
    """A group of commands that lists when it is called alone."""

    @click.group(name, help=about, invoke_without_command=True)
    @AS_JSON
    @click.pass_context
    def group(context: click.Context, as_json: bool) -> None:
        if context.invoked_subcommand is None:
            context.invoke(group.commands["list"], as_json=as_json)

    return group


models = _listing("models", "The models clients can ask for.")
providers = _listing("providers", "Who answers: configured providers, and presets that need only a key.")
keys = _listing("keys", "The keys of your providers: where each one is, never what it is.")


_ADD_CUSTOM = "dragoman providers add custom --name NAME --wire chat=ADDRESS"


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a provider that were found, and sentences about those out of reach."""

    keys: list[FoundKey]
    out_of_reach: list[str]

    @property
    def places(self) -> list[str]:
        return [key.place for key in self.keys]


class ProviderUnknown(DragomanError):
    """No such provider or preset."""

    code = "unknown_provider"
    exit_code = ExitCode.USAGE


def _loaded() -> tuple[Home, Config, RouteTable]:
    from dragoman.config.load import load_config
    from dragoman.gateway.routes import RouteTable

    home = resolve_home(os.environ)
    config = load_config(home, os.environ)
    return home, config, RouteTable(config)


def _look_for_keys(home: Home, sources: Iterable[KeySource]) -> _Keys:
    from dragoman.config.secrets import find_keys

    unreached: list[str] = []
    found = find_keys(sources, os.environ, home, missed=lambda error: unreached.append(_whole(error)))
    return _Keys(found, unreached)


def _whole(error: DragomanError) -> str:
    return f"{error.message}; next: {error.hint}" if error.hint else error.message


@models.command("list")
@AS_JSON
def list_models(as_json: bool) -> None:
    """List every model that has a route."""
    import msgspec

    from dragoman.clients.codex_names import borrowed_names

    _, config, routes = _loaded()
    borrowed = borrowed_names(routes)
    if as_json:
        listed = [msgspec.to_builtins(model) for model in routes.models]
        show_json({"models": listed, "warnings": list(borrowed.values())})
        return
    width = max(len(model.name) for model in routes.models)
    for model in routes.models:
        window = f"{model.context_window // 1000}k" if model.context_window else "?"
        kinds = "+".join(model.input_modalities)
        click.echo(
            f"{model.name:<{width}}  {model.provider:<12}  {window:>6}  {kinds:<14}  {model.display_name}"
        )
    if config.gateway.default_provider:
        click.echo(f"other names go to {config.gateway.default_provider}")
    for reason in borrowed.values():
        click.echo(f"warning: {reason}")


@models.command("show")
@click.argument("name")
@AS_JSON
def show_model(name: str, as_json: bool) -> None:
    """Everything about one model: the same as `dragoman explain`."""
    _explain(name, as_json=as_json)


@click.command()
@click.argument("model")
@AS_JSON
def explain(model: str, as_json: bool) -> None:
    """Say where a model name leads: provider, wire, key, ceilings, and what is changed on the way."""
    _explain(model, as_json=as_json)


def _explain(model: str, *, as_json: bool) -> None:
    from dragoman.clients.codex_names import borrowed_name

    home, _, routes = _loaded()
    told = routes.explain(model)
    route = routes.resolve(model, "responses")
    keys = _look_for_keys(home, route.keys)
    told["keys_found"] = keys.places
    told["keys_out_of_reach"] = keys.out_of_reach
    borrowed = borrowed_name(routes, model)
    told["warnings"] = [borrowed] if borrowed is not None else []
    if as_json:
        show_json(told)
        return
    click.echo(f"{model} -> {told['provider']}, model {told['upstream_model']}")
    for step in told["steps"]:
        click.echo(f"  {step}")
    for way in told["routes"]:
        how = "as it is" if way["native"] else "translated"
        click.echo(f"  from {way['client_wire']:<9}  {way['wire']:<9}  {how:<10}  {way['url']}")
        for shim in way["shims"]:
            click.echo(f"                  {shim}")
    window, ceiling = told["context_window"] or "?", told["max_output_tokens"] or "?"
    click.echo(f"  window {window}, output {ceiling}, reads {', '.join(told['input_modalities'])}")
    click.echo(f"  key: {', '.join(keys.places) or ('MISSING' if route.key_required else 'none needed')}")
    for reason in keys.out_of_reach:
        click.echo(f"  key: {reason}")
    if told["fallback"]:
        click.echo(f"  fallback: {', '.join(told['fallback'])}")
    for warning in told["warnings"]:
        click.echo(f"  warning: {warning}")


@providers.command("list")
@AS_JSON
def list_providers(as_json: bool) -> None:
    """List configured providers, then the presets that could be added."""
    from dragoman.catalog.presets import shipped_presets

    home, config, routes = _loaded()
    rows: list[dict[str, Any]] = []
    for upstream in routes.upstreams.values():
        found = _look_for_keys(home, upstream.keys)
        rows.append(
            {
                "name": upstream.name,
                "preset": upstream.preset_name,
                "profile": upstream.profile_name,
                "wires": dict(upstream.wires),
                "default": upstream.name == config.gateway.default_provider,
                "keys_found": found.places,
                "keys_out_of_reach": found.out_of_reach,
                "key_missing": upstream.key_required and not found.places,
            }
        )
    unused = {name: p.title for name, p in shipped_presets().items() if name not in routes.upstreams}
    if as_json:
        show_json({"providers": rows, "presets": unused})
        return
    for row in rows:
        key = "KEY MISSING" if row["key_missing"] else ", ".join(row["keys_found"]) or "no key"
        mark = " (default)" if row["default"] else ""
        click.echo(f"{row['name']}{mark}  {row['profile']}  {', '.join(row['wires'])}  {key}")
    click.echo("can be added: " + ", ".join(unused))


@providers.command("add")
@click.argument("preset", required=False)
@click.option("--name", help="What to call it (default: like the preset).")
@click.option("--key-env", metavar="VARIABLE", help="The environment variable that holds its key.")
@click.option("--default", "make_default", is_flag=True, help="Send unknown models there.")
@click.option(
    "--wire", "wires", multiple=True, metavar="WIRE=ADDRESS", help="An address, as chat=https://host/v1."
)
@AS_JSON
def add_provider(
    preset: str | None,
    name: str | None,
    key_env: str | None,
    make_default: bool,
    wires: tuple[str, ...],
    as_json: bool,
) -> None:
    """Add a provider from a preset to dragoman.toml. At a terminal it asks what is missing.

    Any other endpoint: `dragoman providers add custom --name N --wire chat=https://host/v1`.
    """
    from dragoman.catalog.presets import shipped_presets
    from dragoman.clients.setup_provider import plan_preset
    from dragoman.gateway.route_sources import CUSTOM

    asked = preset is None and sys.stdin.isatty() and not as_json
    if preset is None:
        if not asked:
            raise click.UsageError(f"name a preset: {', '.join(shipped_presets())}")
        from dragoman.cli.wizard import choose_preset

        preset = choose_preset(os.environ, {}, embedded=False)
    known = shipped_presets().get(preset)
    if known is None and preset != CUSTOM:
        hint = f"presets: {', '.join(shipped_presets())}; any other endpoint: {_ADD_CUSTOM}"
        raise ProviderUnknown(f"no such preset: {preset}", hint=hint)
    addresses = dict(map(_address, wires))
    if known is None and not (addresses and name):
        raise click.UsageError(f"{CUSTOM} has no name and no address of its own: {_ADD_CUSTOM}")
    home = resolve_home(os.environ)
    added = name or preset
    edit = plan_preset(home, preset, name=added, key_env=key_env, make_default=make_default, wires=addresses)
    edit.run()
    diff = edit.diff
    if as_json:
        show_json({"name": added, "file": str(home.config_file), "diff": list(diff)})
        return
    click.echo(f"{home.config_file}  {'written' if diff else 'unchanged'}")
    for line in diff:
        click.echo(f"  {line}")
    wants_key = key_env is not None or (known is not None and known.key_env is not None)
    if asked and wants_key:
        _ask_and_keep_key(home, added)
    else:
        click.echo(f"  next: dragoman {'keys set' if wants_key else 'providers check'} {added}")


def _address(said: str) -> tuple[str, str]:
    """`chat=https://host/v1` as a wire and its address."""
    from dragoman.config.schema import check_base_address
    from dragoman.gateway.routes import WIRES

    wire, _, address = said.partition("=")
    if wire not in WIRES:
        raise click.BadParameter(f"expected {', '.join(WIRES)} before the first =", param_hint="--wire")
    try:
        check_base_address(f"wires.{wire}", address)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--wire") from None
    return wire, address


def _ask_and_keep_key(home: Home, provider: str) -> None:
    from dragoman.cli.wizard import ask_key
    from dragoman.config.secrets import store_key

    found = _look_for_keys(home, _loaded()[2].upstreams[provider].keys)
    if found.places:
        click.echo(f"its key: {', '.join(found.places)}")
        return
    store_key(home, provider, ask_key(provider))
    click.echo(f"  next: dragoman providers check {provider}")


@providers.command("check")
@click.argument("name", required=False)
@click.option("--model", metavar="NAME", help="Ask for this model (default: the provider's own).")
@AS_JSON
def check_providers(name: str | None, model: str | None, as_json: bool) -> int:
    """Ask each provider, or one, a small question over every wire it offers. Exit code 0 if all answer."""
    from dragoman.cli.smoke import check

    home, _, routes = _loaded()
    if name is not None and name not in routes.upstreams:
        hint = f"dragoman providers add {name}, or one of: {', '.join(routes.upstreams)}"
        raise ProviderUnknown(f"no such provider: {name}", hint=hint)
    return check(home, routes, name, model, as_json=as_json)


@keys.command("list")
@AS_JSON
def list_keys(as_json: bool) -> None:
    """List the keys that are found, by provider."""
    from dragoman.config.secrets import stored_key_names

    home, _, routes = _loaded()
    found = {name: _look_for_keys(home, upstream.keys) for name, upstream in routes.upstreams.items()}
    rows = [
        {"provider": name, "id": key.id, "place": key.place} for name in found for key in found[name].keys
    ]
    missing = [name for name, up in routes.upstreams.items() if up.key_required and not found[name].keys]
    unreached = [{"provider": name, "reason": why} for name in found for why in found[name].out_of_reach]
    unused = [name for name in stored_key_names(home) if name not in routes.upstreams]
    if as_json:
        show_json({"keys": rows, "missing": missing, "out_of_reach": unreached, "stored_unused": unused})
        return
    for row in rows:
        click.echo(f"{row['provider']}  {row['id']}  {row['place']}")
    for row in unreached:
        click.echo(f"{row['provider']}  OUT OF REACH  {row['reason']}")
    for name in missing:
        click.echo(f"{name}  MISSING  next: dragoman keys set {name}")
    for name in unused:
        click.echo(f"{name}  stored, but no provider has this name")
    if not rows and not missing:
        click.echo("no keys, and none needed")


@keys.command("set")
@click.argument("provider")
@click.option("--from-env", metavar="VARIABLE", help="Store the key this variable holds now.")
@click.option("--keyring", is_flag=True, help="Store it in the system's keyring instead of a file.")
@AS_JSON
def set_key(provider: str, from_env: str | None, keyring: bool, as_json: bool) -> None:
    """Store a provider's key in a file only you can read; asked hidden, or read from standard input."""
    from dragoman.config.schema import KeySource
    from dragoman.config.secrets import key_id, store_in_keyring, store_key

    home, _, routes = _loaded()
    if provider not in routes.upstreams:
        hint = f"dragoman providers add {provider}, or one of: {', '.join(routes.upstreams)}"
        raise ProviderUnknown(f"no such provider: {provider}", hint=hint)
    if from_env is not None:
        secret = os.environ.get(from_env, "")
    elif sys.stdin.isatty():
        secret = click.prompt(f"key of {provider}", hide_input=True, err=True)
    else:
        secret = sys.stdin.readline()
    told = {"provider": provider, "id": key_id(secret.strip())}
    if keyring:
        store_in_keyring(provider, secret)
        place, told["keyring"] = f"the keyring, entry {provider}", provider
    else:
        place = told["file"] = str(store_key(home, provider, secret))
    if as_json:
        show_json(told)
        return
    click.echo(f"stored in {place}; a running gateway sees it after: dragoman reload")
    if keyring and KeySource(keyring=provider) not in routes.upstreams[provider].keys:
        line = f'keys = [{{ keyring = "{provider}" }}]'
        click.echo(f"  next: {line} in [providers.{provider}] of {home.config_file}, in place of key_env")


@keys.command("rm")
@click.argument("provider")
@click.option("--keyring", is_flag=True, help="Forget the one in the system's keyring instead.")
@AS_JSON
def remove_stored_key(provider: str, keyring: bool, as_json: bool) -> int:
    """Forget a stored key. Keys in the environment are not touched, nor without --keyring those in one."""
    from dragoman.config.secrets import remove_from_keyring, remove_key

    existed = remove_from_keyring(provider) if keyring else remove_key(resolve_home(os.environ), provider)
    if as_json:
        show_json({"provider": provider, "removed": existed})
    else:
        click.echo("forgotten" if existed else "there was none")
    return ExitCode.OK

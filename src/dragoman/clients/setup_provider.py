"""Adds a provider to our own `dragoman.toml` with the same care as to a client's file: comments stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dragoman.catalog.presets import shipped_presets
from dragoman.clients.config_file import ClientFile, read_client_file, replace_client_file
from dragoman.clients.editing import has, leaves
from dragoman.clients.setup_record import changed_lines
from dragoman.clients.toml_edit import TomlText
from dragoman.config.paths import Home
from dragoman.config.schema import KeySource
from dragoman.config.secrets import find_keys, store_key
from dragoman.gateway.routes import RouteTable


@dataclass(frozen=True, slots=True)
class ProviderEdit:
    """A change of `dragoman.toml`, not yet made.

    Attributes:
        file: the file as it is.
        text: what it shall say.
    """

    file: ClientFile
    text: str

    @property
    def diff(self) -> tuple[str, ...]:
        """The lines that change."""
        return changed_lines(self.file.text, self.text)

    def run(self) -> None:
        """Write it; nothing is written when nothing changes.

        Raises:
            EditRefused: the file cannot be replaced, or was changed meanwhile.
        """
        content = self.file.encoded(self.text)
        if self.text != self.file.text:
            replace_client_file(self.file, content)


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """A key that only the environment has: a daemon started by a client may not see it.

    Attributes:
        provider: whose key.
        variable: where it is.
        configured: whether `dragoman.toml` names the provider; else the variable alone makes it.
    """

    provider: str
    variable: str
    configured: bool

    @property
    def command(self) -> str:
        """What stores it, to be typed."""
        store = f"dragoman keys set {self.provider} --from-env {self.variable}"
        return store if self.configured else f"dragoman providers add {self.provider}, then: {store}"

    @property
    def note(self) -> str:
        """A sentence for people."""
        return (
            f"the key of {self.provider} is only in this shell's {self.variable}; a gateway that a client "
            f"starts may not see it. Keep it: {self.command}"
        )


def plan_preset(
    home: Home,
    preset: str,
    *,
    name: str,
    key_env: str | None = None,
    make_default: bool = False,
    wires: Mapping[str, str] | None = None,
) -> ProviderEdit:
    """Plan `[providers.NAME]` from a preset; the first provider becomes the default one.

    Args:
        home: whose configuration file is edited; made when missing.
        preset: a shipped preset, or `custom`.
        name: what to call the provider.
        key_env: the variable with its key; the preset's when None.
        make_default: send unknown models there even when there is a default already.
        wires: addresses by wire, in place of the preset's.

    Raises:
        EditRefused: the file cannot be edited safely.
    """
    file = read_client_file(home.config_file)
    document = TomlText(file.text, str(home.config_file))
    table: dict[str, Any] = {"preset": preset}
    known = shipped_presets().get(preset)
    variable = key_env or (known.key_env if known is not None else None)
    if variable is not None:
        table["key_env"] = variable
    if wires:
        table["wires"] = dict(wires)
    first = not document.tree.get("providers")
    if has(document.tree, ("providers", name)):
        for path, value in leaves(table, ("providers", name)):
            document = document.with_value(path, value)
    else:
        document = document.with_table(("providers", name), table)
    default = ("gateway", "default_provider")
    if make_default or (first and "default_provider" not in document.tree.get("gateway", {})):
        document = document.with_value(default, name)
    return ProviderEdit(file, document.text)


def plan_default(home: Home, name: str) -> ProviderEdit:
    """Plan to send unknown models to a provider that is configured already.

    Raises:
        EditRefused: the file cannot be edited safely.
    """
    file = read_client_file(home.config_file)
    document = TomlText(file.text, str(home.config_file))
    return ProviderEdit(file, document.with_value(("gateway", "default_provider"), name).text)


def keys_only_in_environment(home: Home, env: Mapping[str, str], routes: RouteTable) -> list[EnvironmentKey]:
    """The keys a daemon without this environment would miss; those with a list of keys of their own are left
    to the user.

    Args:
        home: where keys are stored.
        env: the environment.
        routes: what is configured.
    """
    found: list[EnvironmentKey] = []
    text = TomlText(read_client_file(home.config_file).text, str(home.config_file))
    for upstream in routes.upstreams.values():
        stored = KeySource(stored=upstream.name)
        variable = next((source.env for source in upstream.keys if source.env and env.get(source.env)), None)
        if variable is None or stored not in upstream.keys:
            continue
        if not find_keys([stored], env, home):
            configured = has(text.tree, ("providers", upstream.name))
            found.append(EnvironmentKey(upstream.name, variable, configured))
    return found


def keep_key(home: Home, env: Mapping[str, str], key: EnvironmentKey) -> None:
    """Store a key of the environment, and the provider where only the variable made it.

    Raises:
        EditRefused: `dragoman.toml` cannot be edited safely.
        BadKey: what the variable holds is no key.
        HomeUnwritable: the key cannot be kept.
    """
    if not key.configured:
        plan_preset(home, key.provider, name=key.provider, key_env=key.variable).run()
    store_key(home, key.provider, env[key.variable])

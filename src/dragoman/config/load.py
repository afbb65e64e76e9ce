"""Reads `dragoman.toml` and joins it with the rest: flag before environment before file before default."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dragoman.config.environment import ZAI_ADDRESS, ZAI_KEY, read_environment
from dragoman.config.paths import Home
from dragoman.config.reading import KeyPath, Problem, dotted, read_table
from dragoman.config.schema import Config, Origin, Settings, Source, check_base_address
from dragoman.errors import DragomanError, ExitCode

MAX_CONFIG_BYTES = 4 << 20


class Place(NamedTuple):
    """One mistake in the configuration.

    Attributes:
        where: `FILE:LINE`, or the name of a variable or flag.
        key: the dotted key, empty for a syntax error.
        message: what is wrong.
    """

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.message}" if self.key else f"{self.where}: {self.message}"


class ConfigError(DragomanError):
    """The configuration cannot be used.

    Attributes:
        places: every mistake found, the first one being the message's first line.
    """

    code = "config_invalid"
    exit_code = ExitCode.USAGE

    def __init__(self, places: list[Place], *, hint: str | None = None) -> None:
        super().__init__(
            "\n".join(map(str, places)), hint=hint or "correct it, then: dragoman doctor --offline"
        )
        self.places = tuple(places)


class ConfigMissing(DragomanError):
    """The file named by `--config` is not there."""

    code = "config_missing"
    exit_code = ExitCode.USAGE


def load_config(
    home: Home,
    env: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
    *,
    must_exist: bool = False,
) -> Config:
    """The configuration in force.

    Args:
        home: whose `config_file` is read.
        env: the environment.
        flags: dotted key -> value given on the command line, such as `{"gateway.port": 0}`; None values
            are flags not given.
        must_exist: whether a missing file is an error (it was named by `--config`).

    Raises:
        ConfigMissing: the file must exist and does not.
        ConfigError: with every mistake, its file and line, key, and the nearest known key.
    """
    text = _read_text(home.config_file, must_exist=must_exist)
    return parse_config(text, env, flags, file=home.config_file if text is not None else None)


def parse_config(
    text: str | None,
    env: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
) -> Config:
    """Like `load_config`, from a text already read; `file` is only named in errors.

    Raises:
        ConfigError: as `load_config`.
    """
    name = str(file) if file is not None else "dragoman.toml"
    tree = _parse_toml(text or "", name)
    origins: dict[str, Origin] = {dotted(path): "file" for path in _leaves(tree)}

    from_env, bad = read_environment(env)
    places = [Place(variable.name, "", variable.reason) for variable in bad]
    problems: list[Problem] = []
    client_token_env = _seed_provider(tree, env, origins, places)
    for path, (value, variable) in from_env.items():
        _set(tree, path, value, f"environment {variable}", origins)
    for key, value in (flags or {}).items():
        if value is not None:
            _set(tree, tuple(key.split(".")), value, "flag", origins)

    settings = read_table(Settings, tree, (), problems)
    source = Source(file=file, text=text or "", origins=origins)
    if settings is not None:
        problems += _contradictions(settings)
    places += [_place(problem, name, source) for problem in problems]
    if places or settings is None:
        raise ConfigError(places)
    values = {field: getattr(settings, field) for field in settings.__struct_fields__}
    return Config(**values, source=source, client_token_env=client_token_env)


def config_error(config: Config, path: KeyPath, message: str) -> ConfigError:
    """An error about a key of a loaded configuration, found by a room that knows what the names mean."""
    name = str(config.source.file) if config.source.file else "dragoman.toml"
    return ConfigError([_place(Problem(path, message), name, config.source)])


def is_loopback(host: str) -> bool:
    """Whether a listening address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _read_text(file: Path, *, must_exist: bool) -> str | None:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        if must_exist:
            raise ConfigMissing(f"there is no configuration file {file}", hint="check --config") from None
        return None
    except OSError as error:
        place = Place(str(file), "", f"cannot be read: {error.strerror or error}")
        raise ConfigError([place], hint=f"make {file} a readable file") from None
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError([Place(str(file), "", "larger than 4 MiB: not a configuration")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Place(f"{file}:{line}", "", "this line is not UTF-8 text")]) from None


def _parse_toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", reason)
        line = found[1] if found else str(text.count("\n") + 1)
        reason = reason[: found.start()] if found else reason.removesuffix(" (at end of document)")
        raise ConfigError([Place(f"{name}:{line}", "", f"not valid TOML: {reason}")]) from None


def _seed_provider(
    tree: dict[str, Any], env: Mapping[str, str], origins: dict[str, Origin], places: list[Place]
) -> str | None:
    """Let the variables of the Z.ai proxy do what they did there; name the one taken as client token.

    Without any provider in the file the key alone makes one. A provider of ours is never rerouted by a
    variable: the address counts only where the file gives none.
    """
    address, key = env.get(ZAI_ADDRESS, "").strip(), env.get(ZAI_KEY, "").strip()
    alone = not tree.get("providers") and bool(key)
    if alone:
        origin = f"environment {ZAI_KEY}"
        _set(tree, ("providers", "zai", "preset"), "zai", origin, origins)
        _set(tree, ("providers", "zai", "key_env"), ZAI_KEY, origin, origins)
        gateway = tree.get("gateway")
        if not (isinstance(gateway, dict) and "default_provider" in gateway):
            _set(tree, ("gateway", "default_provider"), "zai", origin, origins)
    providers = tree.get("providers")
    zai = providers.get("zai") if isinstance(providers, dict) else None
    if address and isinstance(zai, dict) and "wires" not in zai:
        try:
            check_base_address(ZAI_ADDRESS, address)
        except ValueError as error:
            places.append(Place(ZAI_ADDRESS, "", str(error).removeprefix(f"{ZAI_ADDRESS}: ")))
        else:
            path = ("providers", "zai", "wires", "chat")
            _set(tree, path, address, f"environment {ZAI_ADDRESS}", origins)
    return ZAI_KEY if alone else None


def _contradictions(settings: Settings) -> list[Problem]:
    """Single values that are fine alone and not together."""
    problems: list[Problem] = []
    gateway = settings.gateway
    if gateway.auth == "none" and not is_loopback(gateway.host):
        message = f'"none" is for loopback only; {gateway.host} needs auth = "token"'
        problems.append(Problem(("gateway", "auth"), message))
    default = gateway.default_provider
    if default is not None and default not in settings.providers:
        known = ", ".join(sorted(settings.providers)) or "none is configured"
        problems.append(Problem(("gateway", "default_provider"), f"no such provider (known: {known})"))
    for name, provider in settings.providers.items():
        if provider.key_env is not None and provider.keys:
            problems.append(Problem(("providers", name, "keys"), "give either key_env or keys"))
    return problems


def _set(tree: dict[str, Any], path: KeyPath, value: Any, origin: Origin, origins: dict[str, Origin]) -> None:
    at: Any = tree
    for part in path[:-1]:
        at = at.setdefault(part, {})
        if not isinstance(at, dict):
            return  # the file has something else there, which is reported when it is read
    at[path[-1]] = value
    origins[dotted(path)] = origin


def _leaves(table: Mapping[str, Any], path: KeyPath = ()) -> list[KeyPath]:
    found: list[KeyPath] = []
    for key, value in table.items():
        here = (*path, key)
        found += _leaves(value, here) if isinstance(value, dict) and value else [here]
    return found


def _place(problem: Problem, name: str, source: Source) -> Place:
    origin = source.origin(dotted(problem.path))
    if origin.startswith("environment "):
        return Place(origin.removeprefix("environment "), dotted(problem.path), problem.message)
    if origin == "flag":
        return Place("--" + str(problem.path[-1]).replace("_", "-"), dotted(problem.path), problem.message)
    line = source.line(*problem.path)
    return Place(f"{name}:{line}" if line else name, dotted(problem.path), problem.message)

"""The configuration of a child: the file's while it is right, else the last one that was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dragoman.config.load import ConfigError, load_config
from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.gateway.routes import RouteTable


def config_at_start(home: Home, env: Mapping[str, str], flags: Mapping[str, Any], in_force: str) -> Config:
    """What a child starts with.

    Args:
        home: whose daemon this is.
        env: the environment.
        flags: what the command line said.
        in_force: a copy of the configuration the daemon serves with, for a child that starts while the file
            is wrong; "" for none.

    Raises:
        ConfigError: the file is wrong and there is no copy.
    """
    if not in_force or not Path(in_force).exists():
        return load_config(home, env, flags)
    try:
        return _checked(load_config(home, env, flags))
    except ConfigError:
        return load_config(replace(home, config_file=Path(in_force)), env, flags)


class ConfigReader:
    """Reads the configuration when its file has changed; a wrong one is told once and changes nothing.

    Args:
        home: whose file.
        env: the environment.
        flags: what the command line said.
        config: the configuration to begin with.
        warn: told what is wrong with a changed file.
    """

    def __init__(
        self,
        home: Home,
        env: Mapping[str, str],
        flags: Mapping[str, Any],
        config: Config,
        *,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._home = home
        self._env = env
        self._flags = flags
        self._config = config
        self._warn = warn
        self._mark = self._look()

    def __call__(self) -> Config:
        """The configuration as it is at this time."""
        mark = self._look()
        if mark != self._mark:
            self._mark = mark
            try:
                self._config = _checked(load_config(self._home, self._env, self._flags))
            except ConfigError as error:
                self._warn(error.message)
        return self._config

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._home.config_file.stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_ino, found.st_size)


def _checked(config: Config) -> Config:
    """The same configuration, if every name in it is known.

    Raises:
        ConfigError: it names something that does not exist.
    """
    RouteTable(config)
    return config

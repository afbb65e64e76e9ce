"""The home: every path dragoman owns, resolved once from the environment and passed on."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dragoman.config.files import ensure_private_folder
from dragoman.errors import DragomanError

HOME_VARIABLE = "DRAGOMAN_HOME"

# sun_path holds 104 bytes on macOS and 108 on Linux, the closing zero included.
MAX_SOCKET_PATH_BYTES = 100

# Not TMPDIR: two terminals with a different one would look for the same daemon in two places.
SHORT_SOCKET_ROOT = Path("/tmp")  # noqa: S108 - the folder below is per user, 0700 and checked for its owner


class HomeUnwritable(DragomanError):
    """A folder of the home cannot be made or used."""

    code = "home_unwritable"


@dataclass(frozen=True, slots=True)
class Home:
    """Where one installation keeps its things.

    Attributes:
        config_file: the `dragoman.toml` that is read; it need not exist.
        state: kept between runs (tokens, jobs, workspaces, logs).
        run: what only a living daemon needs (lock, address, sockets).
        short_sockets: where sockets go when a path inside `run` would be too long for the system.
    """

    config_file: Path
    state: Path
    run: Path
    short_sockets: Path

    @property
    def tokens(self) -> Path:
        """One 0600 file a token, named by the sha256 of its secret."""
        return self.state / "tokens"

    @property
    def data_token_file(self) -> Path:
        """The secret of the user's own data token."""
        return self.state / "data.token"

    @property
    def control_token_file(self) -> Path:
        """The secret the CLI shows to the control API."""
        return self.state / "control.token"

    @property
    def provider_keys(self) -> Path:
        """One 0600 file a provider key that `dragoman keys set` stored."""
        return self.state / "keys"

    @property
    def spool(self) -> Path:
        """Usage rows the gateways append and the control process takes in."""
        return self.state / "spool"

    @property
    def runs(self) -> Path:
        """One folder a run: what was asked, what happened, what came out."""
        return self.state / "runs"

    @property
    def workspaces(self) -> Path:
        """The isolated clones that writes run in."""
        return self.state / "workspaces"

    @property
    def trash(self) -> Path:
        """Discarded work, kept for a while."""
        return self.state / "trash"

    @property
    def logs(self) -> Path:
        """Log files of the daemon and its children."""
        return self.state / "logs"

    @property
    def slots(self) -> Path:
        """Lock files that bound the concurrency of a key over all gateways."""
        return self.state / "slots"

    @property
    def backups(self) -> Path:
        """Client configuration as it was before `dragoman setup` touched it."""
        return self.state / "backups"

    @property
    def lock_file(self) -> Path:
        """Held by the one daemon of this home."""
        return self.run / "lock"

    @property
    def daemon_json(self) -> Path:
        """`{"url", "pid", "version"}` of the running daemon."""
        return self.run / "daemon.json"

    @property
    def control_socket(self) -> Path:
        """Where gateways reach the control process."""
        return self._sockets / "control.sock"

    @property
    def gateway_socket(self) -> Path:
        """The data plane for sandboxed workers, alone in its folder: the folder is what gets mounted."""
        return self._sockets / "gateway" / "gateway.sock"

    @property
    def _sockets(self) -> Path:
        longest = self.run / "gateway" / "gateway.sock"
        return self.run if len(os.fsencode(longest)) <= MAX_SOCKET_PATH_BYTES else self.short_sockets

    def ensure(self) -> None:
        """Make every folder, 0700.

        Raises:
            HomeUnwritable: a folder cannot be made, or is somebody else's.
        """
        folders = [self.state, self.run, self.tokens, self.spool, self.runs, self.workspaces]
        folders += [self.trash, self.logs, self.slots, self.backups]
        if self._sockets != self.run:
            _refuse_foreign(self.short_sockets.parent)
            folders += [self.short_sockets.parent, self.short_sockets]
        folders.append(self.gateway_socket.parent)
        for folder in folders:
            try:
                ensure_private_folder(folder)
            except OSError as error:
                raise unwritable(folder, error) from None


def unwritable(path: Path, error: OSError) -> HomeUnwritable:
    """The error to raise when something of the home cannot be made or written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    needed = "free some disk" if full else "make it yours and writable"
    return HomeUnwritable(
        f"cannot write {path}: {error.strerror or error}",
        hint=f"{needed}, or set {HOME_VARIABLE} to a folder that is{' elsewhere' if full else ''}",
    )


def resolve_home(env: Mapping[str, str], config_file: Path | None = None) -> Home:
    """Find the home; touches nothing.

    `DRAGOMAN_HOME` holds everything when set. Otherwise the platform's folders are used by the rules of
    platformdirs (XDG variables, else `~/.config` and `~/.local/state`, or `~/Library/Application Support`
    on macOS), applied to `env` alone so that a caller can resolve somebody else's home.

    Args:
        env: the environment to read.
        config_file: the file named by `--config`; it wins over the default place.
    """
    user_home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    if chosen := env.get(HOME_VARIABLE):
        root = _absolute(chosen, user_home)
        config, state, run = root / "dragoman.toml", root / "state", root / "run"
    else:
        config = _platform_folder(env, "XDG_CONFIG_HOME", user_home / ".config", user_home) / "dragoman.toml"
        state = _platform_folder(env, "XDG_STATE_HOME", user_home / ".local" / "state", user_home)
        run = state / "run"
    if config_file is not None:
        config = _absolute(str(config_file), user_home)
    mark = hashlib.sha256(os.fsencode(run)).hexdigest()[:12]
    return Home(
        config_file=config,
        state=state,
        run=run,
        short_sockets=SHORT_SOCKET_ROOT / f"dragoman-{os.geteuid()}" / mark,
    )


def _platform_folder(env: Mapping[str, str], variable: str, default: Path, user_home: Path) -> Path:
    chosen = env.get(variable, "").strip()
    if chosen and Path(chosen).is_absolute():
        return Path(chosen) / "dragoman"
    if sys.platform == "darwin":
        return user_home / "Library" / "Application Support" / "dragoman"
    return default / "dragoman"


def _absolute(path: str, user_home: Path) -> Path:
    if path == "~" or path.startswith("~/"):
        path = str(user_home) + path[1:]
    return Path(os.path.abspath(path))  # noqa: PTH100 - a symlinked home keeps the name the user chose


def _refuse_foreign(folder: Path) -> None:
    """The temp dir is open to all: a folder waiting there under our name must be ours."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise HomeUnwritable(
            f"the socket folder {folder} belongs to somebody else",
            hint=f"set {HOME_VARIABLE} to a shorter path, so that no socket folder in the temp dir is needed",
        )

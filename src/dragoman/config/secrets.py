"""Provider keys: from the environment, the system's keyring or a private file, never from `dragoman.toml`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from dragoman.config.files import ensure_private_folder, write_private_file
from dragoman.config.paths import Home, unwritable
from dragoman.config.schema import KeySource
from dragoman.errors import DragomanError

KEYRING_SERVICE = "dragoman"
_SUFFIX = ".key"
_MAX_KEY_FILE_BYTES = 64 * 1024

KeyringLookup = Callable[[str], str | None]


class KeyOutOfReach(DragomanError):
    """The configuration says where a key is, and there it cannot be read."""

    code = "key_out_of_reach"


class KeyringMissing(KeyOutOfReach):
    """The configuration names a keyring entry and no keyring can be asked."""

    code = "keyring_missing"


class KeyFileUnreadable(KeyOutOfReach):
    """A file that holds a key is there and cannot be read."""

    code = "key_file_unreadable"


class BadKey(DragomanError):
    """What was given as a key cannot be one."""

    code = "bad_key"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key of a provider.

    Attributes:
        id: names it in ledger, logs and slot files.
        secret: the key itself; never shown.
        place: where it was found, for people.
        max_concurrency: requests at a time with this key; the provider's when None.
    """

    id: str
    secret: str = field(repr=False)
    place: str
    max_concurrency: int | None = None


def ask_system_keyring(entry: str) -> str | None:
    """The secret of an entry of service `dragoman`, or None.

    Raises:
        KeyringMissing: the `keyring` extra is not installed, or it cannot reach a keyring.
    """
    with _keyring(f"the keyring did not give the key {entry}") as keyring:
        return keyring.get_password(KEYRING_SERVICE, entry)


def store_in_keyring(entry: str, secret: str) -> None:
    """Keep a key in the system's keyring, as service `dragoman`.

    Raises:
        BadKey: as `clean_key`.
        KeyringMissing: as `ask_system_keyring`.
    """
    secret = clean_key(entry, secret)
    with _keyring(f"the keyring did not take the key {entry}") as keyring:
        keyring.set_password(KEYRING_SERVICE, entry, secret)


def remove_from_keyring(entry: str) -> bool:
    """Forget a key in the system's keyring; whether there was one.

    Raises:
        KeyringMissing: as `ask_system_keyring`.
    """
    with _keyring(f"the keyring did not forget the key {entry}") as keyring:
        if keyring.get_password(KEYRING_SERVICE, entry) is None:
            return False
        keyring.delete_password(KEYRING_SERVICE, entry)
        return True


@contextmanager
def _keyring(what_failed: str) -> Iterator[Any]:
    try:
        import keyring  # pyright: ignore[reportMissingImports] - the `keyring` extra
    except ImportError:
        hint = 'pip install "dragoman[keyring]", or keep the key in a file: dragoman keys set PROVIDER'
        raise KeyringMissing(f"{what_failed}: that needs an extra", hint=hint) from None
    try:
        yield keyring
    except Exception as error:  # noqa: BLE001 - each of its many backends has its own errors
        hint = "unlock the keyring, or keep the key in a file: dragoman keys set PROVIDER"
        raise KeyringMissing(f"{what_failed} ({type(error).__name__})", hint=hint) from None


def find_key(
    source: KeySource,
    env: Mapping[str, str],
    home: Home,
    *,
    ask_keyring: KeyringLookup = ask_system_keyring,
) -> str | None:
    """The key a source names, or None when it is not there (an empty one is not there).

    Raises:
        KeyringMissing: see `ask_system_keyring`.
        KeyFileUnreadable: the file is there and cannot be read.
    """
    if source.env is not None:
        found = env.get(source.env)
    elif source.keyring is not None:
        found = ask_keyring(source.keyring)
    else:
        found = _read_key_file(key_path(source, env, home))
    return (found or "").strip() or None


def find_keys(
    sources: Iterable[KeySource],
    env: Mapping[str, str],
    home: Home,
    *,
    ask_keyring: KeyringLookup = ask_system_keyring,
    missed: Callable[[KeyOutOfReach], None] | None = None,
) -> list[FoundKey]:
    """The keys that are there, in order, each once.

    Args:
        sources: where to look.
        env: the environment.
        home: where stored keys are.
        ask_keyring: gives an entry of the keyring.
        missed: takes what keeps a key out of reach, and the search goes on; raised when None.

    Raises:
        KeyOutOfReach: as `find_key`.
    """
    found: dict[str, FoundKey] = {}
    for source in sources:
        try:
            secret = find_key(source, env, home, ask_keyring=ask_keyring)
        except KeyOutOfReach as error:
            if missed is None:
                raise
            missed(error)
            continue
        if secret is not None:
            key = FoundKey(key_id(secret), secret, describe_key(source), source.max_concurrency)
            found.setdefault(key.id, key)
    return list(found.values())


def _read_key_file(path: Path) -> str | None:
    """What a key file holds; links are followed, since mounted secrets are such."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_KEY_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        hint = f"chmod 600 {path}, as its owner" if isinstance(error, PermissionError) else None
        raise KeyFileUnreadable(
            f"the key file {path} cannot be read: {reason}", hint=hint or "dragoman doctor --offline"
        ) from None
    if len(content) > _MAX_KEY_FILE_BYTES:
        hint = "a key file holds the key alone"
        raise KeyFileUnreadable(f"the key file {path} is larger than 64 KiB: not a key", hint=hint)
    return content.decode("utf-8", "replace")


def key_id(secret: str) -> str:
    """A short name for a key that tells nothing about it: the start of its sha256."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def describe_key(source: KeySource) -> str:
    """Where a key comes from, for people; never the key."""
    if source.env is not None:
        return f"environment {source.env}"
    if source.keyring is not None:
        return f"keyring entry {source.keyring}"
    if source.stored is not None:
        return f"stored key {source.stored}"
    return f"file {source.file}"


def clean_key(name: str, secret: str) -> str:
    """What was given as a provider's key, without white space around it.

    Raises:
        BadKey: the key is empty or no single printable line.
    """
    secret = secret.strip()
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise BadKey(f"that is not a key for {name}: expected one line of printable characters")
    return secret


def store_key(home: Home, name: str, secret: str) -> Path:
    """Keep a key in a 0600 file; the gateway finds it at its next reload.

    Raises:
        BadKey: as `clean_key`.
        HomeUnwritable: it cannot be kept.
    """
    secret = clean_key(name, secret)
    file = _stored_file(home, name)
    try:
        ensure_private_folder(home.provider_keys)
        write_private_file(file, secret.encode() + b"\n")
    except OSError as error:
        raise unwritable(file, error) from None
    return file


def remove_key(home: Home, name: str) -> bool:
    """Forget a stored key; whether there was one."""
    file = _stored_file(home, name)
    existed = file.exists()
    file.unlink(missing_ok=True)
    return existed


def stored_key_names(home: Home) -> list[str]:
    """The names of all stored keys."""
    names = (
        file.name.removeprefix("k_").removesuffix(_SUFFIX)
        for file in home.provider_keys.glob(f"k_*{_SUFFIX}")
    )
    return sorted(map(unquote, names))


def _stored_file(home: Home, name: str) -> Path:
    return home.provider_keys / f"k_{quote(name, safe='')}{_SUFFIX}"


def key_path(source: KeySource, env: Mapping[str, str], home: Home) -> Path:
    """The file of a stored key, or the one a source names: a path counts from the configuration's folder."""
    if source.stored is not None:
        return _stored_file(home, source.stored)
    path = source.file or ""
    if path.startswith("~/"):
        path = env.get("HOME", str(Path.home())) + path[1:]
    return home.config_file.parent / path

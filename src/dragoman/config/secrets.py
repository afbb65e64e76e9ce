"""Provider keys: from the environment, the system's keyring or a private file, never from `dragoman.toml`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from dragoman.config.files import ensure_private_folder, read_small_file, write_private_file
from dragoman.config.paths import Home, unwritable
from dragoman.config.schema import KeySource
from dragoman.errors import DragomanError

KEYRING_SERVICE = "dragoman"
_SUFFIX = ".key"

KeyringLookup = Callable[[str], str | None]


class KeyringMissing(DragomanError):
    """The configuration names a keyring entry and no keyring can be asked."""

    code = "keyring_missing"


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
    try:
        import keyring  # pyright: ignore[reportMissingImports] - the `keyring` extra
    except ImportError:
        hint = 'pip install "dragoman[keyring]", or use key_env or: dragoman keys set'
        raise KeyringMissing(f"the key {entry} is in a keyring, which needs an extra", hint=hint) from None
    try:
        return keyring.get_password(KEYRING_SERVICE, entry)
    except Exception as error:  # noqa: BLE001 - each of its many backends has its own errors
        reason = type(error).__name__
        hint = "unlock the keyring, or use key_env or: dragoman keys set"
        raise KeyringMissing(f"the keyring did not give the key {entry} ({reason})", hint=hint) from None


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
    """
    if source.env is not None:
        found = env.get(source.env)
    elif source.keyring is not None:
        found = ask_keyring(source.keyring)
    else:
        content = read_small_file(_key_path(source, env, home), max_bytes=64 * 1024)
        found = content.decode("utf-8", "replace") if content else None
    return (found or "").strip() or None


def find_keys(
    sources: Iterable[KeySource],
    env: Mapping[str, str],
    home: Home,
    *,
    ask_keyring: KeyringLookup = ask_system_keyring,
) -> list[FoundKey]:
    """The keys that are there, in order, each once; a gateway calls this when it starts and reloads.

    Raises:
        KeyringMissing: see `ask_system_keyring`.
    """
    found: dict[str, FoundKey] = {}
    for source in sources:
        secret = find_key(source, env, home, ask_keyring=ask_keyring)
        if secret is not None:
            key = FoundKey(key_id(secret), secret, describe_key(source), source.max_concurrency)
            found.setdefault(key.id, key)
    return list(found.values())


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


def _key_path(source: KeySource, env: Mapping[str, str], home: Home) -> Path:
    if source.stored is not None:
        return _stored_file(home, source.stored)
    path = source.file or ""
    if path.startswith("~/"):
        path = env.get("HOME", str(Path.home())) + path[1:]
    return home.config_file.parent / path

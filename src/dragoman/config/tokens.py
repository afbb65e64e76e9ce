"""Tokens: what a client shows to us. One 0600 file each, named by the hash, so revoking needs no daemon."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from dragoman.config.files import (
    ensure_private_folder,
    read_small_file,
    write_new_private_file,
    write_private_file,
)
from dragoman.config.paths import Home, unwritable
from dragoman.errors import DragomanError

Scope = Literal["data", "run", "control"]

SECRET_PREFIX = "dgm_"  # noqa: S105 - lets log scrubbers and secret scanners recognise our tokens
MAX_CACHE_AGE_S = 0.5
_MIN_ID_PREFIX = 8
_CACHE_ENTRIES = 2048


class UnknownToken(DragomanError):
    """No token has this id, or several start with it."""

    code = "unknown_token"
    http_status = 404


class TokenLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token may use in all; None is no limit.

    Attributes:
        requests: model calls.
        tokens: input plus output tokens.
        usd: money, by the tariffs of the ledger.
    """

    requests: int | None = None
    tokens: int | None = None
    usd: float | None = None

    @property
    def unlimited(self) -> bool:
        return self.requests is None and self.tokens is None and self.usd is None


class TokenRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is known about a token; its secret is not.

    Attributes:
        id: sha256 of the secret, hexadecimal; also the file's name.
        scope: `data` (model calls), `run` (model calls of one worker run), `control` (everything).
        models: the only models it may ask for, or None for all.
        limits: what it may use in all.
        expires_at: seconds since the epoch, or None for never.
        run: the run it was made for.
        label: a name for people.
        created_at: seconds since the epoch.
    """

    id: str
    scope: Scope
    created_at: float
    models: tuple[str, ...] | None = None
    limits: TokenLimits = TokenLimits()
    expires_at: float | None = None
    run: str | None = None
    label: str | None = None

    def is_expired(self, now: float) -> bool:
        """Whether it ended at or before `now` (seconds since the epoch)."""
        return self.expires_at is not None and now >= self.expires_at

    def allows_model(self, model: str) -> bool:
        """Whether it may ask for this client-side model name."""
        return self.models is None or model in self.models


class MintedToken(msgspec.Struct, frozen=True):
    """A new token: the only moment its secret is known to us."""

    secret: str
    record: TokenRecord

    def __repr__(self) -> str:
        return f"MintedToken({self.record!r})"


def token_id(secret: str) -> str:
    """The id of a secret: its sha256 in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def mint(
    home: Home,
    scope: Scope,
    *,
    models: tuple[str, ...] | None = None,
    limits: TokenLimits | None = None,
    expires_at: float | None = None,
    run: str | None = None,
    label: str | None = None,
    now: float | None = None,
) -> MintedToken:
    """Make a token and store its record; gateways accept it at once.

    Args:
        home: where tokens are kept; its folder is made when missing.
        scope: what it opens.
        models: the only models it may ask for, or None for all.
        limits: what it may use in all.
        expires_at: seconds since the epoch.
        run: the run it is made for.
        label: a name for people.
        now: seconds since the epoch; the clock when None.

    Raises:
        HomeUnwritable: the record cannot be stored.
    """
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    record = TokenRecord(
        id=token_id(secret),
        scope=scope,
        created_at=time.time() if now is None else now,
        models=models,
        limits=limits or TokenLimits(),
        expires_at=expires_at,
        run=run,
        label=label,
    )
    try:
        ensure_private_folder(home.tokens)
        write_private_file(_record_file(home, record.id), _encode(record))
    except OSError as error:
        raise unwritable(home.tokens, error) from None
    return MintedToken(secret, record)


def find(home: Home, secret: str, *, now: float | None = None) -> TokenRecord | None:
    """The record of a secret, or None when there is none or it has expired.

    Looked up by hash and compared in constant time, so the time taken tells nothing about other tokens.
    """
    wanted = token_id(secret)
    record = _read_record(_record_file(home, wanted))
    if record is None or not hmac.compare_digest(record.id, wanted):
        return None
    return None if record.is_expired(time.time() if now is None else now) else record


def list_tokens(home: Home) -> list[TokenRecord]:
    """Every stored record, expired ones too, oldest first; unreadable files are left out."""
    return sorted(_records(home), key=lambda record: (record.created_at, record.id))


def revoke(home: Home, id_prefix: str) -> TokenRecord:
    """End a token by its id, or the first 8 or more characters of it.

    Raises:
        UnknownToken: none, or more than one, starts with `id_prefix`.
    """
    found = [record for record in _records(home) if record.id.startswith(id_prefix)]
    if len(id_prefix) < _MIN_ID_PREFIX or len(found) != 1:
        count = "no token" if not found else "more than one token" if len(found) > 1 else "too short an id"
        raise UnknownToken(f"{count}: {id_prefix}", hint="dragoman token list")
    _remove(home, found[0].id)
    return found[0]


def revoke_secret(home: Home, secret: str) -> None:
    """End the token of a secret; a token already gone is no error."""
    _remove(home, token_id(secret))


def revoke_run(home: Home, run: str) -> int:
    """End every token of a run; the number of tokens ended."""
    ended = [record.id for record in _records(home) if record.run == run]
    for ended_id in ended:
        _remove(home, ended_id)
    return len(ended)


def ensure_data_token(home: Home) -> str:
    """The secret of the user's own data token, made at the first call; several processes get the same one.

    Raises:
        HomeUnwritable: it cannot be kept.
    """
    return _ensure(home, home.data_token_file, "data")


def ensure_control_token(home: Home) -> str:
    """The secret the CLI shows to the control API, made at the first call.

    Raises:
        HomeUnwritable: it cannot be kept.
    """
    return _ensure(home, home.control_token_file, "control")


def read_kept_token(file: Path) -> str | None:
    """The secret kept in `file`, or None when there is none yet; makes nothing."""
    content = read_small_file(file, max_bytes=4096)
    secret = content.decode("ascii", "replace").strip() if content else ""
    return secret or None


class TokenCache:
    """Looks tokens up for a gateway; an answer, good or bad, is at most half a second old.

    Args:
        home: where tokens are kept.
        max_age_s: how long an answer may be used.
        monotonic: seconds that never run backwards, for the age of an answer.
        wall: seconds since the epoch, for expiry.
    """

    def __init__(
        self,
        home: Home,
        *,
        max_age_s: float = MAX_CACHE_AGE_S,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._home = home
        self._max_age_s = max_age_s
        self._monotonic = monotonic
        self._wall = wall
        self._answers: dict[bytes, tuple[float, TokenRecord | None]] = {}

    def find(self, secret: str) -> TokenRecord | None:
        """The record of a secret, or None when there is none, or it has expired or been revoked."""
        # Kept by digest: a core dump or a debugger shows no secret, and a dict lookup leaks no timing of it.
        key = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        at = self._monotonic()
        answer = self._answers.get(key)
        if answer is None or at - answer[0] > self._max_age_s:
            if len(self._answers) >= _CACHE_ENTRIES:
                self._answers.clear()
            answer = (at, find(self._home, secret, now=self._wall()))
            self._answers[key] = answer
        record = answer[1]
        return None if record is None or record.is_expired(self._wall()) else record


def _ensure(home: Home, file: Path, scope: Scope) -> str:
    try:
        return _ensure_kept(home, file, scope)
    except OSError as error:
        raise unwritable(file, error) from None


def _ensure_kept(home: Home, file: Path, scope: Scope) -> str:
    ensure_private_folder(home.state)
    ensure_private_folder(home.tokens)
    secret = read_kept_token(file)
    while secret is None:
        fresh = SECRET_PREFIX + secrets.token_urlsafe(32)
        if not write_new_private_file(file, fresh.encode() + b"\n") and read_kept_token(file) is None:
            file.unlink(missing_ok=True)  # an empty or foreign file in its place: never a working token
        secret = read_kept_token(file)
    record_file = _record_file(home, token_id(secret))
    if _read_record(record_file) is None:
        # Whoever sees the secret first writes its record; all write the same token, so order is no matter.
        label = "the user's own" if scope == "data" else "the command line's own"
        record = TokenRecord(id=token_id(secret), scope=scope, created_at=time.time(), label=label)
        write_private_file(record_file, _encode(record))
    return secret


def _record_file(home: Home, record_id: str) -> Path:
    return home.tokens / f"{record_id}.json"


def _read_record(file: Path) -> TokenRecord | None:
    content = read_small_file(file)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=TokenRecord)
    except msgspec.MsgspecError:
        return None


def _records(home: Home) -> Iterator[TokenRecord]:
    for file in home.tokens.glob("*.json"):
        record = _read_record(file)
        if record is not None and record.id == file.stem:
            yield record


def _encode(record: TokenRecord) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def _remove(home: Home, record_id: str) -> None:
    for kept in (home.data_token_file, home.control_token_file):
        secret = read_kept_token(kept)
        if secret is not None and token_id(secret) == record_id:
            kept.unlink(missing_ok=True)
    _record_file(home, record_id).unlink(missing_ok=True)

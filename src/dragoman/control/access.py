"""Who may speak to the control plane: a local page or program, with a control token.

The gateway has checked Host and Origin before it relayed a request here. They are checked again: the
control socket can be reached without the gateway, and a mistake there must not open a door here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from dragoman.config.tokens import TokenCache, TokenRecord
from dragoman.control.answers import send_error
from dragoman.errors import DragomanError

Scope = dict[str, Any]
Application = Callable[[Any, Any, Any], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_OPEN_PATHS = frozenset({"/"})


class Refused(DragomanError):
    """The caller may not."""

    code = "forbidden"
    http_status = 403


class Unauthenticated(DragomanError):
    """The caller showed no token, or one we do not know."""

    code = "unauthenticated"
    http_status = 401


class AccessGate:
    """Lets a request through to `app` when its Host, Origin and token are right.

    Args:
        app: the application behind.
        tokens: looks tokens up by hash.
        hosts: names this machine is called by, besides the loopback ones.
    """

    def __init__(self, app: Application, tokens: TokenCache, *, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._tokens = tokens
        self._hosts = LOCAL_HOSTS.union(host.lower().strip("[]") for host in hosts)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except DragomanError as error:
            await send_error(error, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers: Headers = scope["headers"]
        check_host(headers, self._hosts)
        if scope["path"] in _OPEN_PATHS and scope["method"] in ("GET", "HEAD"):
            return
        check_token(headers, self._tokens)


def check_host(headers: Headers, hosts: Iterable[str]) -> None:
    """Refuse a Host or an Origin that is not this machine: that is what stops a web page elsewhere.

    Args:
        headers: lower-case names and values.
        hosts: names that are this machine; ports are ignored.

    Raises:
        Refused: a foreign name, or more than one Host.
    """
    allowed = frozenset(hosts)
    named = _values(headers, b"host")
    if len(named) != 1 or _host_name(named[0]) not in allowed:
        raise Refused("this Host is not served here", hint="use the address `dragoman status` shows")
    # The gateway appends the name it was called by, which it has checked.
    relayed = {_host_name(value) for value in _values(headers, b"x-forwarded-host")[-1:]}
    for origin in _values(headers, b"origin"):
        scheme, _, rest = origin.partition("://")
        if scheme not in ("http", "https") or _host_name(rest) not in (relayed or allowed):
            raise Refused("this Origin may not call the control API")


def check_token(headers: Headers, tokens: TokenCache) -> TokenRecord:
    """The control token a request shows.

    Raises:
        Unauthenticated: none, or one that is unknown, expired or revoked.
        Refused: a token that only opens the data plane.
    """
    secret = shown_token(headers)
    record = tokens.find(secret) if secret else None
    if record is None:
        reason = "this token is unknown, expired or revoked" if secret else "a control token is needed"
        raise Unauthenticated(reason, hint="the dragoman command line shows its own")
    if record.scope != "control":
        raise Refused(f"a token of scope {record.scope} does not open the control API")
    return record


def shown_token(headers: Headers) -> str | None:
    """The secret in `Authorization: Bearer` or `x-api-key`."""
    for value in _values(headers, b"authorization"):
        kind, _, secret = value.partition(" ")
        if kind.lower() == "bearer" and secret.strip():
            return secret.strip()
    for value in _values(headers, b"x-api-key"):
        if value.strip():
            return value.strip()
    return None


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _host_name(authority: str) -> str:
    """The name in `name[:port]`, without the brackets of an IPv6 address."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()

"""Which proxy an origin is reached through, by the variables curl and requests read."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from .address import Origin, Scheme
from .failures import BadAddress


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy. `authorization` is the value of Proxy-Authorization, or None."""

    scheme: Scheme
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnusableProxy:
    """A variable that names a proxy we do not speak to; `problem` says so without its password."""

    problem: str


@dataclass(frozen=True, slots=True)
class ProxyRules:
    """The proxies of an environment. A name in NO_PROXY also covers its subdomains; `*` covers everything.

    As in curl, loopback is nothing special: an environment that sends everything through a proxy
    excepts local servers by NO_PROXY.
    """

    http: Proxy | UnusableProxy | None = None
    https: Proxy | UnusableProxy | None = None
    exceptions: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ProxyRules:
        """Read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; lower case wins, as it does in curl.

        A variable we can make nothing of (a SOCKS proxy) is no error before something has to go through it.
        """

        def read(name: str) -> str:
            return environment.get(name.lower()) or environment.get(name, "")

        def first(*names: str) -> Proxy | UnusableProxy | None:
            return next((_parse(value, name) for name in names if (value := read(name))), None)

        return cls(
            http=first("HTTP_PROXY", "ALL_PROXY"),
            https=first("HTTPS_PROXY", "ALL_PROXY"),
            exceptions=tuple(part.strip().lower() for part in read("NO_PROXY").split(",") if part.strip()),
        )

    def choose(self, origin: Origin) -> Proxy | None:
        """The proxy for this origin, or None for a direct connection.

        Raises:
            BadAddress: it is a proxy that cannot be used, and going around it is not ours to decide.
        """
        if origin.direct or origin.socket is not None:
            return None
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or any(_covers(rule, origin) for rule in self.exceptions):
            return None
        if isinstance(proxy, UnusableProxy):
            raise BadAddress(
                proxy.problem, hint="Only http and https proxies are spoken; NO_PROXY excepts hosts."
            )
        return proxy


def _parse(value: str, variable: str) -> Proxy | UnusableProxy:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port
    except ValueError:
        return UnusableProxy(f"{variable} does not hold a proxy address")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return UnusableProxy(f"{variable} names a {parts.scheme or 'nameless'} proxy")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    scheme: Scheme = "https" if parts.scheme == "https" else "http"
    return Proxy(scheme, parts.hostname, port or (443 if scheme == "https" else 80), authorization)


def _covers(rule: str, origin: Origin) -> bool:
    if rule == "*":
        return True
    name, port = rule, None
    if rule.startswith("["):
        name, _, rest = rule[1:].partition("]")
        port = rest.removeprefix(":") or None
    elif rule.count(":") == 1:
        name, _, port = rule.partition(":")
    if port and port != str(origin.port):
        return False
    host = origin.host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = name.removeprefix("*").strip(".")
        return host == name or host.endswith(f".{name}")
    try:
        return address in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False

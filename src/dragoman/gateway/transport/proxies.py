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
class ProxyRules:
    """The proxies of an environment. A name in NO_PROXY also covers its subdomains; `*` covers everything.

    As in curl, loopback is nothing special: an environment that sends everything through a proxy
    excepts local servers by NO_PROXY.
    """

    http: Proxy | None = None
    https: Proxy | None = None
    exceptions: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ProxyRules:
        """Read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; lower case wins, as it does in curl.

        Raises:
            BadAddress: a variable that is set holds no http(s) proxy address.
        """

        def read(name: str) -> str:
            return environment.get(name.lower()) or environment.get(name, "")

        fallback = read("ALL_PROXY")
        return cls(
            http=_parse(read("HTTP_PROXY") or fallback, "HTTP_PROXY"),
            https=_parse(read("HTTPS_PROXY") or fallback, "HTTPS_PROXY"),
            exceptions=tuple(part.strip().lower() for part in read("NO_PROXY").split(",") if part.strip()),
        )

    def choose(self, origin: Origin) -> Proxy | None:
        """The proxy for this origin, or None for a direct connection."""
        if origin.direct or origin.socket is not None:
            return None
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or any(_covers(rule, origin) for rule in self.exceptions):
            return None
        return proxy


def _parse(value: str, variable: str) -> Proxy | None:
    if not value:
        return None
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port
    except ValueError:
        raise BadAddress(f"{variable} does not hold a proxy address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadAddress(
            f"{variable} names a {parts.scheme or 'nameless'} proxy",
            hint="Only http and https proxies are spoken.",
        )
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

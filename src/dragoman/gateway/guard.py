"""Who may ask: Host, Origin and token, all before a byte of the body is read."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from dragoman.config.tokens import TokenRecord

from .incoming import Incoming
from .replies import Refusal

_ONCE = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"origin", b"authorization", b"x-api-key"}
)
# What comes after a head that others may read differently is no request to be trusted.
_LAST = ((b"connection", b"close"),)
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^\[\]:@/?#]*?)\.?)(?::\d*)?", re.IGNORECASE)
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Guard:
    """The checks of one configuration.

    Attributes:
        hosts: host names besides loopback's that clients may use (the one we are bound to).
        any_address: accept a Host that is an IP address: bound to other interfaces, and an address, unlike a
            name, cannot be rebound to us by a foreign web page.
        open: the data plane needs no token.
        extra_token_digests: sha256 of secrets accepted beside our own tokens.
    """

    hosts: frozenset[str] = frozenset()
    any_address: bool = False
    open: bool = False
    extra_token_digests: tuple[bytes, ...] = ()

    def check_place(self, incoming: Incoming) -> Refusal | None:
        """Refuse a foreign Host (DNS rebinding) or Origin (a web page spending the user's keys)."""
        if not _ONCE.isdisjoint(incoming.repeated):
            return Refusal(400, "invalid", "A header that may stand once was sent twice.", headers=_LAST)
        if incoming.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            message = "The only transfer encoding understood here is chunked."
            return Refusal(400, "invalid", message, headers=_LAST)
        host = incoming.headers.get(b"host", b"").decode("latin-1")
        if not self._knows(host):
            return Refusal(
                403,
                "foreign_host",
                f"This gateway does not answer for the host {host[:80]!r}.",
                hint="Use http://127.0.0.1 or http://localhost.",
            )
        origin = incoming.headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() != f"http://{host.lower()}":
            return Refusal(403, "foreign_origin", "Requests from other web pages are refused.")
        return None

    def check_token(
        self, incoming: Incoming, find: Callable[[str], TokenRecord | None]
    ) -> TokenRecord | Refusal | None:
        """The record of the shown token; None when the data plane is open or a secret of the environment was
        shown; else a refusal."""
        secret = incoming.shown_token
        if secret is not None:
            record = find(secret)
            if record is not None:
                return record
            digest = hashlib.sha256(secret.encode("latin-1", "replace")).digest()
            if any(hmac.compare_digest(digest, known) for known in self.extra_token_digests):
                return None
        if self.open:
            return None
        what = "The gateway does not know this token." if secret else "The gateway needs a token."
        return Refusal(401, "invalid_token", what, hint="`dragoman token` prints one.")

    def _knows(self, host: str) -> bool:
        name = _host_name(host)
        if name in _LOOPBACK_NAMES or name in self.hosts:
            return True
        if not self.any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets; empty when it is no such header's value."""
    found = _HOST.fullmatch(host)
    return (found["address"] or found["name"] or "").lower() if found is not None else ""

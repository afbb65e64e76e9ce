"""Where an upstream lives, and the checks that keep a request line one line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from .failures import BadAddress

Scheme = Literal["http", "https"]
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORBIDDEN_IN_TARGET = frozenset(range(0x21)) | {0x7F}


@dataclass(frozen=True, slots=True)
class Origin:
    """One place connections go to; connections are pooled by it.

    Attributes:
        socket: a unix socket path; when set, host and port only fill the Host header.
        direct: never through a proxy of the environment (control's socket, the embedded model).
        ca_file: authorities trusted here besides the system's; what differs in trust shares no connection.
    """

    scheme: Scheme
    host: str
    port: int
    socket: str | None = None
    direct: bool = False
    ca_file: str | None = None

    @property
    def authority(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return self.socket or f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class BaseAddress:
    """A provider's base address: an origin and the path every request starts with (no trailing slash)."""

    origin: Origin
    path: str

    def target(self, path: str, query: bytes = b"") -> str:
        """The request target for `path` (with its leading slash) below this base, `query` without its `?`."""
        whole = self.path + path
        return f"{whole}?{query.decode('latin-1')}" if query else whole


def parse_base(url: str, *, direct: bool = False, ca_file: str | None = None) -> BaseAddress:
    """Read a base address such as `https://api.z.ai/api/anthropic`; `direct` and `ca_file` as in `Origin`.

    Raises:
        BadAddress: not http(s), no host, a port that is none, or credentials, query or fragment inside.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"{url!r} is not an address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadAddress(f"{url!r} is not an http or https address")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadAddress(f"the address of {parts.hostname} may not hold credentials, a query or a fragment")
    scheme: Scheme = "https" if parts.scheme == "https" else "http"
    host = parts.hostname
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise BadAddress(f"{host!r} is not a host name") from None
    path = parts.path.rstrip("/")
    check_target(path or "/")
    port = port or _DEFAULT_PORTS[scheme]
    return BaseAddress(Origin(scheme, host, port, direct=direct, ca_file=ca_file), path)


def socket_origin(path: Path) -> Origin:
    """The origin of a server on a unix socket."""
    return Origin("http", "localhost", 80, socket=str(path), direct=True)


def check_target(target: str) -> None:
    """Refuse a request target that could end its own line.

    Raises:
        BadAddress: it holds a space, a control character or something beyond latin-1.
    """
    try:
        raw = target.encode("latin-1")
    except UnicodeEncodeError:
        raise BadAddress(f"{target!r} cannot stand in a request line") from None
    if not raw.startswith(b"/") or not _FORBIDDEN_IN_TARGET.isdisjoint(raw):
        raise BadAddress(f"{target!r} cannot stand in a request line")


def check_header(name: bytes, value: bytes) -> None:
    """Refuse a header that could end its own line.

    Raises:
        BadAddress: a line end or a zero byte in the name or value; the value itself is not repeated.
    """
    if (
        not name
        or b"\n" in value
        or b"\r" in value
        or b"\0" in value
        or not name.replace(b"-", b"").isalnum()
    ):
        raise BadAddress(f"the header {name.decode('latin-1')!r} has a value that cannot be sent")

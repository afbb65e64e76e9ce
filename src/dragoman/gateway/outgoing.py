"""Write the request an upstream gets; of the client's headers it sees only what concerns it."""

from __future__ import annotations

from functools import lru_cache

from dragoman import __version__
from dragoman.wire.turns import Wire

from .asgi import Headers
from .incoming import Incoming
from .route_sources import Upstream
from .routes import Route
from .transport import BaseAddress, Origin, Outgoing, parse_base

_ANTHROPIC_VERSION = (b"anthropic-version", b"2023-06-01")
_AGENT = (b"user-agent", f"dragoman/{__version__}".encode())
_JSON = (b"content-type", b"application/json")
_ACCEPT_STREAM = (b"accept", b"text/event-stream")
_ACCEPT_JSON = (b"accept", b"application/json")

# Everything else a client sends says who and where it is (session ids, turn metadata with paths and commit
# hashes, SDK fingerprints) and is nobody's business upstream.
_KEPT_ON_SAME_WIRE: dict[Wire, tuple[bytes, ...]] = {
    "messages": (b"anthropic-version", b"anthropic-beta"),
    "responses": (b"openai-beta",),
    "chat": (b"openai-beta",),
}

_SHOWN = frozenset({b"request-id", b"x-request-id", b"retry-after", b"retry-after-ms", b"x-should-retry"})
_SHOWN_PREFIXES = (b"anthropic-ratelimit-", b"x-ratelimit-", b"x-codex-")


def outgoing_request(
    route: Route, incoming: Incoming, body: bytes, *, secret: str | None, base: str = "", stream: bool = False
) -> Outgoing:
    """The request to send.

    Args:
        route: where it goes.
        incoming: the client's request.
        body: what to send.
        secret: the provider's key; None for providers without one.
        base: where the embedded model runs, for routes to it.
        stream: whether a stream is asked for.

    Raises:
        BadAddress: the key or a header cannot stand in a header line.
    """
    out = [_JSON, _ACCEPT_STREAM if stream else _ACCEPT_JSON, _AGENT]
    if secret is not None:
        value = secret.encode("latin-1", "replace")
        if route.key_header in ("bearer", "both"):
            out.append((b"authorization", b"Bearer " + value))
        if route.key_header in ("x-api-key", "both"):
            out.append((b"x-api-key", value))
    out += _kept(route, incoming)
    if route.headers:
        own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in route.headers]
        names = {name for name, _ in own}
        out = [pair for pair in out if pair[0] not in names] + own
    place = _place(base + route.url, route.embedded, route.ca_file)
    target = place.target("", incoming.query if route.native else b"")
    return Outgoing("POST", place.origin, target, tuple(out), body)


def upstream_origin(upstream: Upstream, client: Wire) -> Origin:
    """Where a client of this wire reaches a provider that is not the embedded one."""
    return _place(upstream.url(upstream.wire_for(client, None)), False, upstream.ca_file).origin


def _kept(route: Route, incoming: Incoming) -> Headers:
    """The client's headers that mean something to an upstream of the same wire."""
    kept: Headers = []
    if route.native:
        for name in _KEPT_ON_SAME_WIRE[route.wire]:
            value = incoming.headers.get(name, b"")
            if name == b"anthropic-beta" and route.dialect.betas is not None:
                parts = (part.strip() for part in value.split(b","))
                value = b",".join(part for part in parts if part.decode("latin-1") in route.dialect.betas)
            if value:
                kept.append((name, value))
    if route.wire == "messages" and not any(name == b"anthropic-version" for name, _ in kept):
        kept.append(_ANTHROPIC_VERSION)
    return kept


@lru_cache(maxsize=512)
def _place(url: str, direct: bool, ca_file: str | None) -> BaseAddress:
    return parse_base(url, direct=direct, ca_file=ca_file)


def shown_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Of an upstream's headers those a client of the same wire may act on.

    `openai-model` is not among them: Codex 0.169 warns of a rerouted, flagged account when it differs.
    """
    return [(n, v) for n, v in headers if n in _SHOWN or n.startswith(_SHOWN_PREFIXES)]

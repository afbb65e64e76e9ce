"""What a configuration becomes: an immutable whole that a reload replaces by reference.

Whatever has to outlive a reload (connections, resting keys, slots, sessions) is not in here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dragoman.catalog.listing import anthropic_body, codex_body, openai_body
from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.config.secrets import KeyOutOfReach, describe_key, find_key
from dragoman.wire.turns import Wire

from .guard import Guard
from .keys import Key
from .route_sources import Upstream
from .routes import RouteTable

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Runtime:
    """One configuration, ready to serve.

    Attributes:
        routes: who answers for which model.
        keys: the keys found of each provider; a provider that needs none has one without a secret.
        guard: who may ask.
        body_limit_bytes: the largest request taken.
        listings: the body of `/v1/models` for each kind of client.
        health: what `/health` says about providers.
    """

    routes: RouteTable
    keys: Mapping[str, tuple[Key, ...]]
    guard: Guard
    body_limit_bytes: int
    listings: Mapping[str, bytes]
    health: Mapping[str, Mapping[Wire, str]]


def make_runtime(
    config: Config,
    home: Home,
    environment: Mapping[str, str],
    *,
    warn: Callable[[str], None] = lambda _: None,
    seek: Callable[..., str | None] = find_key,
) -> Runtime:
    """Build a runtime; nothing is changed anywhere.

    Args:
        config: the configuration in force.
        home: where stored keys are.
        environment: where keys and the seed users' token are looked up.
        warn: takes one sentence about a key that cannot be read.
        seek: finds a key.

    Raises:
        ConfigError: the configuration names something that does not exist.
    """
    routes = RouteTable(config)
    keys = {
        name: tuple(_keys(upstream, home, environment, warn, seek))
        for name, upstream in routes.upstreams.items()
    }
    models = routes.models
    return Runtime(
        routes=routes,
        keys=keys,
        guard=_guard(config, environment),
        body_limit_bytes=max(
            [config.gateway.max_body_mb << 20, *(up.max_body_bytes for up in routes.upstreams.values())]
        ),
        listings={
            "codex": codex_body(models),
            "anthropic": anthropic_body(models),
            "openai": openai_body(models),
        },
        health={
            name: dict(upstream.wires) for name, upstream in routes.upstreams.items() if not upstream.embedded
        },
    )


def _keys(
    upstream: Upstream,
    home: Home,
    environment: Mapping[str, str],
    warn: Callable[[str], None],
    seek: Callable[..., str | None],
) -> list[Key]:
    found: dict[str, Key] = {}
    for source in upstream.keys:
        try:
            secret = seek(source, environment, home)
        except KeyOutOfReach as error:
            warn(f"{error.message}; next: {error.hint}" if error.hint else error.message)
            continue
        if secret is not None:
            limit = source.max_concurrency or upstream.max_concurrency
            key = Key(upstream.name, describe_key(source), secret, limit)
            found.setdefault(key.id, key)
    if not found and not upstream.key_required:
        return [Key(upstream.name, "", None, upstream.max_concurrency)]
    return list(found.values())


def _guard(config: Config, environment: Mapping[str, str]) -> Guard:
    gateway = config.gateway
    elsewhere = gateway.host not in _LOOPBACK
    extra = environment.get(config.client_token_env, "").strip() if config.client_token_env else ""
    return Guard(
        hosts=frozenset({gateway.host.lower()}),
        any_address=elsewhere,
        open=gateway.auth == "none" and not elsewhere,
        extra_token_digests=(hashlib.sha256(extra.encode()).digest(),) if extra else (),
    )

"""Routes: what a model name becomes. The one place where configuration and catalogue meet.

A table is built once for a configuration and never changes; after its first time a lookup is one
dictionary access.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from dragoman.catalog.listing import CLAUDE_PREFIX, ListedModel
from dragoman.catalog.models import REHEARSAL, shipped_models
from dragoman.config.load import config_error
from dragoman.config.reading import nearest
from dragoman.config.schema import Config, KeyHeader, KeySource, Model, Price
from dragoman.errors import DragomanError
from dragoman.gateway.route_sources import (
    Upstream,
    bare,
    check_models,
    join_model,
    join_providers,
    limits_of,
    near,
    shipped_model,
)
from dragoman.gateway.shims import shims_of
from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.turns import Wire

WIRES: tuple[Wire, ...] = ("responses", "chat", "messages")
_CACHED_ROUTES = 4096


class UnknownModel(DragomanError):
    """No route for this name.

    Attributes:
        model: the name asked for.
        nearest: the known name most like it.
    """

    code = "unknown_model"
    http_status = 404

    def __init__(self, model: str, close: str | None) -> None:
        shown = model if len(model) <= 100 else model[:99] + "…"
        near_name = f"; the nearest known one is {close}" if close else ""
        super().__init__(f"no route for the model {shown}{near_name}", hint="dragoman models list")
        self.model = model
        self.nearest = close


class Route(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a request goes and what must be known to send it.

    Attributes:
        model: the name the client asked for; answers carry it.
        provider: the provider's configured name.
        upstream_model: the provider's name for the model.
        client_wire, wire: what the client and the upstream speak.
        url: where to post; only a path when `embedded`.
        dialect: the upstream's quirks.
        limits: what the model can take.
        context_window: in tokens, None when unknown.
        keys: where the provider's keys are; those found are used.
        key_required: whether asking without a key makes no sense.
        key_header: how a key is shown.
        max_concurrency: requests at a time with one key; None is no limit.
        headers: constant headers to add.
        connect_timeout_s, first_byte_timeout_s, idle_timeout_s: waiting times.
        max_body_bytes: the largest request taken for it.
        ca_file: authorities trusted there besides the system's.
        price: said by the user, else None.
        fallbacks: routes to try in order when this one fails before its first content.
        embedded: it is the embedded model, to be started when first asked.
        known: False when only the default provider may know the model: worth a log line.
        steps: how the name was found, for people.
    """

    model: str
    provider: str
    upstream_model: str
    client_wire: Wire
    wire: Wire
    url: str
    dialect: Dialect
    limits: Limits
    context_window: int | None = None
    keys: tuple[KeySource, ...] = ()
    key_required: bool = False
    key_header: KeyHeader = "bearer"
    max_concurrency: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    max_body_bytes: int
    ca_file: str | None = None
    price: Price | None = None
    fallbacks: tuple[Route, ...] = ()
    embedded: bool = False
    known: bool = True
    steps: tuple[str, ...] = ()

    @property
    def native(self) -> bool:
        """Whether bytes pass through: both sides speak the same wire."""
        return self.client_wire == self.wire

    @property
    def shims(self) -> tuple[str, ...]:
        """What may be changed on the way for this upstream's sake, for `explain` and `doctor`."""
        return tuple(shims_of(self))


class _Target(msgspec.Struct, frozen=True):
    """A name followed to its end."""

    upstream: Upstream
    upstream_model: str
    model: Model
    steps: tuple[str, ...]
    known: bool = True


class RouteTable:
    """All routes of one configuration.

    Args:
        config: the configuration.

    Raises:
        ConfigError: it names a preset, profile, provider, wire or model that does not exist, or aliases run
            in a circle.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._upstreams = join_providers(config)
        check_models(config, self._upstreams)
        self._aliases = {bare(name): bare(target) for name, target in config.aliases.items()}
        self._models = dict(config.models)
        self._served = {up.catalogue: up for up in reversed(self._by_preference()) if up.catalogue}
        self._routes: dict[tuple[str, Wire], Route] = {}
        self._check_names()
        self.models: tuple[ListedModel, ...] = tuple(self._list())
        self._listed = {model.name: model for model in self.models}

    @property
    def upstreams(self) -> dict[str, Upstream]:
        """Every provider by name, the embedded one included."""
        return self._upstreams

    def resolve(self, model: str, client_wire: Wire) -> Route:
        """The route of a request.

        Args:
            model: the name the client asks for.
            client_wire: what the client speaks.

        Raises:
            UnknownModel: nobody knows the name and no default provider is set.
        """
        route = self._routes.get((model, client_wire))
        if route is None:
            route = self._resolve(model, client_wire)
            if len(self._routes) >= _CACHED_ROUTES:
                self._routes.clear()
            self._routes[model, client_wire] = route
        return route

    def upstream_for(self, model: str | None, client_wire: Wire) -> Upstream | None:
        """Who a request would go to: the default provider when no model is named, None when nobody."""
        if model is None:
            return self._default()
        try:
            return self._upstreams[self.resolve(model, client_wire).provider]
        except UnknownModel:
            return None

    def find_model(self, name: str) -> ListedModel | None:
        """The list's entry for a name as clients spell it, with label or Claude prefix."""
        name = bare(name)
        return self._listed.get(name) or self._listed.get(name.removeprefix(CLAUDE_PREFIX))

    def explain(self, model: str) -> dict[str, Any]:
        """Everything about a name, ready for JSON: how it is found, and its route from each wire.

        Raises:
            UnknownModel: as `resolve`.
        """
        routes = {wire: self.resolve(model, wire) for wire in WIRES}
        first = routes["responses"]
        return {
            "model": model,
            "provider": first.provider,
            "upstream_model": first.upstream_model,
            "known": first.known,
            "steps": list(first.steps),
            "context_window": first.context_window,
            "max_output_tokens": first.limits.max_output_tokens,
            "input_modalities": sorted(first.limits.input_modalities),
            "keys": [msgspec.to_builtins(source) for source in first.keys],
            "max_concurrency": first.max_concurrency,
            "fallback": [f"{route.provider}/{route.upstream_model}" for route in first.fallbacks],
            "routes": [
                {
                    "client_wire": wire,
                    "wire": route.wire,
                    "url": route.url,
                    "native": route.native,
                    "shims": list(route.shims),
                }
                for wire, route in routes.items()
            ],
        }

    def _resolve(self, model: str, client_wire: Wire) -> Route:
        target = self._follow(model)
        if target is None:
            raise UnknownModel(model, nearest(bare(model), self._listed))
        fallbacks = []
        for name in target.model.fallback:
            other = self._follow(name)
            if other is not None:
                fallbacks.append(self._route(model, client_wire, other, ()))
        return self._route(model, client_wire, target, tuple(fallbacks))

    def _route(self, model: str, client: Wire, target: _Target, fallbacks: tuple[Route, ...]) -> Route:
        upstream, facts = target.upstream, target.model
        wire = upstream.wire_for(client, facts.wire)
        return Route(
            model=model,
            provider=upstream.name,
            upstream_model=target.upstream_model,
            client_wire=client,
            wire=wire,
            url=upstream.url(wire),
            dialect=upstream.dialect(wire, target.upstream_model),
            limits=limits_of(facts, wire),
            context_window=facts.context_window,
            keys=upstream.keys,
            key_required=upstream.key_required,
            key_header=upstream.shown_header(wire),
            max_concurrency=upstream.max_concurrency,
            headers=upstream.headers,
            connect_timeout_s=upstream.connect_timeout_s,
            first_byte_timeout_s=upstream.first_byte_timeout_s,
            idle_timeout_s=upstream.idle_timeout_s,
            max_body_bytes=upstream.max_body_bytes,
            ca_file=upstream.ca_file,
            price=facts.price,
            fallbacks=fallbacks,
            embedded=upstream.embedded,
            known=target.known,
            steps=target.steps,
        )

    def _follow(self, asked: str) -> _Target | None:
        """Follow a name to a provider; the order of the questions is the order of trust."""
        steps: list[str] = []
        name = bare(asked)
        if name != asked and asked not in self._models:
            steps.append("the label [1m] belongs to the client and is left out")
        elif asked in self._models:
            name = asked
        name = self._unalias(name, steps)
        if found := self._known(name, steps):
            return found
        if name.startswith(CLAUDE_PREFIX):
            inner = self._unalias(name.removeprefix(CLAUDE_PREFIX), [])
            if found := self._known(inner, [*steps, f"Claude Code's spelling of {inner}"]):
                return found
            if found := self._claude(name, steps):
                return found
        default = self._default()
        if default is None:
            return None
        steps.append(f"nobody knows {name}: the default provider {default.name} is asked")
        return _Target(default, name, join_model(None, shipped_model(name)), tuple(steps), known=False)

    def _known(self, name: str, steps: list[str]) -> _Target | None:
        configured = self._models.get(name)
        shipped = shipped_model(name)
        if configured is not None:
            upstream = self._upstream_of(configured, shipped.catalogue if shipped else None)
            if upstream is None:
                return None
            upstream_name = bare(configured.upstream or name)
            facts = join_model(configured, shipped or shipped_model(upstream_name))
            where = f"configured: provider {upstream.name}, model {upstream_name}"
            return _Target(upstream, upstream_name, facts, (*steps, where))
        if shipped is not None and name in shipped_models().models and shipped.catalogue in self._served:
            upstream = self._served[shipped.catalogue]
            where = f"in the catalogue of provider {upstream.name}"
            return _Target(upstream, name, join_model(None, shipped), (*steps, where))
        prefix, slash, rest = name.partition("/")
        if slash and rest and prefix in self._upstreams:
            where = f"named by its provider {prefix}"
            facts = join_model(self._models.get(rest), shipped_model(rest))
            return _Target(self._upstreams[prefix], rest, facts, (*steps, where))
        return None

    def _claude(self, name: str, steps: list[str]) -> _Target | None:
        """A Claude name in no list: Anthropic's own where that is the default, else the default's own model.

        An Anthropic provider beside another default is asked by its name (`anthropic/claude-…`) or by
        `[models]` alone: background calls of Claude Code must not run up a bill nobody chose.
        """
        upstream = self._default() or next((up for up in self._upstreams.values() if up.is_anthropic), None)
        if upstream is not None and upstream.is_anthropic:
            where = f"a Claude model: provider {upstream.name}"
            return _Target(upstream, name, join_model(None, shipped_model(name)), (*steps, where))
        alias = shipped_models().aliases.get(name)
        if alias is not None and (found := self._known(alias, [*steps, f"stands for {alias}"])):
            return found
        default = self._default()
        if default is None or default.default_model is None:
            return None
        where = f"a Claude model: the default model of provider {default.name}"
        own = default.default_model
        facts = join_model(self._models.get(own), shipped_model(own))
        return _Target(default, own, facts, (*steps, where))

    def _unalias(self, name: str, steps: list[str]) -> str:
        seen = {name}
        while (target := self._aliases.get(name)) is not None:
            steps.append(f"{name} is an alias of {target}")
            if target in seen:
                break
            seen.add(target)
            name = target
        return name

    def _upstream_of(self, model: Model, catalogue: str | None) -> Upstream | None:
        if model.provider is not None:
            return self._upstreams[model.provider]
        if catalogue is not None and catalogue in self._served:
            return self._served[catalogue]
        return self._default()

    def _default(self) -> Upstream | None:
        name = self._config.gateway.default_provider
        return self._upstreams[name] if name is not None else None

    def _by_preference(self) -> list[Upstream]:
        default = self._config.gateway.default_provider
        return sorted(self._upstreams.values(), key=lambda upstream: upstream.name != default)

    def _check_names(self) -> None:
        config = self._config
        known = {*config.models, *self._aliases, *self._catalogued()}
        for name, target in config.aliases.items():
            seen = {bare(name)}
            end = bare(target)
            while end not in seen and (further := self._aliases.get(end)) is not None:
                seen.add(end)
                end = further
            if end in seen:
                raise config_error(config, ("aliases", name), "this alias leads back to itself")
            if self._follow(end) is None:
                message = f"no route for {target}{near(target, known)}"
                raise config_error(config, ("aliases", name), message)
        for name, model in config.models.items():
            if self._known(name, []) is None:
                message = "no provider: name one, or set gateway.default_provider"
                raise config_error(config, ("models", name), message)
            for position, other in enumerate(model.fallback):
                if self._follow(other) is None:
                    message = f"no route for {other}{near(other, known)}"
                    raise config_error(config, ("models", name, "fallback", position), message)

    def _catalogued(self) -> Iterator[str]:
        """Shipped models whose provider is configured."""
        for name, model in shipped_models().models.items():
            if model.catalogue in self._served:
                yield name

    def _list(self) -> Iterator[ListedModel]:
        names = dict.fromkeys([*self._models, *self._catalogued(), *self._aliases])
        names[REHEARSAL] = names.pop(REHEARSAL, None)  # last, whoever serves it
        for name in names:
            target = self._follow(name)
            if target is None:
                continue
            facts = target.model
            shipped = shipped_model(target.upstream_model)
            yield ListedModel(
                name=name,
                display_name=facts.display_name or name,
                provider=target.upstream.name,
                context_window=facts.context_window,
                max_output_tokens=facts.max_output_tokens,
                input_modalities=facts.input_modalities or ("text",),
                efforts=facts.efforts or () if facts.reasoning is not False else (),
                default_effort=facts.default_effort if facts.reasoning is not False else None,
                verbosity=bool(shipped and shipped.verbosity),
            )

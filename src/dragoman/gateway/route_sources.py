"""What routes are made of: providers and models joined with preset, profile and catalogue entry."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from dragoman.catalog.models import (
    REHEARSAL,
    UNKNOWN_DEFAULT_OUTPUT_TOKENS,
    CatalogModel,
    shipped_models,
)
from dragoman.catalog.presets import Preset, shipped_presets
from dragoman.catalog.profiles import (
    GENERIC,
    BadDialect,
    Profile,
    load_profile,
    make_dialect,
    profile_names,
)
from dragoman.config.load import config_error
from dragoman.config.reading import nearest
from dragoman.config.schema import Config, KeyHeader, KeySource, Model, Provider
from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.turns import Wire

ONE_MILLION = "[1m]"
"""A label of Claude Code for a long window; it is no part of a name and upstreams refuse it."""

CUSTOM = "custom"
"""What may stand as a preset where there is none: an endpoint with addresses of its own."""

_GIVE_AN_ADDRESS = "give wires.chat, wires.responses or wires.messages"
_PATHS: dict[Wire, str] = {"responses": "/responses", "chat": "/chat/completions", "messages": "/v1/messages"}
_EMBEDDED_WIRES: dict[Wire, str] = {"messages": "", "responses": "/v1", "chat": "/v1"}


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """A provider with nothing left open.

    Attributes:
        name: as configured.
        preset_name: the preset it started from.
        profile_name, profile: the quirks of its endpoints.
        wires: base address of each wire, without a slash at the end, the preferred one first.
        keys: where its keys are; the gateway takes those it finds.
        key_required: whether asking without a key makes no sense.
        key_header: how a key is shown; None is the wire's custom.
        catalogue: the group of shipped models it serves.
        embedded: whether it is the embedded model, whose address is known only once it runs.
        overrides: quirks that differ from the profile's.
        ca_file: authorities trusted there besides the system's.
    """

    name: str
    profile_name: str
    profile: Profile
    wires: dict[Wire, str]
    preset_name: str | None = None
    keys: tuple[KeySource, ...] = ()
    key_required: bool = False
    key_header: KeyHeader | None = None
    max_concurrency: int | None = None
    default_model: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    catalogue: str | None = None
    embedded: bool = False
    overrides: dict[str, Any] = {}
    ca_file: str | None = None
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    max_body_bytes: int

    @property
    def is_anthropic(self) -> bool:
        """Whether Claude names are this provider's own."""
        return self.profile_name == "anthropic"

    def wire_for(self, client: Wire, forced: Wire | None) -> Wire:
        """The client's own wire where it is offered, else the first one listed."""
        if forced is not None:
            return forced
        return client if client in self.wires else next(iter(self.wires))

    def url(self, wire: Wire) -> str:
        """Where a request on `wire` is posted."""
        return self.wires[wire] + _PATHS[wire]

    def dialect(self, wire: Wire, upstream_model: str) -> Dialect:
        """The quirks of one model on one wire."""
        realm = f"provider:{self.name}"
        return make_dialect(self.profile, wire, upstream_model, realm=realm, overrides=self.overrides)

    def shown_header(self, wire: Wire) -> KeyHeader:
        """How a key is shown on `wire`."""
        if self.key_header is not None:
            return self.key_header
        # Messages endpoints of other vendors read one or the other; ours to know which only by profile.
        return "both" if wire == "messages" else "bearer"


def join_providers(config: Config) -> dict[str, Upstream]:
    """Every configured provider, and the embedded one.

    Raises:
        ConfigError: a preset, profile, wire or quirk that does not exist, by file and line.
    """
    upstreams = {name: _join(config, name, provider) for name, provider in config.providers.items()}
    if REHEARSAL not in upstreams:
        upstreams[REHEARSAL] = _embedded(config)
    return upstreams


def check_models(config: Config, upstreams: dict[str, Upstream]) -> None:
    """Refuse models that name a provider or a wire that is not there.

    Raises:
        ConfigError: by file and line.
    """
    for name, model in config.models.items():
        if model.provider is not None and model.provider not in upstreams:
            message = f"no such provider: {model.provider}" + near(model.provider, upstreams)
            raise config_error(config, ("models", name, "provider"), message)
        upstream = upstreams[model.provider] if model.provider else None
        if upstream is not None and model.wire is not None and model.wire not in upstream.wires:
            offered = ", ".join(upstream.wires)
            message = f"provider {upstream.name} does not offer {model.wire} (it offers {offered})"
            raise config_error(config, ("models", name, "wire"), message)


def join_model(configured: Model | None, shipped: CatalogModel | None) -> Model:
    """What the user says about a model over what the catalogue knows."""
    base = Model()
    if shipped is not None:
        base = Model(
            display_name=shipped.display_name,
            context_window=shipped.context_window,
            max_output_tokens=shipped.max_output_tokens,
            default_output_tokens=shipped.default_output_tokens,
            input_modalities=shipped.input_modalities,
            reasoning=shipped.reasoning,
            efforts=shipped.efforts,
            default_effort=shipped.default_effort,
        )
    if configured is None:
        return base
    said = {
        name: value for name in Model.__struct_fields__ if (value := getattr(configured, name)) is not None
    }
    return msgspec.structs.replace(base, **said)


def limits_of(facts: Model, wire: Wire) -> Limits:
    """What the wire must respect when it writes a request for a model."""
    ceiling = facts.max_output_tokens
    default = facts.default_output_tokens
    if default is None and wire == "messages":
        default = UNKNOWN_DEFAULT_OUTPUT_TOKENS
    if default is not None and ceiling is not None:
        default = min(default, ceiling)
    fields: dict[str, Any] = {"max_output_tokens": ceiling, "default_output_tokens": default}
    if facts.input_modalities is not None:
        fields["input_modalities"] = frozenset(facts.input_modalities)
    return Limits(**fields, thinks=facts.reasoning is not False)


def shipped_model(name: str) -> CatalogModel | None:
    """The catalogue's entry for a name, the provider's prefix of a marketplace aside."""
    models = shipped_models().models
    return models.get(name) or models.get(name.rpartition("/")[2])


def bare(name: str) -> str:
    """A model name without the long-window label."""
    return name.removesuffix(ONE_MILLION) if name.endswith(ONE_MILLION) else name


def near(name: str, known: Iterable[str]) -> str:
    """` (nearest: x)`, or nothing when nothing is near."""
    close = nearest(name, known)
    return f" (nearest: {close})" if close else ""


def _join(config: Config, name: str, provider: Provider) -> Upstream:
    presets = shipped_presets()
    said = provider.preset
    if said == CUSTOM and not provider.wires:
        message = f"{CUSTOM} has no address of its own: {_GIVE_AN_ADDRESS}"
        raise config_error(config, ("providers", name, "preset"), message)
    if said is not None and said not in (*presets, CUSTOM):
        message = f"no such preset: {said}" + (near(said, presets) or f" (known: {', '.join(presets)})")
        raise config_error(config, ("providers", name, "preset"), message)
    if said is None and name in presets and provider.profile is None and not provider.wires:
        said = name
    preset = presets[said] if said is not None and said != CUSTOM else None
    profile_name = provider.profile or (preset.profile if preset else GENERIC)
    if profile_name not in profile_names():
        known = near(profile_name, profile_names()) or f" (known: {', '.join(profile_names())})"
        message = f"no such profile: {profile_name}{known}"
        raise config_error(config, ("providers", name, "profile"), message)
    profile = load_profile(profile_name)
    wires = provider.wires or (preset.wires if preset else {})
    if not wires:
        message = f"no address: {_GIVE_AN_ADDRESS}, or a preset"
        raise config_error(config, ("providers", name), message)
    gateway = config.gateway
    upstream = Upstream(
        name=name,
        preset_name=said,
        profile_name=profile_name,
        profile=profile,
        wires={wire: base.rstrip("/") for wire, base in wires.items()},
        keys=_keys(name, provider, preset),
        key_required=bool(provider.key_env or provider.keys or (preset and preset.key_env)),
        key_header=provider.key_header or (preset.key_header if preset else None) or profile.key_header,
        max_concurrency=provider.max_concurrency or (preset.max_concurrency if preset else None),
        default_model=provider.default_model or (preset.default_model if preset else None),
        headers=tuple(provider.headers.items()),
        catalogue=(preset.catalogue or said) if preset else None,
        overrides=provider.dialect,
        ca_file=_ca_file(config, name, provider),
        connect_timeout_s=provider.connect_timeout_s or gateway.connect_timeout_s,
        first_byte_timeout_s=provider.first_byte_timeout_s or gateway.first_byte_timeout_s,
        idle_timeout_s=provider.idle_timeout_s or gateway.idle_timeout_s,
        max_body_bytes=(provider.max_body_mb or gateway.max_body_mb) << 20,
    )
    if provider.dialect:
        _check_overrides(config, upstream)
    return upstream


def _check_overrides(config: Config, upstream: Upstream) -> None:
    for wire in upstream.wires:
        try:
            upstream.dialect(wire, "")
        except BadDialect as error:
            place = ("dialect", error.field) if error.field else ("dialect",)
            message = str(error) + (near(error.field, Dialect.__struct_fields__) if error.field else "")
            raise config_error(config, ("providers", upstream.name, *place), message) from None


def _keys(name: str, provider: Provider, preset: Preset | None) -> tuple[KeySource, ...]:
    if provider.keys:
        return provider.keys
    variable = provider.key_env or (preset.key_env if preset else None)
    stored = KeySource(stored=name)
    return (KeySource(env=variable), stored) if variable else (stored,)


def _ca_file(config: Config, name: str, provider: Provider) -> str | None:
    """The provider's authorities or everybody's, as an absolute path, looked into once."""
    own = provider.ca_file is not None
    said = provider.ca_file if own else config.gateway.ca_file
    if said is None:
        return None
    folder = config.source.file.parent if config.source.file else Path.cwd()
    file = folder / Path(said).expanduser()
    if problem := _unusable(file):
        key = ("providers", name, "ca_file") if own else ("gateway", "ca_file")
        raise config_error(config, key, problem)
    return str(file)


def _unusable(file: Path) -> str | None:
    import ssl  # a few milliseconds that only those pay who name such a file

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        return f"{file} holds no certificates in PEM form"
    except OSError as error:
        return f"{file} cannot be read: {(error.strerror or type(error).__name__).lower()}"
    return None


def _embedded(config: Config) -> Upstream:
    """The embedded model speaks all wires; its address is put before these paths once it runs."""
    gateway = config.gateway
    return Upstream(
        name=REHEARSAL,
        profile_name=REHEARSAL,
        profile=load_profile(REHEARSAL),
        wires=dict(_EMBEDDED_WIRES),
        key_header="none",
        catalogue=REHEARSAL,
        embedded=True,
        connect_timeout_s=gateway.connect_timeout_s,
        first_byte_timeout_s=gateway.first_byte_timeout_s,
        idle_timeout_s=gateway.idle_timeout_s,
        max_body_bytes=gateway.max_body_mb << 20,
    )

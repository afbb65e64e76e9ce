"""Profiles: how a vendor's endpoints differ from their protocols, read from TOML as the wire's `Dialect`."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Literal

import msgspec

from dragoman.catalog.shipped import shipped_names, shipped_table
from dragoman.wire.dialect import Dialect
from dragoman.wire.turns import Wire

GENERIC = "generic"

_Table = dict[str, Any]


class Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Upstream models of a profile that differ from the rest.

    Attributes:
        models: glob patterns of upstream model names.
        every, responses, chat, messages: fields that replace the profile's, on all wires or on one.
    """

    models: tuple[str, ...]
    every: _Table = {}
    responses: _Table = {}
    chat: _Table = {}
    messages: _Table = {}


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shipped file.

    Attributes:
        about: whose endpoints these are.
        source: where their behaviour is documented.
        like: the profile this one starts from.
        key_header: how the key is shown, when not as the wire's own custom is.
        every, responses, chat, messages: fields of `Dialect`, on all wires or on one.
        families: models that differ; all that match apply, in order.
    """

    about: str
    source: str = ""
    like: str | None = None
    key_header: Literal["bearer", "x-api-key", "both", "none"] | None = None
    every: _Table = {}
    responses: _Table = {}
    chat: _Table = {}
    messages: _Table = {}
    families: tuple[Family, ...] = ()


class BadDialect(ValueError):
    """A field of a dialect is unknown or has a wrong value.

    Attributes:
        field: which one, None when unknown.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


@cache
def profile_names() -> tuple[str, ...]:
    """The names of all shipped profiles."""
    return tuple(shipped_names("profiles", ".toml"))


@cache
def load_profile(name: str) -> Profile:
    """A shipped profile.

    Raises:
        KeyError: there is none of that name.
    """
    if name not in profile_names():
        raise KeyError(name)
    profile = msgspec.convert(shipped_table("profiles", f"{name}.toml"), Profile)
    if profile.like is None:
        return profile
    base = load_profile(profile.like)
    return msgspec.structs.replace(
        profile,
        source=profile.source or base.source,
        key_header=profile.key_header or base.key_header,
        every=base.every | profile.every,
        responses=base.responses | profile.responses,
        chat=base.chat | profile.chat,
        messages=base.messages | profile.messages,
        families=base.families + profile.families,
    )


def make_dialect(
    profile: Profile, wire: Wire, model: str, *, realm: str, overrides: Mapping[str, Any] | None = None
) -> Dialect:
    """The dialect of one model on one wire.

    Args:
        profile: whose endpoint it is.
        wire: the wire it is asked on.
        model: the upstream's name of the model.
        realm: who takes back its reasoning, where the profile does not say.
        overrides: single fields that differ.

    Raises:
        BadDialect: a field is unknown or has a wrong value.
    """
    fields: _Table = {"realm": realm, **profile.every, **_of_wire(profile, wire)}
    for family in profile.families:
        if any(fnmatchcase(model, pattern) for pattern in family.models):
            fields |= family.every | _of_wire(family, wire)
    fields |= overrides or {}
    unknown = fields.keys() - set(Dialect.__struct_fields__)
    if unknown:
        name = min(unknown)
        raise BadDialect(f"unknown quirk {name}", name)
    try:
        return msgspec.convert(fields, Dialect)
    except msgspec.ValidationError as error:
        where = str(error).partition("`$.")[2].partition("`")[0]
        raise BadDialect(str(error), where.partition("[")[0].partition(".")[0] or None) from None


def _of_wire(source: Profile | Family, wire: Wire) -> _Table:
    match wire:
        case "responses":
            return source.responses
        case "chat":
            return source.chat
        case "messages":
            return source.messages

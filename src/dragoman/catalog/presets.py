"""Presets: providers that need only a key."""

from __future__ import annotations

from functools import cache
from typing import Literal

import msgspec

from dragoman.catalog.shipped import shipped_table
from dragoman.wire.turns import Wire


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a provider lives.

    Attributes:
        title: for people.
        profile: the quirks of its endpoints.
        wires: base address of each wire it speaks, the preferred one first.
        key_env: the variable its key is usually kept in; None when it wants no key.
        key_header: how the key is shown, when not as the profile says.
        default_model: what an unknown Claude name becomes.
        max_concurrency: requests at a time with one key.
        catalogue: the group of shipped models it serves, when it is not named like the preset.
        key_page: where a key is made.
        plan: whether a subscription pays for its tokens, so that they have no price of their own.
    """

    title: str
    profile: str
    wires: dict[Wire, str]
    key_env: str | None = None
    key_header: Literal["bearer", "x-api-key", "both", "none"] | None = None
    default_model: str | None = None
    max_concurrency: int | None = None
    catalogue: str | None = None
    key_page: str | None = None
    plan: bool = False


@cache
def shipped_presets() -> dict[str, Preset]:
    """Every shipped preset by name."""
    return msgspec.convert(shipped_table("presets.toml"), dict[str, Preset])

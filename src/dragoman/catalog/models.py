"""Models known by name: what they can take, whoever serves them."""

from __future__ import annotations

from functools import cache
from typing import Literal

import msgspec

from dragoman.catalog.shipped import shipped_table
from dragoman.wire.turns import Effort

Modality = Literal["text", "image", "pdf"]

REHEARSAL = "rehearsal"
"""The embedded model: always there, with no configuration, key or network."""

UNKNOWN_DEFAULT_OUTPUT_TOKENS = 32_000
"""Sent to a Messages upstream for a model nobody described: the wire demands a number, agents need room,
and it is what Claude Code 2.1.197 itself asks for a model it does not know."""


class CatalogModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A shipped model.

    Attributes:
        catalogue: the group of presets that serve it.
        display_name: for people.
        context_window, max_output_tokens, default_output_tokens: in tokens; None is unknown.
        input_modalities: what it reads.
        reasoning: whether it thinks.
        efforts, default_effort: how hard it can be told to think, least first.
        verbosity: whether it can be told to be brief.
        source: where the figures come from.
    """

    catalogue: str
    display_name: str
    context_window: int | None = None
    max_output_tokens: int | None = None
    default_output_tokens: int | None = None
    input_modalities: tuple[Modality, ...] = ("text",)
    reasoning: bool = True
    efforts: tuple[Effort, ...] = ()
    default_effort: Effort | None = None
    verbosity: bool = False
    source: str = ""


class Shipped(msgspec.Struct, frozen=True):
    """All shipped models by name, and names for them that clients are known to ask for."""

    models: dict[str, CatalogModel]
    aliases: dict[str, str]


@cache
def shipped_models() -> Shipped:
    """The shipped catalogue."""
    table = shipped_table("models.toml")
    aliases = msgspec.convert(table.pop("aliases"), dict[str, str])
    return Shipped(msgspec.convert(table, dict[str, CatalogModel]), aliases)

"""The model list, in the shape of the service that is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman.rehearsal.scenario import Scenario
from dragoman.rehearsal.speaking.tape import CREATED_AT

_GLOB_CHARACTERS = frozenset("*?[")


def model_names(scenarios: Sequence[Scenario]) -> list[str]:
    """List the model names that scenarios spell out, each once; globs name no model."""
    names = [name for one in scenarios for name in one.models if not _GLOB_CHARACTERS & set(name)]
    return list(dict.fromkeys(names))


def anthropic_list(names: Sequence[str]) -> dict[str, Any]:
    """The list as Anthropic's service gives it."""
    return {
        "data": [anthropic_entry(name) for name in names],
        "has_more": False,
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    }


def anthropic_entry(name: str) -> dict[str, Any]:
    """One model as Anthropic's service describes it."""
    return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}


def openai_list(names: Sequence[str]) -> dict[str, Any]:
    """The list as OpenAI's service gives it."""
    return {"object": "list", "data": [openai_entry(name) for name in names]}


def openai_entry(name: str) -> dict[str, Any]:
    """One model as OpenAI's service describes it."""
    return {"id": name, "object": "model", "created": CREATED_AT, "owned_by": "dragoman"}

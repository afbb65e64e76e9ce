"""The bodies of `GET /v1/models`: one list in the shapes that Codex, OpenAI's and Anthropic's clients read.

Codex 0.163 and 0.169 refuse OpenAI's shape, and one entry they cannot read makes them drop the whole list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

from dragoman.catalog.models import Modality
from dragoman.catalog.shipped import shipped_text
from dragoman.wire.turns import Effort

CLAUDE_PREFIX = "claude-"
"""Claude Code 2.1.329 keeps only ids of a gateway's list that look like Claude models."""

_CREATED = "1970-01-01T00:00:00Z"  # what Anthropic's reference gives for an unknown release date

_EFFORT_WORDS: dict[Effort, str] = {
    "none": "No thinking",
    "minimal": "As little thinking as possible",
    "low": "A little thinking",
    "medium": "Balanced",
    "high": "Thinks harder problems through",
    "xhigh": "Thinks very hard",
    "max": "Thinks as hard as it can",
}


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model as clients may ask for it.

    Attributes:
        name: the name to ask for.
        display_name: for people.
        provider: who answers.
        context_window, max_output_tokens: in tokens; None is unknown.
        input_modalities: what it reads.
        efforts, default_effort: how hard it can be told to think; empty when it cannot.
        verbosity: whether it can be told to be brief.
    """

    name: str
    display_name: str
    provider: str
    context_window: int | None = None
    max_output_tokens: int | None = None
    input_modalities: tuple[Modality, ...] = ("text",)
    efforts: tuple[Effort, ...] = ()
    default_effort: Effort | None = None
    verbosity: bool = False


@cache
def codex_instructions() -> str:
    """What a model is told about working in Codex; Codex demands it of every entry of a catalogue."""
    return shipped_text("instructions.md")


def codex_body(models: Sequence[ListedModel], *, instructions: str | None = None) -> bytes:
    """`{"models": [ModelInfo, ..]}`, what Codex reads from `model_catalog_url` and `model_catalog_json`.

    Args:
        models: in the order of the picker.
        instructions: the base instructions; the shipped ones when None.
    """
    text = codex_instructions() if instructions is None else instructions
    infos = [_model_info(model, place, text) for place, model in enumerate(models, 1)]
    return msgspec.json.encode({"models": infos})


def openai_body(models: Iterable[ListedModel]) -> bytes:
    """`{"object": "list", "data": [..]}`."""
    return msgspec.json.encode({"object": "list", "data": [_openai_model(model) for model in models]})


def anthropic_body(models: Iterable[ListedModel]) -> bytes:
    """Anthropic's page of models, each also under a name that Claude Code accepts."""
    data = [entry for model in models for entry in _anthropic_models(model)]
    page = {"data": data, "has_more": False}
    page |= {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return msgspec.json.encode(page)


def openai_model_body(model: ListedModel) -> bytes:
    """The answer to `GET /v1/models/{id}`."""
    return msgspec.json.encode(_openai_model(model))


def anthropic_model_body(model: ListedModel, asked: str) -> bytes:
    """The answer to `GET /v1/models/{id}` of an Anthropic client, under the name it asked for."""
    return msgspec.json.encode({**_anthropic_models(model)[0], "id": asked})


def claude_name(name: str) -> str:
    """The name under which Claude Code lists a model."""
    return name if name.startswith(CLAUDE_PREFIX) else CLAUDE_PREFIX + name


def _model_info(model: ListedModel, place: int, instructions: str) -> dict[str, Any]:
    info: dict[str, Any] = {
        "slug": model.name,
        "display_name": model.display_name,
        "description": f"{model.provider} through dragoman",
        "supported_reasoning_levels": [
            {"effort": effort, "description": _EFFORT_WORDS[effort]} for effort in model.efforts
        ],
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": place,
        "support_verbosity": model.verbosity,
        "default_reasoning_summary": "auto",
        # the only value that is legal, and without it there is no apply_patch tool at all
        "apply_patch_tool_type": "freeform",
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "experimental_supported_tools": [],
        "input_modalities": [kind for kind in model.input_modalities if kind != "pdf"],
        # true would hide MCP and agent tools behind a search tool only one vendor runs
        "supports_search_tool": False,
        "use_responses_lite": False,
        "base_instructions": instructions,
    }
    if model.efforts:
        info["default_reasoning_level"] = model.default_effort or model.efforts[-1]
    if model.verbosity:
        info["default_verbosity"] = "low"
    if model.context_window is not None:  # without it Codex never compacts
        info["context_window"] = info["max_context_window"] = model.context_window
        info["effective_context_window_percent"] = 95
    return info


def _openai_model(model: ListedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": model.provider}


def _anthropic_models(model: ListedModel) -> list[dict[str, Any]]:
    entry: dict[str, Any] = {
        "type": "model",
        "id": model.name,
        "display_name": model.display_name,
        "created_at": _CREATED,
        "lifecycle": "active",
    }
    if model.context_window is not None:
        entry["max_input_tokens"] = model.context_window
    if model.max_output_tokens is not None:
        entry["max_tokens"] = model.max_output_tokens
    named = claude_name(model.name)
    return [entry] if named == model.name else [entry, {**entry, "id": named}]

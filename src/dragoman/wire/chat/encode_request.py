"""Turns written as a Chat Completions request.

The dialect decides every difference between providers. Keys whose value stays the same over a conversation
come first and `messages` last, so that the whole body of one request is a prefix of the next.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman.wire.chat.encode_messages import GAP, messages_of
from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.schemas import FREEFORM_SCHEMA, object_schema
from dragoman.wire.thinking import ThinkingPlan, plan_thinking
from dragoman.wire.tool_offer import accepted_choices, description_of
from dragoman.wire.tools import ToolEntry, ToolTable
from dragoman.wire.turns import (
    RawText,
    Request,
    ToolChoice,
    quoted,
    raw,
)
from dragoman.wire.writing import Fields, body_of


def encode(
    request: Request, tools: ToolTable, *, model: str, dialect: Dialect, limits: Limits, stream: bool
) -> tuple[bytes, list[str]]:
    """Write a normalised request.

    Returns:
        the body, and the short names of what was changed on purpose.

    Raises:
        BadRequest: the request demands what this upstream cannot do.
    """
    shims: dict[str, None] = {}
    ceiling = _ceiling(request.max_output_tokens, limits)
    plan = plan_thinking(
        request.thinking, model=model, dialect=dialect, limits=limits, max_output_tokens=ceiling
    )
    body: Fields = {"model": model, "stream": stream}
    if stream and "stream_options" in dialect.params:
        body["stream_options"] = {"include_usage": True}
    body.update(dialect.extra_body)
    _put_tools(body, request, tools, dialect, plan, shims)
    if ceiling is not None:
        body[dialect.max_tokens_key] = ceiling
    _put_params(body, request, dialect, plan)
    _put_thinking(body, plan, dialect)
    system = [text.text for text in request.system]
    schema_text = _put_format(body, request, dialect)
    if schema_text:
        system.append(schema_text)
        shims["output schema told in words"] = None
    messages = messages_of(request, tools, system, dialect=dialect, limits=limits)
    return body_of(body, "messages", messages), list(shims)


def _ceiling(wanted: int | None, limits: Limits) -> int | None:
    if wanted is None:
        return limits.default_output_tokens
    return wanted if limits.max_output_tokens is None else min(wanted, limits.max_output_tokens)


def _put_params(body: Fields, request: Request, dialect: Dialect, plan: ThinkingPlan) -> None:
    if dialect.sampling_with_thinking or not plan.active:
        for name, value in request.sampling.items():
            if name in dialect.params:
                body[name] = msgspec.Raw(value)
    if request.stop and "stop" in dialect.params and dialect.stop_limit:
        body["stop"] = list(request.stop[: dialect.stop_limit])
    for name, value in (
        ("verbosity", request.verbosity),
        ("prompt_cache_key", request.cache_key),
        ("user", request.user),
        ("service_tier", request.service_tier),
    ):
        if value is not None and name in dialect.params:
            body[name] = value


def _put_thinking(body: Fields, plan: ThinkingPlan, dialect: Dialect) -> None:
    if plan.state != "silent":
        on = plan.state == "on"
        match dialect.thinking_key:
            case "thinking" | "adaptive":
                switch: Fields = {"type": "enabled" if on else "disabled"}
                if on:
                    switch.update(dialect.thinking_extra)
                    if plan.budget_tokens is not None:
                        switch["budget_tokens"] = plan.budget_tokens
                body["thinking"] = switch
            case "enable_thinking":
                body["enable_thinking"] = on
                if on:
                    body.update(dialect.thinking_extra)
                    if plan.budget_tokens is not None:
                        body["thinking_budget"] = plan.budget_tokens
            case "reasoning":
                body["reasoning"] = {"enabled": on}
            case "none":
                pass
    if plan.effort is None:
        return
    if dialect.thinking_key == "reasoning":
        body["reasoning"] = {"effort": plan.effort}
    elif dialect.effort_key == "reasoning_effort":
        body["reasoning_effort"] = plan.effort


def _put_format(body: Fields, request: Request, dialect: Dialect) -> RawText | None:
    """Demand the answer's shape; returns the text that tells it to a provider that knows no schemas."""
    wanted = request.format
    if wanted is None or dialect.json_schema == "none":
        return None
    if wanted.kind == "json_object" or wanted.schema is None:
        body["response_format"] = {"type": "json_object"}
        return None
    if dialect.json_schema == "object":
        body["response_format"] = {"type": "json_object"}
        schema = raw(wanted.schema.decode("utf-8", "replace"))
        return b"Answer with one JSON object that follows this JSON schema:" + GAP + schema
    inner: Fields = {"name": wanted.name}
    if wanted.description is not None:
        inner["description"] = quoted(wanted.description)
    if wanted.strict is not None:
        inner["strict"] = wanted.strict
    inner["schema"] = msgspec.Raw(wanted.schema)
    body["response_format"] = {"type": "json_schema", "json_schema": inner}
    return None


def _put_tools(
    body: Fields,
    request: Request,
    tools: ToolTable,
    dialect: Dialect,
    plan: ThinkingPlan,
    shims: dict[str, None],
) -> None:
    accepted = accepted_choices(request, tools, dialect, plan, shims)
    if accepted is None:
        return
    body["tools"] = [_declaration(entry, dialect) for entry in tools.entries]
    if (choice := request.tool_choice) is not None:
        if choice.mode in accepted:
            body["tool_choice"] = _choice(choice, tools)
        else:
            shims[f"tool choice {choice.mode} lowered to auto"] = None
            if choice.mode == "named" and "required" in accepted:
                body["tool_choice"] = "required"
            elif "auto" in accepted:
                body["tool_choice"] = "auto"
    if request.parallel_calls is not None and "parallel_tool_calls" in dialect.params:
        body["parallel_tool_calls"] = request.parallel_calls


def _choice(choice: ToolChoice, tools: ToolTable) -> Any:
    if choice.mode != "named" or choice.name is None:
        return choice.mode
    return {
        "type": "function",
        "function": {"name": tools.upstream_name(choice.name, choice.namespace)},
    }


def _declaration(entry: ToolEntry, dialect: Dialect) -> Any:
    tool = entry.tool
    if tool.kind == "hosted":
        return msgspec.Raw(tool.json)
    function: Fields = {"name": entry.upstream_name}
    description = description_of(entry)
    schema = FREEFORM_SCHEMA if entry.wrapped else object_schema(tool.schema, open_root=dialect.open_schemas)
    if description:
        function["description"] = quoted(description)
    function["parameters"] = msgspec.Raw(schema)
    if tool.strict is not None and "strict" in dialect.params and not entry.wrapped:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}

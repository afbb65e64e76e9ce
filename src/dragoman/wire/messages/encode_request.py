"""Turns written as a Messages request.

`messages` comes last, so that the whole body of one request is a prefix of the next. Fields that only a
Messages upstream understands are kept when the client spoke Messages too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.messages.encode_blocks import EPHEMERAL, GAP, messages_of, thinking_block
from dragoman.wire.repair import has_calls
from dragoman.wire.schemas import FREEFORM_SCHEMA, object_schema
from dragoman.wire.thinking import ThinkingPlan, plan_thinking
from dragoman.wire.tool_offer import accepted_choices, description_of
from dragoman.wire.tools import ToolEntry, ToolTable
from dragoman.wire.turns import Assistant, RawJson, Reasoning, Request, Text, Turn, User, quoted, raw
from dragoman.wire.writing import Fields, body_of

DEFAULT_MAX_TOKENS = 32_000
"""The protocol demands a ceiling; agents need room (an answer cut at 8192 ends a Codex turn)."""

_OWN_FIELDS = frozenset(
    {
        "model",
        "max_tokens",
        "stream",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "messages",
    }
)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
    if plan.budget_tokens is not None and _unthought_loop(request.turns, dialect):
        plan = ThinkingPlan("silent", None, active=False)
        shims["thinking off inside a tool loop that began without it"] = None
    body: Fields = {"model": model, "max_tokens": ceiling, "stream": stream}
    if request.wire == "messages":
        for name, value in _fields.decode(request.body or b"{}").items():
            if name not in _OWN_FIELDS and name not in dialect.strip_fields:
                body[name] = value
    body.update(dialect.extra_body)
    _put_params(body, request, dialect, plan)
    config = _put_thinking(body, request, plan, dialect)
    system = list(request.system)
    if request.format is not None and request.format.schema is not None:
        if dialect.json_schema == "schema":
            config["format"] = {"type": "json_schema", "schema": msgspec.Raw(request.format.schema)}
        elif dialect.json_schema == "object":
            shims["output schema told in words"] = None
            schema = raw(request.format.schema.decode("utf-8", "replace"))
            system.append(Text(b"Answer with one JSON object that follows this JSON schema:" + GAP + schema))
    if config:
        body["output_config"] = config
    marks = dialect.cache_marks and request.wire != "messages"
    _put_tools(body, request, tools, dialect, plan, shims)
    if system:
        body["system"] = _system(system, marks=marks, joined=request.wire != "messages")
    messages = messages_of(request.turns, tools, dialect, plan, marks=marks)
    return body_of(body, "messages", messages), list(shims)


def _ceiling(wanted: int | None, limits: Limits) -> int:
    if wanted is None:
        wanted = limits.default_output_tokens or DEFAULT_MAX_TOKENS
    return wanted if limits.max_output_tokens is None else min(wanted, limits.max_output_tokens)


def _unthought_loop(turns: Sequence[Turn], dialect: Dialect) -> bool:
    """Whether the conversation ends inside a tool loop that has to go on without thinking.

    A tool loop counts as one assistant turn: it is judged by how it began, so that the switch stays the same
    to its end and prompt caches keep hitting.
    """
    if not dialect.loops_begin_thinking:
        return False
    opening: Assistant | None = None
    for turn in reversed(turns):
        if isinstance(turn, Assistant):
            opening = turn
        elif isinstance(turn, User) and not turn.results:
            break
    if opening is None or not has_calls(opening.parts):
        return False
    first = opening.parts[0]
    return not isinstance(first, Reasoning) or thinking_block(first, dialect) is None


def _put_params(body: Fields, request: Request, dialect: Dialect, plan: ThinkingPlan) -> None:
    for name in ("temperature", "top_p", "top_k"):
        value = request.sampling.get(name)
        if value is None or not (name in dialect.params or request.wire == "messages"):
            continue
        if not plan.active or dialect.sampling_with_thinking or float(value) == 1.0:
            body[name] = msgspec.Raw(value)
    if request.stop:
        body["stop_sequences"] = list(request.stop[: dialect.stop_limit] if dialect.stop_limit else ())


def _put_thinking(body: Fields, request: Request, plan: ThinkingPlan, dialect: Dialect) -> Fields:
    """Write the thinking switch; returns the beginning of `output_config`."""
    config: Fields = {}
    if plan.state == "off":
        body["thinking"] = {"type": "disabled"}
    elif plan.state == "on" and dialect.thinking_key in ("thinking", "adaptive"):
        adaptive = dialect.thinking_key == "adaptive"
        switch: Fields = {"type": "adaptive" if adaptive else "enabled"}
        if not adaptive and plan.budget_tokens is not None:
            switch["budget_tokens"] = plan.budget_tokens
        if adaptive and request.wire == "messages" and request.thinking.summary is not None:
            switch["display"] = request.thinking.summary
        switch.update(dialect.thinking_extra)
        body["thinking"] = switch
    if plan.effort is not None and dialect.effort_key == "output_config":
        config["effort"] = plan.effort
    return config


# --- tools ---


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
    body["tools"] = [_declaration(entry) for entry in tools.entries]
    choice = request.tool_choice
    mode = choice.mode if choice is not None else "auto"
    if mode not in accepted:
        shims[f"tool choice {mode} lowered to auto"] = None
        mode = "auto"
    wanted: Fields = {"type": {"required": "any", "named": "tool"}.get(mode, mode)}
    if mode == "named" and choice is not None and choice.name is not None:
        wanted["name"] = tools.upstream_name(choice.name, choice.namespace)
    if request.parallel_calls is False and mode != "none":
        wanted["disable_parallel_tool_use"] = True
    if choice is not None or len(wanted) > 1:
        body["tool_choice"] = wanted


def _declaration(entry: ToolEntry) -> Any:
    tool = entry.tool
    if tool.kind == "hosted":
        return msgspec.Raw(tool.json)
    declared: Fields = {"name": entry.upstream_name}
    description = description_of(entry)
    schema = FREEFORM_SCHEMA if entry.wrapped else object_schema(tool.schema, open_root=False)
    if description:
        declared["description"] = quoted(description)
    declared["input_schema"] = msgspec.Raw(schema)
    if tool.deferred:
        declared["defer_loading"] = True
    return _with_mark(declared, tool.cache_control)


def _with_mark(block: Fields, cache_control: RawJson | None) -> Fields:
    if cache_control is not None:
        block["cache_control"] = msgspec.Raw(cache_control)
    return block


def _system(texts: Sequence[Text], *, marks: bool, joined: bool) -> Any:
    """One string where blocks would say nothing more."""
    if not marks and (joined or len(texts) == 1) and all(text.cache_control is None for text in texts):
        return quoted(GAP.join(text.text for text in texts))
    blocks = [_with_mark({"type": "text", "text": quoted(t.text)}, t.cache_control) for t in texts]
    if marks:
        blocks[-1]["cache_control"] = msgspec.Raw(EPHEMERAL)
    return blocks

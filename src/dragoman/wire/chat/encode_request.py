"""Turns written as a Chat Completions request.

The dialect decides every difference between providers. Keys whose value stays the same over a conversation
come first and `messages` last, so that the whole body of one request is a prefix of the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.errors import BadRequest
from dragoman.wire.ids import strict_id
from dragoman.wire.repair import has_calls
from dragoman.wire.schemas import FREEFORM_SCHEMA, object_schema
from dragoman.wire.thinking import ThinkingPlan, plan_thinking
from dragoman.wire.tools import ToolEntry, ToolTable, arguments_object, wrap_freeform
from dragoman.wire.turns import (
    Assistant,
    Call,
    ChoiceMode,
    File,
    Image,
    Note,
    Part,
    RawText,
    Reasoning,
    Request,
    Result,
    Text,
    ToolChoice,
    User,
    quoted,
    raw,
)

GAP = b"\\n\\n"
EMPTY_RESULT = b"(no output)"
ERROR_PREFIX = b"[tool error] "

Fields = dict[str, Any]
_encode = msgspec.json.Encoder().encode


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
    body["messages"] = _messages(request, tools, system, dialect, limits, shims)
    return _encode(body), list(shims)


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


# --- tools ---


def _put_tools(
    body: Fields,
    request: Request,
    tools: ToolTable,
    dialect: Dialect,
    plan: ThinkingPlan,
    shims: dict[str, None],
) -> None:
    if tools.refused:
        shims["hosted tools left out"] = None
    choice = request.tool_choice
    if not tools:
        if choice is not None and choice.mode in ("required", "named") and tools.refused:
            names = ", ".join(tool.name for tool in tools.refused)
            raise BadRequest(
                f"This provider does not run the tool {names}",
                path="$.tool_choice",
                hint="choose a provider that runs it, or leave the tool out",
            )
        return
    allowed = dialect.tool_choices
    if plan.active and dialect.tool_choices_thinking is not None:
        allowed = dialect.tool_choices_thinking
    mode: ChoiceMode | None = choice.mode if choice is not None else None
    if mode == "none" and "none" not in allowed:
        shims["tools left out for tool choice none"] = None
        return
    body["tools"] = [_declaration(entry, dialect) for entry in tools.entries]
    if choice is not None:
        if mode in allowed:
            body["tool_choice"] = _choice(choice, tools)
        else:
            shims[f"tool choice {mode} lowered to auto"] = None
            if mode == "named" and "required" in allowed:
                body["tool_choice"] = "required"
            elif "auto" in allowed:
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
    description = tool.description or b""
    if entry.wrapped:
        if tool.grammar is not None:
            description += (GAP if description else b"") + (
                b"The input must follow this " + raw(tool.grammar.syntax) + b" grammar:\\n"
            )
            description += tool.grammar.definition
        schema = FREEFORM_SCHEMA
    else:
        schema = object_schema(tool.schema, open_root=dialect.open_schemas)
    if description:
        function["description"] = quoted(description)
    function["parameters"] = msgspec.Raw(schema)
    if tool.strict is not None and "strict" in dialect.params and not entry.wrapped:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


# --- messages ---


def _messages(
    request: Request,
    tools: ToolTable,
    system: list[RawText],
    dialect: Dialect,
    limits: Limits,
    shims: dict[str, None],
) -> list[Fields]:
    out: list[Fields] = []
    if system:
        role = "developer" if dialect.developer_role and request.wire == "responses" else "system"
        out.append({"role": role, "content": quoted(GAP.join(system))})
    for turn in request.turns:
        match turn:
            case User():
                _put_user(out, turn, dialect)
            case Assistant():
                message = _assistant(turn, tools, dialect, limits)
                if len(message) > 1:
                    out.append(message)
            case Note():
                out.append({"role": "system", "content": quoted(_joined(turn.parts))})
    return out


def _joined(parts: Iterable[Text]) -> RawText:
    return GAP.join(part.text for part in parts)


def _put_user(out: list[Fields], turn: User, dialect: Dialect) -> None:
    """Tool messages first; pictures a tool returned follow them as user words where a tool message may not
    hold any."""
    moved: list[Part] = []
    for result in turn.results:
        out.append(_tool_message(result, dialect, moved))
    parts = (*moved, *turn.parts)
    if parts:
        out.append({"role": "user", "content": _content(parts)})


def _tool_message(result: Result, dialect: Dialect, moved: list[Part]) -> Fields:
    call_id = strict_id(result.call_id) if dialect.strict_ids else result.call_id
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    others = [part for part in result.parts if not isinstance(part, Text)]
    if others and dialect.tool_images:
        return {"role": "tool", "tool_call_id": call_id, "content": _content(result.parts)}
    if others:
        texts.append(b"[the tool's attachment follows in the next user message]")
        moved.append(Text(b"[attachment of tool call " + raw(call_id) + b"]"))
        moved.extend(others)
    text = GAP.join(text for text in texts if text) or EMPTY_RESULT
    if result.is_error:
        text = ERROR_PREFIX + text
    return {"role": "tool", "tool_call_id": call_id, "content": quoted(text)}


def _content(parts: Iterable[Part]) -> Any:
    """One string where everything is text, else a list of parts."""
    parts = tuple(parts)
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts):
        return quoted(GAP.join(texts))
    return [_part(part) for part in parts]


def _part(part: Part) -> Fields:
    match part:
        case Text():
            return {"type": "text", "text": quoted(part.text)}
        case Image():
            image: Fields = {"url": quoted(_image_url(part))}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case File():
            return _file(part)


def _image_url(part: Image) -> RawText:
    if part.data is None:
        return part.url or b""
    return b"data:" + raw(part.media_type or "image/png") + b";base64," + part.data


def _file(part: File) -> Fields:
    if part.text is not None:
        head = b"[document " + part.filename + b"]" + GAP if part.filename else b""
        return {"type": "text", "text": quoted(head + part.text)}
    if part.data is None and part.file_id is None:
        return {"type": "text", "text": quoted(b"[document: " + (part.url or b"unknown") + b"]")}
    file: Fields = {}
    if part.file_id is not None:
        file["file_id"] = part.file_id
    if part.data is not None:
        kind = raw(part.media_type or "application/pdf")
        file["filename"] = quoted(part.filename or b"document.pdf")
        file["file_data"] = quoted(b"data:" + kind + b";base64," + part.data)
    return {"type": "file", "file": file}


def _assistant(turn: Assistant, tools: ToolTable, dialect: Dialect, limits: Limits) -> Fields:
    texts = [part.text for part in turn.parts if isinstance(part, Text) and part.text]
    calls = [part for part in turn.parts if isinstance(part, Call)]
    message: Fields = {"role": "assistant"}
    if texts:
        message["content"] = quoted(GAP.join(texts))
    elif calls:
        message["content"] = None if dialect.null_content else ""
    _put_reasoning(message, turn, dialect, limits)
    if calls:
        message["tool_calls"] = [_call(call, tools, dialect) for call in calls]
    elif not texts and len(message) > 1:
        message["content"] = ""
    return message


def _put_reasoning(message: Fields, turn: Assistant, dialect: Dialect, limits: Limits) -> None:
    replay = dialect.reasoning_replay
    if replay == "never" or not limits.thinks or (replay == "tool_turns" and not has_calls(turn.parts)):
        return
    thoughts = [part.text for part in turn.parts if isinstance(part, Reasoning) and part.text]
    if thoughts:
        message[dialect.reasoning_field] = quoted(GAP.join(thoughts))
    elif dialect.reasoning_required and has_calls(turn.parts):
        message[dialect.reasoning_field] = dialect.reasoning_blank


def _call(call: Call, tools: ToolTable, dialect: Dialect) -> Fields:
    return {
        "id": strict_id(call.id) if dialect.strict_ids else call.id,
        "type": "function",
        "function": {
            "name": tools.upstream_name(call.name, call.namespace),
            "arguments": _arguments(call, dialect),
        },
    }


def _arguments(call: Call, dialect: Dialect) -> str | msgspec.Raw:
    """The arguments as a JSON string holds them; malformed ones are wrapped for upstreams that parse them."""
    if call.arguments_json is not None:
        return call.arguments_json.decode("utf-8", "replace")
    if call.kind == "freeform":
        return wrap_freeform(call.arguments).decode("utf-8", "replace")
    if not call.arguments.strip():
        return "{}"
    if dialect.valid_arguments and arguments_object(call) is None:
        return (b'{"_raw":"' + call.arguments + b'"}').decode("utf-8", "replace")
    return quoted(call.arguments)

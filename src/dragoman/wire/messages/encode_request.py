"""Turns written as a Messages request.

`messages` comes last, so that the whole body of one request is a prefix of the next. Fields that only a
Messages upstream understands are kept when the client spoke Messages too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.errors import BadRequest
from dragoman.wire.ids import strict_id
from dragoman.wire.repair import CONTINUE, has_calls
from dragoman.wire.schemas import FREEFORM_SCHEMA, object_schema
from dragoman.wire.thinking import ThinkingPlan, plan_thinking
from dragoman.wire.tools import ToolEntry, ToolTable, arguments_object, wrap_freeform
from dragoman.wire.turns import (
    Assistant,
    Call,
    File,
    Hosted,
    Image,
    Note,
    Part,
    RawJson,
    RawText,
    Reasoning,
    Request,
    Result,
    Text,
    Turn,
    User,
    plain,
    quoted,
    raw,
)

DEFAULT_MAX_TOKENS = 32_000
"""The protocol demands a ceiling; agents need room (an answer cut at 8192 ends a Codex turn)."""

EPHEMERAL = b'{"type":"ephemeral"}'
GAP = b"\\n\\n"

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

Fields = dict[str, Any]
_encode = msgspec.json.Encoder().encode
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
    messages = _messages(request.turns, tools, dialect, plan)
    if marks:
        _mark(messages)
    body["messages"] = messages
    return _encode(body), list(shims)


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
    return not isinstance(first, Reasoning) or _thinking_block(first, dialect) is None


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
    choice = request.tool_choice
    if tools.refused:
        shims["hosted tools left out"] = None
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
    mode = choice.mode if choice is not None else "auto"
    if mode == "none" and "none" not in allowed:
        shims["tools left out for tool choice none"] = None
        return
    body["tools"] = [_declaration(entry) for entry in tools.entries]
    if mode not in allowed:
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
    description = tool.description or b""
    schema = FREEFORM_SCHEMA
    if not entry.wrapped:
        schema = object_schema(tool.schema, open_root=False)
    elif tool.grammar is not None:
        description += (GAP if description else b"") + (
            b"The input must follow this " + raw(tool.grammar.syntax) + b" grammar:\\n"
        )
        description += tool.grammar.definition
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


def _mark(messages: list[Fields]) -> None:
    """Mark the end of the last two user messages: the older mark is read, the newer one written."""
    users = [message for message in messages if message["role"] == "user"]
    for message in users[-2:]:
        content = message["content"]
        if isinstance(content, list):
            content[-1]["cache_control"] = msgspec.Raw(EPHEMERAL)


# --- messages ---


def _messages(turns: Sequence[Turn], tools: ToolTable, dialect: Dialect, plan: ThinkingPlan) -> list[Fields]:
    out: list[Fields] = []
    if turns and isinstance(turns[0], Assistant):
        out.append({"role": "user", "content": [{"type": "text", "text": quoted(CONTINUE)}]})
    last = len(turns) - 1
    for i, turn in enumerate(turns):
        match turn:
            case User():
                role, content = "user", _user(turn)
            case Assistant():
                role, content = "assistant", _assistant(turn, tools, dialect, plan, is_last=i == last)
            case Note():
                role, content = "system", _texts(turn.parts)
        if not content:
            continue
        if out and out[-1]["role"] == role:
            out[-1]["content"].extend(content)
        else:
            out.append({"role": role, "content": content})
    return out


def _texts(parts: Iterable[Text]) -> list[Fields]:
    return [
        _with_mark({"type": "text", "text": quoted(part.text)}, part.cache_control)
        for part in parts
        if not _is_blank(part.text)
    ]


def _is_blank(text: RawText) -> bool:
    """Whether a text is empty or white: such blocks are refused."""
    if text[:1].isalnum():
        return False
    return not text or (len(text) < 200 and not plain(text).strip())


def _user(turn: User) -> list[Fields]:
    blocks = [_result(result) for result in turn.results]
    blocks.extend(_part(part) for part in turn.parts if not (isinstance(part, Text) and _is_blank(part.text)))
    return blocks


def _result(result: Result) -> Fields:
    block: Fields = {"type": "tool_result", "tool_use_id": strict_id(result.call_id)}
    parts = [part for part in result.parts if not (isinstance(part, Text) and _is_blank(part.text))]
    if len(parts) == 1 and isinstance(parts[0], Text):
        block["content"] = quoted(parts[0].text)
    elif parts:
        block["content"] = [_part(part) for part in parts]
    if result.is_error:
        block["is_error"] = True
    return _with_mark(block, result.cache_control)


def _part(part: Part) -> Fields:
    match part:
        case Text():
            block: Fields = {"type": "text", "text": quoted(part.text)}
        case Image():
            block = {"type": "image", "source": _source(part, "image/png")}
        case File():
            block = {"type": "document", "source": _source(part, "application/pdf")}
            if part.filename is not None:
                block["title"] = quoted(part.filename)
    return _with_mark(block, part.cache_control)


def _source(part: Image | File, media_type: str) -> Fields:
    if isinstance(part, File) and part.text is not None:
        return {"type": "text", "media_type": "text/plain", "data": quoted(part.text)}
    if part.data is not None:
        return {"type": "base64", "media_type": part.media_type or media_type, "data": quoted(part.data)}
    if part.file_id is not None:
        return {"type": "file", "file_id": part.file_id}
    return {"type": "url", "url": quoted(part.url or b"")}


def _assistant(
    turn: Assistant, tools: ToolTable, dialect: Dialect, plan: ThinkingPlan, *, is_last: bool
) -> list[Fields]:
    blocks: list[Fields] = []
    thought = False
    for part in turn.parts:
        match part:
            case Text():
                text = _trimmed(part.text) if is_last and part is turn.parts[-1] else part.text
                if not _is_blank(text):
                    block: Fields = {"type": "text", "text": quoted(text)}
                    blocks.append(_with_mark(block, part.cache_control))
            case Reasoning():
                if (block_ := _thinking_block(part, dialect)) is not None:
                    thought = True
                    blocks.append(block_)
            case Call():
                if not thought and plan.active and dialect.reasoning_required:
                    thought = True
                    blocks.append({"type": "thinking", "thinking": dialect.reasoning_blank, "signature": ""})
                blocks.append(_call(part, tools))
            case Hosted():
                blocks.append(msgspec.json.decode(part.json))
    return blocks


def _trimmed(text: RawText) -> RawText:
    """A prefill may not end in white space."""
    return raw(plain(text).rstrip()) if text[-1:] in (b" ", b"n", b"t", b"r") else text


def _thinking_block(reasoning: Reasoning, dialect: Dialect) -> Fields | None:
    """The block its maker takes back, or None when this upstream would refuse it."""
    for carrier in reasoning.carriers:
        if carrier.kind == "redacted":
            return {"type": "redacted_thinking", "data": carrier.data}
        if carrier.kind == "signature" and (carrier.data or dialect.unsigned_thinking):
            return {"type": "thinking", "thinking": quoted(reasoning.text), "signature": carrier.data}
    if not dialect.unsigned_thinking or not reasoning.text or dialect.reasoning_replay == "never":
        return None
    return {"type": "thinking", "thinking": quoted(reasoning.text), "signature": ""}


def _call(call: Call, tools: ToolTable) -> Fields:
    block: Fields = {
        "type": "tool_use",
        "id": strict_id(call.id),
        "name": tools.upstream_name(call.name, call.namespace),
        "input": msgspec.Raw(_input(call)),
    }
    return _with_mark(block, call.cache_control)


def _input(call: Call) -> RawJson:
    if call.kind == "freeform":
        return wrap_freeform(call.arguments)
    found = arguments_object(call)
    return found if found is not None else b'{"_raw":"' + call.arguments + b'"}'

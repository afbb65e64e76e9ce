"""Turns written as a Responses request, for upstreams that speak this protocol and clients that do not, and
for same-wire requests whose tools or reasoning the upstream would not understand as they came.

Learned from OpenAI's and third-party endpoints (DeepSeek): `additional_tools`, freeform and namespaced tools
are ignored by third parties, and a function without `strict: false` gets its schema rewritten.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.responses.encode_items import GAP, InputWriter
from dragoman.wire.schemas import FREEFORM_SCHEMA, object_schema
from dragoman.wire.thinking import ThinkingPlan, plan_thinking
from dragoman.wire.tool_offer import accepted_choices, description_of
from dragoman.wire.tools import ToolEntry, ToolTable
from dragoman.wire.turns import Effort, RawText, Request, ToolChoice, quoted, raw
from dragoman.wire.writing import Fields, body_of

_top = msgspec.json.Decoder(dict[str, msgspec.Raw])

# Fields of the body that are written anew from the turns, and what only the client's own server may see:
# Codex puts the working directory and the commit hash into `client_metadata`.
_WRITTEN = frozenset(
    {
        "model",
        "stream",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "max_output_tokens",
        "text",
        "temperature",
        "top_p",
        "prompt_cache_key",
        "user",
        "safety_identifier",
        "service_tier",
        "include",
        "store",
        "client_metadata",
    }
)

SCHEMA_HEADING = b"Answer with one JSON object that follows this JSON schema:"

# Efforts where no profile says otherwise; the protocol has no word above `xhigh`.
_NATIVE_EFFORTS: dict[Effort, str] = {"max": "xhigh"}


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
    if dialect.stored:
        body["store"] = False
    body.update(dialect.extra_body)
    _put_kept(body, request, dialect)
    _put_tools(body, request, tools, dialect, plan, shims)
    if ceiling is not None:
        body["max_output_tokens"] = ceiling
    _put_params(body, request, dialect, plan)
    _put_thinking(body, request, plan, model, dialect, limits)
    system = [text.text for text in request.system]
    if (told := _put_format(body, request, dialect)) is not None:
        system.append(told)
        shims["output schema told in words"] = None
    if system:
        body["instructions"] = quoted(GAP.join(system))
    items = InputWriter(tools, dialect, limits, shims).items(request)
    return body_of(body, "input", items), list(shims)


def _ceiling(wanted: int | None, limits: Limits) -> int | None:
    if wanted is None or limits.max_output_tokens is None:
        return wanted
    return min(wanted, limits.max_output_tokens)


def _put_kept(body: Fields, request: Request, dialect: Dialect) -> None:
    """What a client of the same wire said beyond the fields known here, as it was spelled."""
    if request.wire != "responses" or not request.body:
        return
    for name, value in _top.decode(request.body).items():
        if name not in _WRITTEN and name not in dialect.strip_fields and bytes(value) != b"null":
            body[name] = value


def _put_params(body: Fields, request: Request, dialect: Dialect, plan: ThinkingPlan) -> None:
    if dialect.sampling_with_thinking or not plan.active:
        for name in ("temperature", "top_p"):
            if name in request.sampling and name in dialect.params:
                body[name] = msgspec.Raw(request.sampling[name])
    for name, value in (
        ("prompt_cache_key", request.cache_key),
        ("user", request.user),
        ("service_tier", request.service_tier),
    ):
        if value is not None and name in dialect.params:
            body[name] = value


def _put_thinking(
    body: Fields, request: Request, plan: ThinkingPlan, model: str, dialect: Dialect, limits: Limits
) -> None:
    """`reasoning` with effort and summary; `include` brings the reasoning back in a form to be replayed."""
    if not limits.thinks:
        return
    if plan.state != "silent":
        match dialect.thinking_key:
            case "thinking":
                switch: Fields = {"type": "enabled" if plan.state == "on" else "disabled"}
                if plan.state == "on":
                    switch.update(dialect.thinking_extra)
                body["thinking"] = switch
            case "enable_thinking":
                body["enable_thinking"] = plan.state == "on"
            case _:
                pass
    wish = request.thinking
    wanted = wish.effort is not None or wish.mode in ("on", "adaptive") or wish.summary is not None
    reasoning: Fields = {}
    effort = plan.effort
    if effort is None and not dialect.efforts:
        effort = _native_effort(request, plan, dialect)
    if effort is not None:
        reasoning["effort"] = effort
    if wanted and wish.mode != "off":
        reasoning["summary"] = wish.summary if request.wire == "responses" and wish.summary else "auto"
        if request.wire == "responses" and wish.summary is None:
            del reasoning["summary"]
    if reasoning:
        body["reasoning"] = reasoning
    body["include"] = ["reasoning.encrypted_content"]


def _native_effort(request: Request, plan: ThinkingPlan, dialect: Dialect) -> str | None:
    """The protocol's own words, for a provider whose profile says nothing about efforts."""
    wish = request.thinking
    if wish.mode == "off" and request.wire != "responses":
        return "none" if dialect.thinks_by_default else None
    if wish.effort is None:
        return None
    return wish.effort if request.wire == "responses" else _NATIVE_EFFORTS.get(wish.effort, wish.effort)


def _put_format(body: Fields, request: Request, dialect: Dialect) -> RawText | None:
    """Demand the answer's shape; returns the text that tells it where only an object can be demanded."""
    text: Fields = {}
    told: RawText | None = None
    wanted = request.format
    if wanted is not None and dialect.json_schema != "none":
        if wanted.kind == "json_object" or wanted.schema is None:
            text["format"] = {"type": "json_object"}
        elif dialect.json_schema == "object":
            text["format"] = {"type": "json_object"}
            told = SCHEMA_HEADING + GAP + raw(wanted.schema.decode("utf-8", "replace"))
        else:
            inner: Fields = {"type": "json_schema", "name": wanted.name}
            if wanted.description is not None:
                inner["description"] = quoted(wanted.description)
            if wanted.strict is not None:
                inner["strict"] = wanted.strict
            inner["schema"] = msgspec.Raw(wanted.schema)
            text["format"] = inner
    if request.verbosity is not None and "verbosity" in dialect.params:
        text["verbosity"] = request.verbosity
    if text:
        body["text"] = text
    return told


# --- tools


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
    body["tools"] = [_declaration(entry, dialect, shims) for entry in tools.entries]
    if (choice := request.tool_choice) is not None:
        if choice.mode in accepted:
            body["tool_choice"] = _choice(choice, tools)
        else:
            shims[f"tool choice {choice.mode} lowered to auto"] = None
            body["tool_choice"] = "required" if choice.mode == "named" and "required" in accepted else "auto"
    if request.parallel_calls is not None and "parallel_tool_calls" in dialect.params:
        body["parallel_tool_calls"] = request.parallel_calls


def _choice(choice: ToolChoice, tools: ToolTable) -> Any:
    if choice.mode != "named" or choice.name is None:
        return choice.mode
    entry = tools.entry(choice.name, choice.namespace)
    if entry is not None and entry.tool.kind == "hosted":
        return {"type": entry.tool.name}
    native = entry is not None and entry.tool.kind == "freeform" and not entry.wrapped
    return {
        "type": "custom" if native else "function",
        "name": tools.upstream_name(choice.name, choice.namespace),
    }


def _declaration(entry: ToolEntry, dialect: Dialect, shims: dict[str, None]) -> Any:
    tool = entry.tool
    if tool.kind == "hosted":
        return msgspec.Raw(tool.json)
    declared: Fields = {"type": "function", "name": entry.upstream_name}
    if tool.namespace is not None:
        shims["namespaced tools under flat names"] = None
    description = description_of(entry)
    if tool.kind == "freeform" and not entry.wrapped:
        declared["type"] = "custom"
        if description:
            declared["description"] = quoted(description)
        if tool.grammar is not None:
            declared["format"] = {
                "type": "grammar",
                "syntax": tool.grammar.syntax,
                "definition": quoted(tool.grammar.definition),
            }
        return declared
    schema = FREEFORM_SCHEMA
    if entry.wrapped:
        shims["freeform tools as functions"] = None
    else:
        schema = object_schema(tool.schema, open_root=dialect.open_schemas)
    if description:
        declared["description"] = quoted(description)
    declared["strict"] = bool(tool.strict) and not entry.wrapped
    declared["parameters"] = msgspec.Raw(schema)
    return declared

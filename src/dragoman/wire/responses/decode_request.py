"""A Responses request, as Codex and the OpenAI SDKs send it, decoded to turns.

Learned from Codex 0.163 and 0.169: there is no `instructions` key, the base instructions are the first
`developer` message; more developer messages appear in the middle after a resume; every item carries an id;
tools may stand in an `additional_tools` item or arrive by a `tool_search_output`; history is always complete.
"""

from __future__ import annotations

from typing import Annotated, cast, get_args

import msgspec

from dragoman.wire.errors import BadRequest
from dragoman.wire.reading import ABSENT, is_set, json_of, kind_of, need_text, read, text_of
from dragoman.wire.responses import decode_items, decode_tools
from dragoman.wire.turns import (
    Effort,
    Format,
    RawJson,
    Request,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
    User,
    raw,
)

_SAMPLING = ("temperature", "top_p")
_EFFORTS = frozenset(get_args(Effort))

# What only a server with a memory can do; half the context would be worse than a refusal.
_STORED = ("previous_response_id", "conversation", "prompt")


class _Reasoning(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None


class _Format(msgspec.Struct):
    type: str
    name: str | None = None
    schema: msgspec.Raw = ABSENT
    strict: bool | None = None
    description: msgspec.Raw = ABSENT


class _TextConfig(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Body(msgspec.Struct):
    model: str
    input: list[decode_items.Item] | str | None = None
    instructions: msgspec.Raw = ABSENT
    tools: list[msgspec.Raw] | None = None
    tool_choice: msgspec.Raw = ABSENT
    parallel_tool_calls: bool | None = None
    reasoning: _Reasoning | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    stream: bool | None = None
    text: _TextConfig | None = None
    temperature: msgspec.Raw = ABSENT
    top_p: msgspec.Raw = ABSENT
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None
    service_tier: str | None = None
    background: bool | None = None
    previous_response_id: msgspec.Raw = ABSENT
    conversation: msgspec.Raw = ABSENT
    prompt: msgspec.Raw = ABSENT


class _Choice(msgspec.Struct):
    type: str
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None


_body = msgspec.json.Decoder(_Body)
_choice = msgspec.json.Decoder(_Choice)


def decode(body: bytes) -> Request:
    """Decode the body of `POST /v1/responses`.

    Raises:
        BadRequest: with the JSON path of what is wrong; also for what needs a server that remembers
            (`previous_response_id` and the like).
    """
    fields = read(_body, body)
    _refuse_stored(fields)
    turns: tuple[Turn, ...]
    found_tools: list[Tool] = []
    match fields.input:
        case None:
            raise BadRequest("The request has no input", path="$.input")
        case str(text):
            turns = (User(parts=(Text(raw(text)),)),)
        case items:
            turns, found_tools = decode_items.turns_of(items, body)
    declared = [
        tool
        for i, value in enumerate(fields.tools or [])
        for tool in decode_tools.tools_of(value, f"$.tools[{i}]")
    ]
    config = fields.text or _TextConfig()
    return Request(
        wire="responses",
        model=fields.model,
        stream=bool(fields.stream),
        system=_instructions(fields.instructions),
        turns=turns,
        tools=decode_tools.joined(declared, found_tools),
        tool_choice=_tool_choice(fields.tool_choice),
        parallel_calls=fields.parallel_tool_calls,
        thinking=_thinking(fields.reasoning),
        max_output_tokens=fields.max_output_tokens,
        sampling=_sampling(fields),
        format=_format(config.format),
        verbosity=config.verbosity,
        cache_key=fields.prompt_cache_key,
        user=fields.safety_identifier or fields.user,
        service_tier=fields.service_tier,
        body=body,
    )


def _refuse_stored(fields: _Body) -> None:
    for name in _STORED:
        if is_set(getattr(fields, name)):
            raise BadRequest(
                f"`{name}` needs a server that keeps conversations, and this one keeps none",
                path=f"$.{name}",
                hint="send the whole conversation as `input` with `store: false`",
            )
    if fields.background:
        raise BadRequest("Background responses are not kept here", path="$.background")


def _instructions(value: msgspec.Raw) -> tuple[Text, ...]:
    if not is_set(value):
        return ()
    text = need_text(value, "$.instructions")
    return (Text(text),) if text else ()


def _sampling(fields: _Body) -> dict[str, RawJson]:
    out: dict[str, RawJson] = {}
    for name in _SAMPLING:
        value: msgspec.Raw = getattr(fields, name)
        if is_set(value):
            if kind_of(value) != "number":
                raise BadRequest(f"Expected `number`, got `{kind_of(value)}`", path=f"$.{name}")
            out[name] = bytes(value)
    return out


def _thinking(wish: _Reasoning | None) -> Thinking:
    if wish is None:
        return Thinking()
    effort = cast(Effort, wish.effort) if wish.effort in _EFFORTS else None
    if effort is None:
        return Thinking(summary=wish.summary)
    return Thinking(mode="off" if effort == "none" else "on", effort=effort, summary=wish.summary)


def _format(found: _Format | None) -> Format | None:
    if found is None:
        return None
    match found.type:
        case "json_object":
            return Format(kind="json_object")
        case "json_schema":
            return Format(
                kind="json_schema",
                name=found.name or "answer",
                schema=json_of(found.schema),
                strict=found.strict,
                description=text_of(found.description),
            )
        case _:
            return None


def _tool_choice(value: msgspec.Raw) -> ToolChoice | None:
    if not is_set(value):
        return None
    if kind_of(value) == "str":
        match text_of(value):
            case b"auto":
                return ToolChoice(mode="auto")
            case b"none":
                return ToolChoice(mode="none")
            case b"required":
                return ToolChoice(mode="required")
            case other:
                word = (other or b"").decode("utf-8", "replace")
                raise BadRequest(f"Unknown tool choice `{word}`", path="$.tool_choice")
    choice = read(_choice, value, "$.tool_choice")
    match choice.type:
        case "function" | "custom":
            if not choice.name:
                raise BadRequest("This tool choice needs a name", path="$.tool_choice.name")
            return ToolChoice(mode="named", name=choice.name, namespace=choice.namespace)
        case "allowed_tools":
            return ToolChoice(mode="required" if choice.mode == "required" else "auto")
        case hosted:
            return ToolChoice(mode="named", name=hosted)

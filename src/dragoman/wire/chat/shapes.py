"""The fields of Chat Completions answers that are acted on; everything else is skipped unread."""

from __future__ import annotations

from typing import Literal

import msgspec

from dragoman.wire.events import Usage
from dragoman.wire.reading import ABSENT


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: msgspec.Raw = ABSENT


class ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Said(msgspec.Struct, gc=False):
    content: msgspec.Raw = ABSENT
    reasoning_content: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Said | None = None
    message: Said | None = None
    finish_reason: str | None = None


class PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class ChatUsage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    usage: ChatUsage | None = None
    id: str | None = None
    model: str | None = None
    error: msgspec.Raw = ABSENT


class ContentPart(msgspec.Struct, gc=False):
    type: str = "text"
    text: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT


# Frames that hold one more piece of one block and nothing else. Every field that could say more has to be
# absent, null or empty, or the frame is refused and read in full.

Nothing = Literal[""] | None


class _TextDelta(msgspec.Struct, gc=False):
    content: msgspec.Raw
    tool_calls: None = None
    reasoning_content: Nothing = None
    reasoning: Nothing = None
    refusal: Nothing = None
    function_call: None = None


class _TextChoice(msgspec.Struct, gc=False):
    delta: _TextDelta
    index: Literal[0] = 0
    finish_reason: None = None


class _TextChunk(msgspec.Struct, gc=False):
    choices: tuple[_TextChoice]
    usage: None = None
    error: None = None


class _ReasoningDelta(msgspec.Struct, gc=False):
    reasoning_content: msgspec.Raw
    content: Nothing = None
    tool_calls: None = None
    refusal: Nothing = None
    function_call: None = None


class _ReasoningChoice(msgspec.Struct, gc=False):
    delta: _ReasoningDelta
    index: Literal[0] = 0
    finish_reason: None = None


class _ReasoningChunk(msgspec.Struct, gc=False):
    choices: tuple[_ReasoningChoice]
    usage: None = None
    error: None = None


class _Arguments(msgspec.Struct, gc=False):
    arguments: msgspec.Raw
    name: Nothing = None


class _ArgumentsCall(msgspec.Struct, gc=False):
    index: int
    function: _Arguments
    id: Nothing = None


class _ArgumentsDelta(msgspec.Struct, gc=False):
    tool_calls: tuple[_ArgumentsCall]
    content: Nothing = None
    reasoning_content: Nothing = None
    reasoning: Nothing = None
    refusal: Nothing = None
    function_call: None = None


class _ArgumentsChoice(msgspec.Struct, gc=False):
    delta: _ArgumentsDelta
    index: Literal[0] = 0
    finish_reason: None = None


class _ArgumentsChunk(msgspec.Struct, gc=False):
    choices: tuple[_ArgumentsChoice]
    usage: None = None
    error: None = None


text_chunks = msgspec.json.Decoder(_TextChunk)
reasoning_chunks = msgspec.json.Decoder(_ReasoningChunk)
argument_chunks = msgspec.json.Decoder(_ArgumentsChunk)

chunks = msgspec.json.Decoder(Chunk)
content_parts = msgspec.json.Decoder(list[ContentPart])


def usage_of(usage: ChatUsage) -> Usage:
    """Chat's usage, whose input counts cache reads already."""
    prompt = usage.prompt_tokens_details
    output = usage.completion_tokens_details
    cached = (
        (prompt.cached_tokens if prompt else None) or usage.prompt_cache_hit_tokens or usage.cached_tokens
    )
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cache_read_tokens=cached or 0,
        cache_write_tokens=(prompt.cache_write_tokens if prompt else None) or 0,
        reasoning_tokens=(output.reasoning_tokens if output else None) or 0,
    )

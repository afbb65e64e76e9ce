"""Events written as a Chat Completions stream or body, for the OpenAI SDKs and everything built on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dragoman.wire.encode_error import error_body
from dragoman.wire.errors import Failure
from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Fail,
    Finish,
    FinishReason,
    Open,
    ReasoningBlock,
    TextBlock,
    Usage,
)
from dragoman.wire.ids import safe_id
from dragoman.wire.sse import COMMENT_KEEP_ALIVE, data_frame, escape_separators
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import RawText, Request, quoted

_encode = msgspec.json.Encoder().encode

_FINISH: Mapping[FinishReason, str] = {
    "end": "stop",
    "tool_use": "tool_calls",
    "length": "length",
    "stop_sequence": "stop",
    "refusal": "content_filter",
    "context": "length",
    "pause": "stop",
}


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Chat's usage; cache reads are part of the prompt."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


class Encoder:
    """Encodes one answer. See `dragoman.wire.translate.StreamEncoder`."""

    def __init__(self, *, request: Request, tools: ToolTable, response_id: str, created_at: int) -> None:
        self._include_usage = request.include_usage
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{response_id}",
            "object": "chat.completion.chunk",
            "created": created_at,
            "model": request.model,
        }
        self._started = False
        self._ended = False
        self._calls = -1
        self._silent = False  # a function call without arguments so far: `{}` is what SDKs can parse
        self._prefix = b""
        self._suffix = b""
        self._usage: Usage | None = None
        # Every chunk begins alike: {"id":..,"model":..,"choices":[{"index":0,"delta":{
        self._lead = b"data: " + _encode(self._head)[:-1] + b',"choices":[{"index":0,"delta":{'

    def feed(self, events: Sequence[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if self._ended:
                break
            if not self._started:
                self._started = True
                out.append(self._chunk({"role": "assistant", "content": ""}))
            if type(event) is Delta:
                self._silent = False
                out += (self._prefix, event.text, self._suffix)
            else:
                self._other(out, event)
        return escape_separators(b"".join(out))

    def keep_alive(self) -> bytes:
        """A comment: readers of this wire skip it and see that the line is alive."""
        return b"" if self._ended else COMMENT_KEEP_ALIVE

    def fail(self, failure: Failure) -> bytes:
        """An error chunk; no `[DONE]` follows, so that nobody takes the answer for complete."""
        if self._ended:
            return b""
        self._ended = True
        return data_frame(_encode(error_body("chat", failure)))

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return data_frame(_encode({**self._head, "choices": [choice]}))

    def _other(self, out: list[bytes], event: Event) -> None:
        match event:
            case Open(TextBlock()):
                self._spell(b'"content":"', b'"')
            case Open(ReasoningBlock()):
                self._spell(b'"reasoning_content":"', b'"')
            case Open(CallBlock() as block):
                self._open_call(out, block)
            case Close() if self._silent:
                self._silent = False
                out += (self._prefix, b"{}", self._suffix)
            case Usage():
                self._usage = event
            case Finish(reason):
                self._finish(out, reason)
            case Fail(failure):
                out.append(self.fail(failure))
            case _:
                pass

    def _spell(self, before: bytes, after: bytes) -> None:
        self._prefix = self._lead + before
        self._suffix = after + b'},"finish_reason":null}]}\n\n'

    def _open_call(self, out: list[bytes], block: CallBlock) -> None:
        self._calls += 1
        index = self._calls
        head: dict[str, Any] = {"index": index, "id": safe_id(block.id)}
        if block.kind == "freeform":
            call = {**head, "type": "custom", "custom": {"name": block.name, "input": ""}}
            self._spell(b'"tool_calls":[{"index":%d,"custom":{"input":"' % index, b'"}}]')
        else:
            call = {**head, "type": "function", "function": {"name": block.name, "arguments": ""}}
            self._silent = True
            self._spell(b'"tool_calls":[{"index":%d,"function":{"arguments":"' % index, b'"}}]')
        out.append(self._chunk({"tool_calls": [call]}))

    def _finish(self, out: list[bytes], reason: FinishReason) -> None:
        self._ended = True
        out.append(self._chunk({}, _FINISH[reason]))
        if self._include_usage:
            usage = usage_fields(self._usage or Usage())
            out.append(data_frame(_encode({**self._head, "choices": [], "usage": usage})))
        out.append(b"data: [DONE]\n\n")


def encode_body(
    events: Sequence[Event], *, request: Request, tools: ToolTable, response_id: str, created_at: int
) -> bytes:
    """A whole `chat.completion`. See `dragoman.wire.translate.encode_body`."""
    said: list[RawText] = []
    thought: list[RawText] = []
    calls: list[dict[str, Any]] = []
    texts: list[RawText] = []
    usage = Usage()
    reason: FinishReason = "end"
    block: object = None
    for event in events:
        match event:
            case Open(block):
                texts = thought if isinstance(block, ReasoningBlock) else said
                if isinstance(block, CallBlock):
                    texts = []
            case Delta(text):
                texts.append(text)
            case Close() if isinstance(block, CallBlock):
                calls.append(_whole_call(block, b"".join(texts)))
            case Usage():
                usage = event
            case Finish(reason):
                pass
            case _:
                pass
    message: dict[str, Any] = {"role": "assistant"}
    text = b"".join(said)
    message["content"] = quoted(text) if text or not calls else None
    if thought:
        message["reasoning_content"] = quoted(b"".join(thought))
    if calls:
        message["tool_calls"] = calls
    message["refusal"] = None
    return _encode(
        {
            "id": f"chatcmpl-{response_id}",
            "object": "chat.completion",
            "created": created_at,
            "model": request.model,
            "choices": [{"index": 0, "message": message, "finish_reason": _FINISH[reason]}],
            "usage": usage_fields(usage),
        }
    )


def _whole_call(block: CallBlock, text: RawText) -> dict[str, Any]:
    head: dict[str, Any] = {"id": safe_id(block.id)}
    if block.kind == "freeform":
        return {**head, "type": "custom", "custom": {"name": block.name, "input": quoted(text)}}
    arguments = quoted(text or b"{}")
    return {**head, "type": "function", "function": {"name": block.name, "arguments": arguments}}

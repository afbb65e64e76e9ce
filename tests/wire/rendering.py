"""Upstreams' bytes, written here from the protocols and not by the encoders under test."""

from __future__ import annotations

import json
from typing import Any

from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Finish,
    Open,
    ReasoningBlock,
    TextBlock,
    Usage,
)
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import plain, raw

CHAT_FINISH = {"end": "stop", "tool_use": "tool_calls", "length": "length", "refusal": "content_filter"}
MESSAGES_STOP = {"end": "end_turn", "tool_use": "tool_use", "length": "max_tokens", "refusal": "refusal"}


def data(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def event(value: dict[str, Any]) -> bytes:
    return b"event: " + value["type"].encode() + b"\n" + data(value)


def chat_stream(events: list[Event], tools: ToolTable | None = None) -> bytes:
    """A Chat stream that says these events; calls under the names `tools` gave them."""
    events = _upstream(events, tools)
    out = [data(_choice({"role": "assistant", "content": ""}))]
    calls = -1
    block: object = None
    tail: list[bytes] = []
    for item in events:
        match item:
            case Open(block):
                if isinstance(block, CallBlock):
                    calls += 1
                    function = {"name": block.name, "arguments": ""}
                    call = {"index": calls, "id": block.id, "type": "function", "function": function}
                    out.append(data(_choice({"tool_calls": [call]})))
            case Delta(text):
                out.append(data(_choice(_chat_delta(block, calls, plain(text)))))
            case Usage():
                usage = {
                    "prompt_tokens": item.input_tokens,
                    "completion_tokens": item.output_tokens,
                    "total_tokens": item.total_tokens,
                    "prompt_tokens_details": {"cached_tokens": item.cache_read_tokens},
                    "completion_tokens_details": {"reasoning_tokens": item.reasoning_tokens},
                }
                tail.append(data({"id": "u", "choices": [], "usage": usage}))
            case Finish(reason):
                out.append(data(_choice({}, CHAT_FINISH[reason])))
            case _:
                pass
    return b"".join([*out, *tail, b"data: [DONE]\n\n"])


def _upstream(events: list[Event], tools: ToolTable | None) -> list[Event]:
    """The events in the names of the upstream, freeform texts as the one argument of a function."""
    if tools is None:
        return events
    out: list[Event] = []
    wrapped = False
    for item in events:
        match item:
            case Open(CallBlock() as block):
                name = tools.upstream_name(block.name, block.namespace)
                wrapped = tools.is_wrapped(name)
                out.append(Open(CallBlock(block.id, name)))
                if wrapped:
                    out.append(Delta(raw('{"input": "')))
            case Delta(text) if wrapped:
                out.append(Delta(raw(text.decode())))
            case Close() if wrapped:
                out += [Delta(raw('"}')), item]
                wrapped = False
            case _:
                out.append(item)
    return out


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "u", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]}


def _chat_delta(block: object, calls: int, text: str) -> dict[str, Any]:
    match block:
        case CallBlock():
            return {"tool_calls": [{"index": calls, "function": {"arguments": text}}]}
        case ReasoningBlock():
            return {"reasoning_content": text}
        case _:
            return {"content": text}


def messages_stream(events: list[Event], tools: ToolTable | None = None) -> bytes:
    """A Messages stream that says these events; calls under the names `tools` gave them."""
    events = _upstream(events, tools)
    message: dict[str, Any] = {"id": "msg_u", "type": "message", "role": "assistant", "model": "up"}
    message |= {"content": [], "stop_reason": None, "usage": {"input_tokens": 0, "output_tokens": 0}}
    out = [event({"type": "message_start", "message": message})]
    index = -1
    block: object = None
    usage: dict[str, int] = {"output_tokens": 0}
    for item in events:
        match item:
            case Open(block):
                index += 1
                start = {"type": "content_block_start", "index": index, "content_block": _start_of(block)}
                out.append(event(start))
            case Delta(text):
                out.append(_messages_delta(index, _delta_of(block, plain(text))))
            case Close(carriers):
                for carrier in carriers:
                    signature = {"type": "signature_delta", "signature": carrier.data}
                    out.append(_messages_delta(index, signature))
                out.append(event({"type": "content_block_stop", "index": index}))
            case Usage():
                usage = {
                    "input_tokens": item.input_tokens - item.cache_read_tokens - item.cache_write_tokens,
                    "cache_read_input_tokens": item.cache_read_tokens,
                    "cache_creation_input_tokens": item.cache_write_tokens,
                    "output_tokens": item.output_tokens,
                }
            case Finish(reason):
                delta = {"stop_reason": MESSAGES_STOP[reason], "stop_sequence": None}
                out.append(event({"type": "message_delta", "delta": delta, "usage": usage}))
                out.append(event({"type": "message_stop"}))
            case _:
                pass
    return b"".join(out)


def _messages_delta(index: int, delta: dict[str, Any]) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": delta})


def _start_of(block: object) -> dict[str, Any]:
    match block:
        case CallBlock():
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": {}}
        case ReasoningBlock():
            return {"type": "thinking", "thinking": "", "signature": ""}
        case _:
            assert isinstance(block, TextBlock)
            return {"type": "text", "text": ""}


def _delta_of(block: object, text: str) -> dict[str, Any]:
    match block:
        case CallBlock():
            return {"type": "input_json_delta", "partial_json": text}
        case ReasoningBlock():
            return {"type": "thinking_delta", "thinking": text}
        case _:
            return {"type": "text_delta", "text": text}

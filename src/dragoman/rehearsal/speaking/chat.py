"""Answers of `POST /v1/chat/completions`: OpenAI's, with the reasoning field of GLM, DeepSeek and Kimi."""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman.rehearsal.answer import Answer, Call, Cut, Failure, Silence, Speech, Thought
from dragoman.rehearsal.asked import Asked
from dragoman.rehearsal.speaking.openai import error_of
from dragoman.rehearsal.speaking.tape import CREATED_AT, Frame, Tape, identifier

_FINISH_REASONS = {"stop": "stop", "tools": "tool_calls", "length": "length"}


def body(answer: Answer, asked: Asked) -> bytes:
    """The whole answer as one JSON body."""
    thoughts = [part.text for part in answer.parts if isinstance(part, Thought)]
    texts = [part.text for part in answer.parts if isinstance(part, Speech)]
    calls = [part for part in answer.parts if isinstance(part, Call)]
    message: dict[str, Any] = {"role": "assistant", "content": "\n\n".join(texts) if texts else None}
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    if calls:
        message["tool_calls"] = [_tool_call(call, call.payload) for call in calls]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _FINISH_REASONS[answer.finish],
    }
    return msgspec.json.encode(
        _head(asked, "chat.completion") | {"choices": [choice], "usage": _usage(answer)}
    )


def frames(answer: Answer, asked: Asked) -> list[Frame]:
    """The answer as a stream of chunks, ended by `[DONE]` unless it fails or is cut."""
    tape = Tape(answer.pace)
    head = _head(asked, "chat.completion.chunk")
    if asked.wishes.usage_in_stream:
        head["usage"] = None

    def chunk(delta: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        tape.event(head | {"choices": [choice]})

    chunk({"role": "assistant", "content": ""})
    calls = 0
    thought = said = False
    for part in answer.parts:
        match part:
            case Thought(text):
                for piece in tape.spoken("\n\n" * thought + text):
                    chunk({"reasoning_content": piece})
                thought = True
            case Speech(text):
                for piece in tape.spoken("\n\n" * said + text):
                    chunk({"content": piece})
                said = True
            case Call():
                chunk({"tool_calls": [{"index": calls} | _tool_call(part, "")]})
                field = "arguments" if part.tool.kind == "function" else "input"
                for piece in tape.spoken(part.payload):
                    chunk({"tool_calls": [{"index": calls, part.tool.kind: {field: piece}}]})
                calls += 1
            case Silence(seconds):
                tape.pause(seconds)
            case Failure():
                tape.event({"error": error_of(part)})
                return tape.frames
            case Cut():
                return tape.frames
    chunk({}, _FINISH_REASONS[answer.finish])
    if asked.wishes.usage_in_stream:
        tape.event(head | {"choices": [], "usage": _usage(answer)})
    tape.put(b"data: [DONE]\n\n")
    return tape.frames


def _tool_call(call: Call, payload: str) -> dict[str, Any]:
    field = "arguments" if call.tool.kind == "function" else "input"
    inner = {"name": call.tool.name, field: payload}
    return {"id": identifier("call_", call.key), "type": call.tool.kind, call.tool.kind: inner}


def _head(asked: Asked, kind: str) -> dict[str, Any]:
    return {
        "id": identifier("chatcmpl-", asked.digest),
        "object": kind,
        "created": CREATED_AT,
        "model": asked.model,
        "system_fingerprint": None,
    }


def _usage(answer: Answer) -> dict[str, Any]:
    usage = answer.usage
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }

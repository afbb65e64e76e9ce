"""Answers of `POST /v1/messages`, as Anthropic's service gives them."""

from __future__ import annotations

from itertools import chain
from typing import Any

import msgspec

from dragoman.rehearsal.answer import Answer, Call, Cut, Failure, Silence, Speech, Thought
from dragoman.rehearsal.asked import Asked
from dragoman.rehearsal.speaking.tape import Frame, Tape, identifier, sealed

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOP_REASONS = {"stop": "end_turn", "tools": "tool_use", "length": "max_tokens"}


def body(answer: Answer, asked: Asked) -> bytes:
    """The whole answer as one JSON body."""
    blocks: list[dict[str, Any]] = []
    for part in answer.parts:
        match part:
            case Thought(text):
                blocks.append({"type": "thinking", "thinking": text, "signature": sealed(text)})
            case Speech(text):
                blocks.append({"type": "text", "text": text})
            case Call():
                arguments = msgspec.json.decode(part.payload)
                blocks.append(_tool_use(part) | {"input": arguments})
            case _:
                pass
    message = _message(answer, asked)
    return msgspec.json.encode(message | {"content": blocks, "stop_reason": _STOP_REASONS[answer.finish]})


def frames(answer: Answer, asked: Asked) -> list[Frame]:
    """The answer as a stream; a cut or an error leaves the last block open."""
    stream = _Stream(Tape(answer.pace))
    message = _message(answer, asked)
    stream.event("message_start", message=message | {"usage": message["usage"] | {"output_tokens": 1}})
    stream.event("ping")
    broken = bool(answer.parts) and isinstance(answer.parts[-1], (Cut, Failure))
    spoken = [part for part in answer.parts if isinstance(part, (Thought, Speech, Call))]
    for part in answer.parts:
        match part:
            case Silence(seconds):
                stream.tape.pause(seconds)
            case Failure():
                stream.event("error", error=_error(part))
                return stream.tape.frames
            case Cut():
                return stream.tape.frames
            case _:
                stream.say(part, open_end=broken and part is spoken[-1])
    stop = {"stop_reason": _STOP_REASONS[answer.finish], "stop_sequence": None}
    stream.event("message_delta", delta=stop, usage={"output_tokens": answer.usage.output})
    stream.event("message_stop")
    return stream.tape.frames


class _Stream:
    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.index = 0

    def event(self, kind: str, **fields: Any) -> None:
        self.tape.event({"type": kind, **fields}, kind)

    def say(self, part: Thought | Speech | Call, *, open_end: bool) -> None:
        """Say one block; with an open end, without its stop."""
        match part:
            case Thought(text):
                self.begin({"type": "thinking", "thinking": "", "signature": ""})
                for piece in self.tape.spoken(text):
                    self.delta({"type": "thinking_delta", "thinking": piece})
                if not open_end:
                    self.delta({"type": "signature_delta", "signature": sealed(text)})
            case Speech(text):
                self.begin({"type": "text", "text": ""})
                for piece in self.tape.spoken(text):
                    self.delta({"type": "text_delta", "text": piece})
            case Call():
                self.begin(_tool_use(part))
                # The service opens every argument stream with an empty delta.
                for piece in chain([""], self.tape.spoken(part.payload)):
                    self.delta({"type": "input_json_delta", "partial_json": piece})
        if not open_end:
            self.event("content_block_stop", index=self.index)
        self.index += 1

    def begin(self, block: dict[str, Any]) -> None:
        self.event("content_block_start", index=self.index, content_block=block)

    def delta(self, delta: dict[str, str]) -> None:
        self.event("content_block_delta", index=self.index, delta=delta)


def failure(failed: Failure, digest: str) -> bytes:
    """The body of an HTTP error."""
    answer = {"type": "error", "error": _error(failed), "request_id": identifier("req_", digest)}
    return msgspec.json.encode(answer)


def _error(failed: Failure) -> dict[str, str]:
    usual = "api_error" if failed.status >= 500 else ERROR_TYPES[400]
    return {"type": failed.code or ERROR_TYPES.get(failed.status, usual), "message": failed.message}


def _tool_use(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier("toolu_", call.key), "name": call.tool.name, "input": {}}


def _message(answer: Answer, asked: Asked) -> dict[str, Any]:
    usage = answer.usage
    return {
        "id": identifier("msg_", asked.digest),
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.input - usage.cache_read - usage.cache_write,
            "cache_creation_input_tokens": usage.cache_write,
            "cache_read_input_tokens": usage.cache_read,
            "output_tokens": usage.output,
            "service_tier": "standard",
        },
    }

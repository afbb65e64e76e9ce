"""Events written as a Messages stream or a Messages body, for Claude Code and the Anthropic SDKs.

What Claude Code 2.1.197 and 2.1.329 need: every event with its `event:` line; the asked model's name in
`message_start` (2.1.197 otherwise deletes its thinking history); text and input only in deltas; one block at
a time; usage in the one `message_delta`; and an explicit `error` event when the answer is not complete,
because a mere end of the stream counts as success.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from dragoman.wire import envelope
from dragoman.wire.encode_error import error_body
from dragoman.wire.errors import Failure
from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Fail,
    Finish,
    Open,
    ReasoningBlock,
    TextBlock,
    Usage,
)
from dragoman.wire.ids import safe_id
from dragoman.wire.messages.stop_reasons import TO_CLIENT
from dragoman.wire.sse import escape_separators, frame
from dragoman.wire.tools import ToolTable, arguments_object, wrap_freeform
from dragoman.wire.turns import Call, Carrier, RawJson, RawText, Request, quoted

PING = b'event: ping\ndata: {"type":"ping"}\n\n'

_encode = msgspec.json.Encoder().encode
_DELTA_END = b'"}}\n\n'


def usage_fields(usage: Usage) -> dict[str, int]:
    """Messages' usage, whose input leaves out what the cache served or stored."""
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return {
        "input_tokens": max(usage.input_tokens - cached, 0),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }


def carried(text: RawText, carriers: tuple[Carrier, ...]) -> str:
    """The signature of a thinking block: an envelope, or nothing when nobody wants it back."""
    return envelope.wrap(text, carriers) if carriers else ""


class Encoder:
    """Encodes one answer. See `dragoman.wire.translate.StreamEncoder`."""

    def __init__(self, *, request: Request, tools: ToolTable, response_id: str, created_at: int) -> None:
        self._model = request.model
        self._id = f"msg_{response_id}"
        self._started = False
        self._ended = False
        self._index = -1
        self._block: TextBlock | ReasoningBlock | CallBlock | None = None
        self._shown = False
        self._prefix = b""
        self._thought: list[RawText] = []
        self._usage = Usage()

    def feed(self, events: Sequence[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            if self._ended:
                break
            if not self._started:
                out.append(self._start())
            if type(event) is Delta:
                self._delta(out, event.text)
            else:
                self._other(out, event)
        return escape_separators(b"".join(out))

    def keep_alive(self) -> bytes:
        """A `ping`, after the `message_start` every reader waits for."""
        if self._ended:
            return b""
        return PING if self._started else self._start() + PING

    def fail(self, failure: Failure) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        return frame(b"error", _encode(error_body("messages", failure)))

    def _start(self) -> bytes:
        self._started = True
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_fields(self._usage),
        }
        return frame(b"message_start", _encode({"type": "message_start", "message": message}))

    def _delta(self, out: list[bytes], text: RawText) -> None:
        if not text:
            return
        if not self._shown:
            self._show(out)
        if type(self._block) is ReasoningBlock:
            self._thought.append(text)
        out += (self._prefix, text, _DELTA_END)

    def _other(self, out: list[bytes], event: Event) -> None:
        match event:
            case Open(block):
                self._block = block
                self._shown = False
                self._thought.clear()
                if isinstance(block, CallBlock):
                    self._show(out)
            case Close(carriers):
                self._close(out, carriers)
            case Usage():
                self._usage = event
            case Finish():
                self._finish(out, event)
            case Fail(failure):
                out.append(self.fail(failure))
            case _:
                pass

    def _show(self, out: list[bytes]) -> None:
        """Start the block, now that there is something in it: empty blocks are never sent."""
        match self._block:
            case CallBlock(id=call_id, name=name):
                block: dict[str, Any] = {
                    "type": "tool_use",
                    "id": safe_id(call_id),
                    "name": name,
                    "input": {},
                }
                self._start_block(out, block, b"input_json_delta", b"partial_json")
            case ReasoningBlock():
                block = {"type": "thinking", "thinking": "", "signature": ""}
                self._start_block(out, block, b"thinking_delta", b"thinking")
            case _:
                self._start_block(out, {"type": "text", "text": ""}, b"text_delta", b"text")

    def _start_block(self, out: list[bytes], block: dict[str, Any], delta: bytes, key: bytes) -> None:
        self._index += 1
        self._shown = True
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        out.append(frame(b"content_block_start", _encode(start)))
        self._prefix = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"%b","%b":"' % (self._index, delta, key)
        )

    def _close(self, out: list[bytes], carriers: tuple[Carrier, ...]) -> None:
        if isinstance(self._block, ReasoningBlock):
            if self._shown:
                signature = carried(b"".join(self._thought), carriers)
                out.append(self._signature(signature))
            elif carriers:
                block = {"type": "redacted_thinking", "data": carried(b"", carriers)}
                self._start_block(out, block, b"", b"")
        if self._shown:
            out.append(
                b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % self._index
            )
        self._block = None
        self._shown = False

    def _signature(self, signature: str) -> bytes:
        delta = {"type": "signature_delta", "signature": signature}
        data = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return frame(b"content_block_delta", _encode(data))

    def _finish(self, out: list[bytes], finish: Finish) -> None:
        delta = {"stop_reason": TO_CLIENT[finish.reason], "stop_sequence": finish.stop_sequence}
        data = {"type": "message_delta", "delta": delta, "usage": usage_fields(self._usage)}
        out.append(frame(b"message_delta", _encode(data)))
        out.append(frame(b"message_stop", b'{"type":"message_stop"}'))
        self._ended = True


def encode_body(
    events: Sequence[Event], *, request: Request, tools: ToolTable, response_id: str, created_at: int
) -> bytes:
    """A whole message. See `dragoman.wire.translate.encode_body`."""
    content: list[dict[str, Any]] = []
    usage = Usage()
    finish = Finish("end")
    block: object = None
    texts: list[RawText] = []
    for event in events:
        match event:
            case Open(block):
                texts = []
            case Delta(text):
                texts.append(text)
            case Close(carriers):
                content.extend(_whole_block(block, b"".join(texts), carriers))
            case Usage():
                usage = event
            case Finish():
                finish = event
            case _:
                pass
    message: dict[str, Any] = {
        "id": f"msg_{response_id}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": TO_CLIENT[finish.reason],
        "stop_sequence": finish.stop_sequence,
        "usage": usage_fields(usage),
    }
    return _encode(message)


def _whole_block(block: object, text: RawText, carriers: tuple[Carrier, ...]) -> list[dict[str, Any]]:
    match block:
        case CallBlock():
            call_id = safe_id(block.id)
            return [{"type": "tool_use", "id": call_id, "name": block.name, "input": _input(block, text)}]
        case ReasoningBlock() if text:
            return [{"type": "thinking", "thinking": quoted(text), "signature": carried(text, carriers)}]
        case ReasoningBlock() if carriers:
            return [{"type": "redacted_thinking", "data": carried(b"", carriers)}]
        case TextBlock() if text:
            return [{"type": "text", "text": quoted(text)}]
        case _:
            return []


def _input(block: CallBlock, text: RawText) -> msgspec.Raw:
    """The arguments as an object. Malformed ones are kept under the key Claude Code itself uses for them, so
    that the tool refuses them and the model can mend its call."""
    if block.kind == "freeform":
        return msgspec.Raw(wrap_freeform(text))
    found: RawJson | None = arguments_object(Call(id=block.id, name=block.name, arguments=text))
    if found is None:
        found = b'{"__unparsedToolInput":{"raw":"' + text + b'"}}'
    return msgspec.Raw(found)

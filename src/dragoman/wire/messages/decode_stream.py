"""What a Messages upstream says, as events: streams of any chunking, and whole JSON answers.

Events are told apart by `data.type`, their `event:` line is not needed. Providers that imitate the protocol
send a whole input in `content_block_start`, usage only in `message_delta`, interleave blocks, leave out
`message_stop`, or put their own error object into a stream with status 200.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from dragoman.wire.decode_error import failure_told
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import Failure, failure
from dragoman.wire.events import (
    CallBlock,
    Delta,
    Event,
    Fail,
    Finish,
    FinishReason,
    Ping,
    ReasoningBlock,
    Start,
    TextBlock,
    Usage,
)
from dragoman.wire.frame_loop import FrameLoop
from dragoman.wire.ids import made_id
from dragoman.wire.loose_json import mend_json
from dragoman.wire.messages.stop_reasons import FROM_UPSTREAM
from dragoman.wire.reading import ABSENT, is_set, json_of, spelled, text_of
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Carrier, RawText, Recall, raw


class _Delta(msgspec.Struct, gc=False):
    text: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    partial_json: msgspec.Raw = ABSENT
    signature: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = ABSENT


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | str | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = ABSENT


_events = msgspec.json.Decoder(_Event)
_message = msgspec.json.Decoder(_Message)


class _Open:
    """A block between its start and its stop."""

    __slots__ = ("carrier", "input", "said")

    def __init__(self) -> None:
        self.carrier: Carrier | None = None
        self.input: RawText = b""
        self.said = False


class Decoder(FrameLoop[_Event]):
    """Decodes one answer. See `dragoman.wire.translate.StreamDecoder`."""

    def __init__(
        self, *, dialect: Dialect, tools: ToolTable, id_seed: str = "", recall: Recall | None = None
    ) -> None:
        super().__init__(_events, dialect=dialect, tools=tools, id_seed=id_seed, recall=recall)
        self._open: dict[int, _Open] = {}
        self._model: str | None = None
        self._stop_word: str | None = None
        self._stop_sequence: str | None = None
        self._usage = _Usage()
        self._has_usage = False

    def whole(self, body: bytes) -> list[Event]:
        """The events of a whole JSON answer."""
        try:
            message = _message.decode(body if body.isascii() else body.decode().encode())
        except (ValueError, RecursionError):
            message = _Message()
        if message.content is None:
            self._unreadable(body)
            return self._queue.take()
        self._start(message)
        for index, block in enumerate(message.content):
            self._block_start(index, block)
            self._block_stop(index)
        self._stop_word = message.stop_reason or ""
        self._stop_sequence = message.stop_sequence
        self._end()
        return self._queue.take()

    def _closed(self) -> None:
        if self._stop_word is not None:
            self._end()
        else:
            super()._closed()

    def _frame(self, frame: _Event, payload: bytes) -> None:
        if frame.type == "content_block_delta":
            if frame.delta is not None:
                self._delta(frame.index, frame.delta)
        else:
            self._event(frame, payload)

    def _event(self, event: _Event, payload: bytes) -> None:
        match event.type:
            case "content_block_start":
                if event.content_block is not None:
                    self._block_start(event.index, event.content_block)
            case "content_block_stop":
                self._block_stop(event.index)
            case "message_start":
                if isinstance(event.message, _Message):
                    self._start(event.message)
            case "message_delta":
                if event.usage is not None:
                    self._add_usage(event.usage)
                if event.delta is not None and event.delta.stop_reason:
                    self._stop_word = event.delta.stop_reason
                    self._stop_sequence = event.delta.stop_sequence
            case "message_stop":
                self._end()
            case "ping":
                self._queue.events.append(Ping())
            case _:
                if is_set(event.error) or event.type == "error":
                    self._unreadable(payload)

    def _unreadable(self, payload: bytes) -> None:
        """An error in the provider's own words, or something of no known shape."""
        try:
            value: Any = msgspec.json.decode(mend_json(payload) or b"null")
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            self._fail(failure_told(cast(object, value), self._dialect))
        else:
            self._fail(failure("upstream", "The provider sent an answer that cannot be understood."))

    def _start(self, message: _Message) -> None:
        self._model = message.model
        self._queue.events.append(Start(message.id or "", message.model or ""))
        if message.usage is not None:
            self._add_usage(message.usage)

    def _add_usage(self, usage: _Usage) -> None:
        """The last number that is not zero counts: some providers say everything in `message_delta` only."""
        self._has_usage = True
        for name in _Usage.__struct_fields__:
            if value := getattr(usage, name):
                setattr(self._usage, name, value)

    def _block_start(self, index: int, block: _Block) -> None:
        if index in self._open:
            self._block_stop(index)
        opened = _Open()
        match block.type:
            case "text":
                self._queue.open(index, TextBlock())
                self._open[index] = opened
                self._say(index, block.text)
            case "thinking":
                opened.carrier = self._carrier("signature", block.signature or "")
                self._queue.open(index, ReasoningBlock())
                self._open[index] = opened
                self._say(index, block.thinking)
            case "redacted_thinking":
                opened.carrier = self._carrier("redacted", block.data or "")
                self._queue.open(index, ReasoningBlock())
                self._open[index] = opened
            case "tool_use":
                self._open_call(index, block)
                self._open[index] = opened
                whole = json_of(block.input) or b"{}"
                if whole.strip(b"{} \t\r\n"):
                    opened.input = raw(whole.decode("utf-8", "replace"))
            case _:
                pass

    def _open_call(self, index: int, block: _Block) -> None:
        upstream_name = block.name or ""
        name = self._tools.restore(upstream_name)
        call_id = block.id or made_id(self._id_seed, self._queue.calls)
        wrapped = self._tools.is_wrapped(upstream_name)
        self._queue.open(index, CallBlock(call_id, name.name, name.namespace, name.kind), wrapped=wrapped)

    def _carrier(self, kind: Any, data: str) -> Carrier:
        return Carrier(kind=kind, data=data, realm=self._dialect.realm, model=self._model)

    def _say(self, index: int, value: msgspec.Raw) -> None:
        if len(value) > 2 and (text := text_of(value)):
            self._queue.delta(index, text)

    def _delta(self, index: int, delta: _Delta) -> None:
        if len(delta.text) > 2:
            if self._queue.live == index:
                self._queue.events.append(Delta(spelled(delta.text)[1:-1]))
            else:
                self._say(index, delta.text)
        elif len(delta.thinking) > 2:
            self._say(index, delta.thinking)
        elif (opened := self._open.get(index)) is not None:
            if len(delta.partial_json) > 2:
                opened.said = True
                self._say(index, delta.partial_json)
            elif delta.signature and opened.carrier is not None:
                data = opened.carrier.data + delta.signature
                opened.carrier = msgspec.structs.replace(opened.carrier, data=data)

    def _block_stop(self, index: int, *, complete: bool = True) -> None:
        opened = self._open.pop(index, None)
        if opened is None:
            return
        if opened.input and not opened.said:
            self._queue.delta(index, opened.input)
        carriers = (opened.carrier,) if opened.carrier is not None else ()
        self._queue.close(index, carriers, complete=complete)

    def _end(self) -> None:
        word = self._stop_word or "end_turn"
        if (code := self._dialect.error_finish.get(word)) is not None:
            self._fail(failure(code, f"The provider ended the answer with `{word}`.", upstream_code=word))
            return
        reason: FinishReason = self._dialect.finish_reasons.get(word) or FROM_UPSTREAM.get(word, "end")
        complete = reason in ("end", "tool_use", "stop_sequence")
        for index in list(self._open):
            self._block_stop(index, complete=complete)
        if reason in ("end", "tool_use"):
            reason = "tool_use" if self._queue.calls else "end"
        self._queue.finish()
        self._emit_usage()
        self._queue.events.append(Finish(reason, word, self._stop_sequence))
        self.finished = True

    @property
    def usage_so_far(self) -> Usage | None:
        """What was counted until now: the prompt from the start on, the answer at its end."""
        if not self._has_usage:
            return None
        usage = self._usage
        read = usage.cache_read_input_tokens or 0
        written = usage.cache_creation_input_tokens or 0
        return Usage(
            input_tokens=(usage.input_tokens or 0) + read + written,
            output_tokens=usage.output_tokens or 0,
            cache_read_tokens=read,
            cache_write_tokens=written,
        )

    def _emit_usage(self) -> None:
        if (usage := self.usage_so_far) is not None:
            self._queue.events.append(usage)

    def _fail(self, found: Failure) -> None:
        self._emit_usage()
        self._queue.events.append(Fail(found))
        self.finished = True


def decode_body(
    body: bytes, *, dialect: Dialect, tools: ToolTable, id_seed: str = "", recall: Recall | None = None
) -> list[Event]:
    """The events of a whole message, or of an error that came with status 200."""
    return Decoder(dialect=dialect, tools=tools, id_seed=id_seed, recall=recall).whole(body)

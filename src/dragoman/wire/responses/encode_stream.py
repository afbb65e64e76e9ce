"""Events written as a Responses stream, or folded into one Responses body.

Codex (0.163, 0.169) takes content only from `response.output_item.done` and runs a tool the moment its item
is done, so an item is only ever done when it is complete. It ignores `error` events: every failure is one
`response.failed`. Comments do not re-arm its idle timer: keep-alives are `response.in_progress` events.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dragoman.wire import sse
from dragoman.wire.encode_error import responses_error
from dragoman.wire.errors import Failure, failure
from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Fail,
    Finish,
    Open,
    ReasoningBlock,
    Start,
    TextBlock,
    Usage,
)
from dragoman.wire.responses import compaction
from dragoman.wire.responses.items import (
    ITEM_PREFIX,
    call_item,
    compaction_item,
    message_item,
    reasoning_item,
    summary_part,
    text_part,
)
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import RawText, Request, raw

_encode = msgspec.json.Encoder().encode

_TEXT_DELTA = b"response.output_text.delta"
_SUMMARY_DELTA = b"response.reasoning_summary_text.delta"
_ARGUMENTS_DELTA = b"response.function_call_arguments.delta"
_INPUT_DELTA = b"response.custom_tool_call_input.delta"

_REFUSED = "The provider's content filter stopped the answer."
_WINDOW_FULL = "The model's context window is full."


class _Item:
    """The block that is open.

    `head`, `tail` and `end` are what stands before the sequence number, between it and the text, and after
    the text of each delta; an empty `head` means that deltas are only collected.
    """

    __slots__ = ("block", "end", "head", "index", "item_id", "shown", "tail", "texts")

    def __init__(self, block: TextBlock | ReasoningBlock | CallBlock) -> None:
        self.block = block
        self.texts: list[RawText] = []
        self.item_id = b""
        self.index = 0
        self.shown = False
        self.head = b""
        self.tail = b""
        self.end = b'"}\n\n'

    def deltas(self, kind: bytes, place: bytes, end: bytes = b'"}\n\n') -> None:
        """Prepare the frame around this item's deltas; `place` says where they belong."""
        self.head = b'event: %b\ndata: {"type":"%b","sequence_number":' % (kind, kind)
        self.tail = b',%b,"delta":"' % place
        self.end = end


class Encoder:
    """Writes the events of one answer for a Responses client.

    Args:
        request: the client's request; its model name is echoed.
        tools: unused here, events come with the client's own names; every wire's encoder takes it.
        response_id: fresh letters and digits.
        created_at: Unix seconds.
        whole: the answer is wanted as one body, not as a stream.
    """

    def __init__(
        self,
        request: Request,
        tools: ToolTable,
        response_id: str,
        created_at: int,
        *,
        whole: bool = False,
    ) -> None:
        self.finished = False
        self._seed = response_id.encode()
        self._created_at = created_at
        self._model = raw(request.model)
        self._parallel = b"false" if request.parallel_calls is False else b"true"
        self._compacting = compaction.is_compaction(request)
        self._whole = whole
        self._sequence = 0
        self._started = False
        self._made = 0
        self._next_index = 0
        self._item: _Item | None = None
        self._output: list[bytes] = []
        self._usage: Usage | None = None
        self._summary: list[RawText] = []
        self.response = b""

    def feed(self, events: Sequence[Event]) -> bytes:
        """The frames for these events, in one piece."""
        out: list[bytes] = []
        for event in events:
            if self.finished:
                break
            if type(event) is Delta:
                item = self._item
                if item is None:
                    continue
                item.texts.append(event.text)
                if not item.shown:
                    self._show(out, item)
                if item.head:
                    out += (item.head, b"%d" % self._sequence, item.tail, event.text, item.end)
                    self._sequence += 1
            else:
                self._take(out, event)
        return sse.escape_separators(b"".join(out))

    def keep_alive(self) -> bytes:
        """A real event that says that the answer is still being made."""
        if self.finished:
            return b""
        out: list[bytes] = []
        if not self._start(out):
            self._put(out, b"response.in_progress", b'"response":' + self._response(b"in_progress"))
        return b"".join(out)

    def fail(self, failure: Failure) -> bytes:
        """End the stream with `response.failed`; empty when it has ended already."""
        return self.feed((Fail(failure),))

    def _take(self, out: list[bytes], event: Event) -> None:
        match event:
            case Open():
                self._open(out, event.block)
            case Close():
                self._close(out, event)
            case Usage():
                self._usage = event
            case Finish():
                self._finish(out, event)
            case Fail():
                self._end_failed(out, event.failure)
            case Start():
                self._start(out)
            case _:
                pass

    # --- frames

    def _put(self, out: list[bytes], kind: bytes, rest: bytes) -> None:
        out.append(
            b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n' % (kind, kind, self._sequence, rest)
        )
        self._sequence += 1

    def _start(self, out: list[bytes]) -> bool:
        """Open the stream if it is not open yet."""
        if self._started:
            return False
        self._started = True
        response = b'"response":' + self._response(b"in_progress")
        self._put(out, b"response.created", response)
        self._put(out, b"response.in_progress", response)
        return True

    def _response(
        self, status: bytes, *, error: bytes = b"null", incomplete: bytes = b"null", final: bool = False
    ) -> bytes:
        return (
            b'{"id":"resp_%b","object":"response","created_at":%d,"status":"%b","error":%b,'
            b'"incomplete_details":%b,"instructions":null,"metadata":{},"model":"%b","output":[%b],'
            b'"parallel_tool_calls":%b,"temperature":null,"tool_choice":"auto","tools":[],"top_p":null,'
            b'"usage":%b}'
            % (
                self._seed,
                self._created_at,
                status,
                error,
                incomplete,
                self._model,
                b",".join(self._output) if final else b"",
                self._parallel,
                _usage(self._usage) if final else b"null",
            )
        )

    def _new_id(self, prefix: str) -> bytes:
        self._made += 1
        return b"%b%b%d" % (prefix.encode(), self._seed, self._made)

    def _place(self, item: _Item, inner: bytes = b"") -> bytes:
        return b'"item_id":"%b","output_index":%d%b' % (item.item_id, item.index, inner)

    def _announce(self, out: list[bytes], item: _Item, prefix: str) -> None:
        """Give an item its id and place and send `output_item.added`."""
        item.shown = True
        item.item_id = self._new_id(prefix)
        item.index = self._next_index
        self._next_index += 1
        match item.block:
            case TextBlock():
                body = message_item(item.item_id, b"in_progress", b"[]")
            case ReasoningBlock():
                body = reasoning_item(item.item_id, b"", (), b"in_progress")
            case CallBlock():
                body = call_item(item.item_id, item.block, b"", b"in_progress")
        self._put(out, b"response.output_item.added", b'"output_index":%d,"item":%b' % (item.index, body))

    def _done(self, out: list[bytes], index: int, body: bytes) -> None:
        self._put(out, b"response.output_item.done", b'"output_index":%d,"item":%b' % (index, body))
        self._output.append(body)

    # --- blocks

    def _open(self, out: list[bytes], block: TextBlock | ReasoningBlock | CallBlock) -> None:
        self._start(out)
        item = self._item = _Item(block)
        if self._compacting:
            item.shown = True
        elif isinstance(block, CallBlock):
            self._announce(out, item, ITEM_PREFIX[block.kind])
            if block.kind == "function":
                item.deltas(_ARGUMENTS_DELTA, self._place(item))
            elif block.kind == "freeform":
                item.deltas(_INPUT_DELTA, self._place(item))

    def _show(self, out: list[bytes], item: _Item) -> None:
        """Announce a text or reasoning item with its first words; one without words is never announced so."""
        if isinstance(item.block, TextBlock):
            self._announce(out, item, "msg_")
            place = self._place(item, b',"content_index":0')
            self._put(out, b"response.content_part.added", b'%b,"part":%b' % (place, text_part(b"")))
            item.deltas(_TEXT_DELTA, place, b'","logprobs":[]}\n\n')
        else:
            self._announce(out, item, "rs_")
            place = self._place(item, b',"summary_index":0')
            part = summary_part(b"")
            self._put(out, b"response.reasoning_summary_part.added", b'%b,"part":%b' % (place, part))
            item.deltas(_SUMMARY_DELTA, place)

    def _close(self, out: list[bytes], close: Close) -> None:
        item, self._item = self._item, None
        if item is None:
            return
        text = b"".join(item.texts)
        status = b"completed" if close.complete else b"incomplete"
        if self._compacting:
            if isinstance(item.block, TextBlock):
                self._summary.append(text)
            return
        match item.block:
            case TextBlock():
                if text:
                    self._close_text(out, item, text, status)
            case ReasoningBlock():
                if text or close.carriers:
                    self._close_reasoning(out, item, text, close, status)
            case CallBlock():
                self._close_call(out, item, item.block, text, complete=close.complete)

    def _close_text(self, out: list[bytes], item: _Item, text: RawText, status: bytes) -> None:
        place = self._place(item, b',"content_index":0')
        part = text_part(text)
        self._put(out, b"response.output_text.done", b'%b,"text":"%b","logprobs":[]' % (place, text))
        self._put(out, b"response.content_part.done", b'%b,"part":%b' % (place, part))
        self._done(out, item.index, message_item(item.item_id, status, b"[%b]" % part))

    def _close_reasoning(
        self, out: list[bytes], item: _Item, text: RawText, close: Close, status: bytes
    ) -> None:
        if not item.shown:
            self._announce(out, item, "rs_")
        if text:
            place = self._place(item, b',"summary_index":0')
            self._put(out, b"response.reasoning_summary_text.done", b'%b,"text":"%b"' % (place, text))
            part = summary_part(text)
            self._put(out, b"response.reasoning_summary_part.done", b'%b,"part":%b' % (place, part))
        self._done(out, item.index, reasoning_item(item.item_id, text, close.carriers, status))

    def _close_call(
        self, out: list[bytes], item: _Item, block: CallBlock, arguments: RawText, *, complete: bool
    ) -> None:
        if not complete:
            return  # a half-written call must never run
        if not arguments and block.kind != "freeform":
            arguments = b"{}"
        match block.kind:
            case "function":
                done, key = b"response.function_call_arguments.done", b"arguments"
            case "freeform":
                done, key = b"response.custom_tool_call_input.done", b"input"
            case _:
                done, key = b"", b""
        if done:
            self._put(out, done, b'%b,"%b":"%b"' % (self._place(item), key, arguments))
        self._done(out, item.index, call_item(item.item_id, block, arguments, b"completed"))

    # --- the end

    def _finish(self, out: list[bytes], finish: Finish) -> None:
        self._start(out)
        if self._compacting and finish.reason in ("end", "stop_sequence", "tool_use", "pause"):
            self._compact(out)
        match finish.reason:
            case "length":
                self._end_incomplete(out, b"max_output_tokens")
            case "refusal" if self._whole:
                self._end_incomplete(out, b"content_filter")
            case "refusal":
                # Codex repeats a prompt that ended `incomplete` for another reason than length.
                self._end_failed(out, failure("filtered", _REFUSED))
            case "context":
                self._end_failed(out, failure("context", _WINDOW_FULL))
            case _:
                self._end(out, b"response.completed", self._response(b"completed", final=True))

    def _compact(self, out: list[bytes]) -> None:
        item = compaction_item(self._new_id("cmp_"), compaction.wrap(b"\\n\\n".join(self._summary)))
        index = self._next_index
        self._put(out, b"response.output_item.added", b'"output_index":%d,"item":%b' % (index, item))
        self._done(out, index, item)

    def _end_incomplete(self, out: list[bytes], reason: bytes) -> None:
        details = b'{"reason":"%b"}' % reason
        response = self._response(b"incomplete", incomplete=details, final=True)
        self._end(out, b"response.incomplete", response)

    def _end_failed(self, out: list[bytes], why: Failure) -> None:
        self._start(out)
        error = _encode(responses_error(why, content_sent=bool(self._output)))
        self._end(out, b"response.failed", self._response(b"failed", error=error, final=True))

    def _end(self, out: list[bytes], kind: bytes, response: bytes) -> None:
        self.finished = True
        self.response = sse.escape_separators(response)
        self._put(out, kind, b'"response":' + response)


def encode_body(
    events: Sequence[Event], *, request: Request, tools: ToolTable, response_id: str, created_at: int
) -> bytes:
    """The whole answer as one JSON body: the response a stream of the same events would end with."""
    encoder = Encoder(request, tools, response_id, created_at, whole=True)
    encoder.feed(events)
    if not encoder.finished:
        encoder.feed((Finish("end"),))
    return encoder.response


def _usage(usage: Usage | None) -> bytes:
    """Usage with `total_tokens`, without which Codex cannot read the last event and fails the turn."""
    if usage is None:
        return b"null"
    return (
        b'{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d,"cache_write_tokens":%d},"output_tokens":%d,'
        b'"output_tokens_details":{"reasoning_tokens":%d},"total_tokens":%d}'
        % (
            usage.input_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
            usage.total_tokens,
        )
    )

"""What a Chat Completions upstream says, as events: streams of any chunking, and whole JSON answers.

The rules come from what providers really send: calls without index, with a late name, with an object for
arguments, several on one index, repeated names and empty ids, content as a list of parts, usage after the
finish, `[DONE]` without a finish and a finish without `[DONE]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from dragoman.wire.blocks import BlockQueue
from dragoman.wire.chat.shapes import (
    Chunk,
    Function,
    Said,
    ToolCall,
    argument_chunks,
    chunks,
    content_parts,
    reasoning_chunks,
    text_chunks,
    usage_of,
)
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
    ReasoningBlock,
    Start,
    TextBlock,
    Usage,
)
from dragoman.wire.ids import made_id
from dragoman.wire.loose_json import mend_json
from dragoman.wire.reading import is_set, is_utf8, json_of, spelled, text_of
from dragoman.wire.sse import FrameTooLarge, SseReader, is_done
from dragoman.wire.think_tags import ThinkTags
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Carrier, RawText, Recall, raw

_FINISH: Mapping[str, FinishReason] = {
    "stop": "end",
    "eos": "end",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "refusal",
    "sensitive": "refusal",
    "model_context_window_exceeded": "context",
}


TEXT = "text"
REASONING = "reasoning"


_ERROR_KEYS = frozenset({"error", "code", "message"})


class _Pending:
    """A call while it is being spelled: it opens once id and name are known."""

    __slots__ = ("held", "id", "key", "name", "opened")

    def __init__(self, key: int) -> None:
        self.key = key
        self.id = ""
        self.name = ""
        self.held: list[RawText] = []
        self.opened = False


class Decoder:
    """Decodes one answer. See `dragoman.wire.translate.StreamDecoder`."""

    def __init__(
        self, *, dialect: Dialect, tools: ToolTable, id_seed: str = "", recall: Recall | None = None
    ) -> None:
        self.finished = False
        self._dialect = dialect
        self._tools = tools
        self._id_seed = id_seed
        self._reader = SseReader()
        self._queue = BlockQueue(recall)
        self._started = False
        self._model: str | None = None
        self._calls: list[_Pending] = []
        self._by_index: dict[int, _Pending] = {}
        self._finish_word: str | None = None
        self._usage: Usage | None = None
        self._tags = ThinkTags() if dialect.think_tags else None

    def feed(self, data: bytes) -> list[Event]:
        if self.finished:
            return []
        queue = self._queue
        try:
            for payload in self._reader.feed(data):
                if queue.live is None or not self._continues(payload):
                    self._frame(payload)
                    if self.finished:
                        break
        except FrameTooLarge as error:
            self._fail(failure("upstream", error.message))
        return queue.take()

    def _continues(self, payload: bytes) -> bool:
        """The path of nearly every frame: one more piece of the block that is live, and nothing else.

        Such frames are read by decoders that know only that shape and refuse every other one.
        """
        queue = self._queue
        live = queue.live
        if not (payload.isascii() or is_utf8(payload)):
            return False
        try:
            if live is TEXT:
                if self._tags is not None:
                    return False
                value = text_chunks.decode(payload).choices[0].delta.content
            elif live is REASONING:
                value = reasoning_chunks.decode(payload).choices[0].delta.reasoning_content
            else:
                call = argument_chunks.decode(payload).choices[0].delta.tool_calls[0]
                pending = self._by_index.get(call.index)
                if pending is None or pending.key != live:
                    return False
                value = call.function.arguments
        except (ValueError, RecursionError):
            return False
        whole = spelled(value)
        if whole[0] != 34:
            return False
        if len(whole) > 2:
            if live is TEXT:
                queue.events.append(Delta(whole[1:-1]))
            else:
                queue.delta(live, whole[1:-1])
        return True

    @property
    def usage_so_far(self) -> Usage | None:
        """What was counted until now: Chat says it at the end."""
        return self._usage

    def eof(self) -> list[Event]:
        if self.finished:
            return []
        for payload in self._reader.eof():
            if not self.finished:
                self._frame(payload, last=True)
        if not self.finished:
            if self._finish_word is not None:
                self._end()
            else:
                self._fail(failure("truncated", "The provider closed the stream before its end."))
        return self._queue.take()

    def whole(self, body: bytes) -> list[Event]:
        """The events of a whole JSON answer."""
        chunk = self._read(body)
        if chunk is None:
            if not self.finished:
                self._fail(failure("upstream", "The provider's answer is not JSON."))
        elif not chunk.choices:
            self._unreadable(body)
        else:
            message = chunk.choices[0].message
            for index, call in enumerate((message and message.tool_calls) or ()):
                call.index = index
            self._chunk(chunk)
            if not self.finished:
                self._finish_word = self._finish_word or "stop"
                self._end()
        return self._queue.take()

    def _frame(self, payload: bytes, *, last: bool = False) -> None:
        chunk = self._read(payload)
        if chunk is not None:
            self._chunk(chunk)
        elif not self.finished:
            if is_done(payload):
                self._done()
            elif not last:
                self._fail(failure("upstream", "The provider sent an event that is not JSON."))

    def _read(self, payload: bytes) -> Chunk | None:
        """The frame, or None when it is none or was a failure (then `finished` is set)."""
        try:
            if not payload.isascii():
                payload.decode()
            chunk = chunks.decode(payload)
        except (ValueError, RecursionError):
            mended = mend_json(payload)
            if mended is None:
                return None
            try:
                chunk = chunks.decode(mended)
            except (ValueError, RecursionError):
                self._unreadable(mended)
                return None
        if len(chunk.error) and is_set(chunk.error):
            self._fail(self._failure_of(chunk.error))
            return None
        return chunk

    def _unreadable(self, payload: bytes) -> None:
        """A frame of another shape: an error in the provider's own words, or nothing we could use."""
        value: Any = msgspec.json.decode(payload)
        if isinstance(value, dict) and not _ERROR_KEYS.isdisjoint(cast("dict[str, Any]", value)):
            self._fail(failure_told(cast(object, value), self._dialect))
        else:
            self._fail(failure("upstream", "The provider sent an event that cannot be understood."))

    def _failure_of(self, error: msgspec.Raw) -> Failure:
        value: Any = msgspec.json.decode(error)
        return failure_told({"error": value}, self._dialect)

    def _chunk(self, chunk: Chunk) -> None:
        if not self._started:
            self._started = True
            self._model = chunk.model
            self._queue.events.append(Start(chunk.id or "", chunk.model or ""))
        if chunk.usage is not None:
            self._usage = usage_of(chunk.usage)
        if not chunk.choices:
            return
        choice = chunk.choices[0]
        if choice.index:
            return
        said = choice.delta or choice.message
        if said is not None:
            self._said(said)
        if choice.finish_reason:
            self._finish_word = choice.finish_reason
            self._close_all()

    def _said(self, delta: Said) -> None:
        thought = delta.reasoning_content if len(delta.reasoning_content) > 2 else delta.reasoning
        if len(thought) > 2 and (text := text_of(thought)):
            self._say(REASONING, text)
        content = delta.content
        if len(content) > 2:
            whole = spelled(content)
            if whole[0] == 34:
                self._text(whole[1:-1])
            elif whole[0] == 91:
                self._content_parts(content)
        if len(delta.refusal) > 2 and (text := text_of(delta.refusal)):
            self._text(text)
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._tool_call(call)
        if delta.function_call is not None:
            self._tool_call(ToolCall(index=0, function=delta.function_call))

    def _text(self, text: RawText) -> None:
        if self._tags is not None:
            for lane, piece in self._tags.feed(text):
                self._say(lane, piece)
        elif self._queue.live == TEXT:
            self._queue.events.append(Delta(text))
        else:
            self._say(TEXT, text)

    def _content_parts(self, content: msgspec.Raw) -> None:
        try:
            parts = content_parts.decode(content)
        except msgspec.MsgspecError:
            self._fail(failure("upstream", "The provider sent content that cannot be understood."))
            return
        for part in parts:
            if text := text_of(part.text):
                self._text(text)
            elif text := text_of(part.thinking):
                self._say(REASONING, text)
            elif is_set(part.thinking):
                for inner in content_parts.decode(part.thinking):
                    if text := text_of(inner.text):
                        self._say(REASONING, text)

    def _say(self, lane: str, text: RawText) -> None:
        queue = self._queue
        if queue.live != lane and not queue.has(lane):
            self._close_words()
            self._close_whole_calls()
            queue.open(lane, TextBlock() if lane == TEXT else ReasoningBlock())
        queue.delta(lane, text)

    def _close_words(self, *, complete: bool = True) -> None:
        """Text and reasoning end where something else begins."""
        self._queue.close(TEXT, complete=complete)
        self._queue.close(
            REASONING,
            (Carrier(kind="reasoning_content", realm=self._dialect.realm, model=self._model),),
            complete=complete,
        )

    def _tool_call(self, call: ToolCall) -> None:
        function = call.function or Function()
        pending = self._pending_for(call, function)
        if call.id and not pending.id:
            pending.id = call.id
        if function.name and not pending.name:
            pending.name = function.name
        text = text_of(function.arguments)
        if text is None and (whole := json_of(function.arguments)) is not None:
            text = raw(whole.decode("utf-8", "replace"))
        if text:
            if pending.opened:
                self._queue.delta(pending.key, text)
            else:
                pending.held.append(text)
        if not pending.opened and pending.id and pending.name:
            self._open_call(pending)

    def _pending_for(self, call: ToolCall, function: Function) -> _Pending:
        if call.index is not None:
            found = self._by_index.get(call.index)
            if found is not None and not (call.id and found.id and call.id != found.id):
                return found
        elif call.id:
            for found in self._calls:
                if found.id == call.id:
                    return found
        elif self._calls:
            found = self._calls[-1]
            starts_anew = function.name and found.name and self._is_whole(found)
            if not starts_anew:
                return found
        pending = _Pending(len(self._calls))
        self._calls.append(pending)
        if call.index is not None:
            self._by_index[call.index] = pending
        return pending

    def _is_whole(self, pending: _Pending) -> bool:
        return pending.opened and self._queue.is_whole(pending.key)

    def _open_call(self, pending: _Pending) -> None:
        self._close_words()
        self._close_whole_calls()
        name = self._tools.restore(pending.name)
        block = CallBlock(pending.id, name.name, name.namespace, name.kind)
        self._queue.open(pending.key, block, wrapped=self._tools.is_wrapped(pending.name))
        pending.opened = True
        for text in pending.held:
            self._queue.delta(pending.key, text)
        pending.held.clear()

    def _close_whole_calls(self) -> None:
        """Calls end when something else begins, unless their arguments still lack something."""
        for key in self._queue.open_calls():
            if self._queue.is_whole(key):
                self._queue.close(key)

    def _close_all(self) -> None:
        """The upstream said why it ended: every block is finished, or cut when it ended too early."""
        word = self._finish_word or ""
        complete = self._reason(word) in ("end", "tool_use")
        if self._tags is not None:
            for lane, piece in self._tags.end():
                self._say(lane, piece)
        for pending in self._calls:
            if not pending.opened and pending.name:
                pending.id = pending.id or made_id(self._id_seed, pending.key)
                self._open_call(pending)
        self._close_words(complete=complete)
        for key in self._queue.open_calls():
            self._queue.close(key, complete=complete or self._queue.is_whole(key))

    def _reason(self, word: str) -> FinishReason:
        return self._dialect.finish_reasons.get(word) or _FINISH.get(word, "end")

    def _done(self) -> None:
        if self._finish_word is None:
            open_calls = [p for p in self._calls if not p.opened or not self._queue.is_whole(p.key)]
            if any(self._queue.has(p.key) or not p.opened for p in open_calls):
                self._fail(failure("truncated", "The provider ended the stream inside a tool call."))
                return
            self._finish_word = ""
            self._close_all()
        self._end()

    def _end(self) -> None:
        word = self._finish_word or ""
        if (code := self._dialect.error_finish.get(word)) is not None:
            self._fail(failure(code, f"The provider ended the answer with `{word}`.", upstream_code=word))
            return
        if any(not pending.opened for pending in self._calls):
            self._fail(failure("upstream", "The provider called a tool without naming it."))
            return
        self._close_all()
        reason = self._reason(word)
        if reason in ("end", "tool_use"):
            reason = "tool_use" if self._queue.calls else "end"
        self._queue.finish()
        if self._usage is not None:
            self._queue.events.append(self._usage)
        self._queue.events.append(Finish(reason, word))
        self.finished = True

    def _fail(self, found: Failure) -> None:
        if self._usage is not None:
            self._queue.events.append(self._usage)
        self._queue.events.append(Fail(found))
        self.finished = True


def decode_body(
    body: bytes, *, dialect: Dialect, tools: ToolTable, id_seed: str = "", recall: Recall | None = None
) -> list[Event]:
    """The events of a whole `chat.completion`, or of an error that came with status 200."""
    decoder = Decoder(dialect=dialect, tools=tools, id_seed=id_seed, recall=recall)
    return decoder.whole(body)

"""What a Responses upstream says, as events: streams of any chunking, and whole JSON answers.

The rules come from what is really sent: item ids that change from event to event or stand alone without an
index, arguments only in the `done` event, deltas without an `added` item, items only in the last event,
`error` events beside `response.failed`, reasoning as summary or as raw `reasoning_text`.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from dragoman.wire.decode_error import failure_told
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import Failure, failure
from dragoman.wire.events import CallBlock, Delta, Event, Fail, Finish, Ping, ReasoningBlock, Start, TextBlock
from dragoman.wire.frame_loop import FrameLoop
from dragoman.wire.ids import made_id
from dragoman.wire.loose_json import mend_json
from dragoman.wire.reading import is_set, json_of, spelled, text_of
from dragoman.wire.responses.shapes import (
    Frame,
    OutputItem,
    ResponseFields,
    frames,
    items,
    responses,
    usage_of,
    words_of,
)
from dragoman.wire.tools import ToolName, ToolTable
from dragoman.wire.turns import Carrier, RawText, Recall, raw

_Kind = Literal["text", "reasoning", "call", "other"]

_KINDS: dict[str, _Kind] = {
    "message": "text",
    "reasoning": "reasoning",
    "function_call": "call",
    "custom_tool_call": "call",
}
_GAP = b"\\n\\n"
_TEXT_DELTA = "response.output_text.delta"


class _Entry:
    """An output item while it is being made."""

    __slots__ = ("closed", "key", "kind", "opened", "said", "section")

    def __init__(self, key: int, kind: _Kind) -> None:
        self.key = key
        self.kind = kind
        self.opened = False
        self.closed = False
        self.said = False
        self.section: tuple[str, int | None] | None = None


class Decoder(FrameLoop[Frame]):
    """Decodes one answer. See `dragoman.wire.translate.StreamDecoder`."""

    def __init__(
        self, *, dialect: Dialect, tools: ToolTable, id_seed: str = "", recall: Recall | None = None
    ) -> None:
        super().__init__(frames, dialect=dialect, tools=tools, id_seed=id_seed, recall=recall)
        self._started = False
        self._model: str | None = None
        self._entries: list[_Entry] = []
        self._by_index: dict[int | None, _Entry] = {}
        self._by_id: dict[str, _Entry] = {}

    def whole(self, body: bytes) -> list[Event]:
        """The events of a whole JSON answer."""
        try:
            answer = responses.decode(body if body.isascii() else body.decode().encode())
        except (ValueError, RecursionError):
            mended = mend_json(body)
            try:
                answer = responses.decode(mended or b"")
            except (ValueError, RecursionError):
                self._fail(failure("upstream", "The provider's answer cannot be understood."))
                return self._queue.take()
        if answer.status is None and answer.output is None:
            self._fail(self._failure_of(body))
        else:
            self._begin(answer)
            self._end(answer, answer.status or "completed")
        return self._queue.take()

    # --- frames

    def _frame(self, frame: Frame, payload: bytes) -> None:
        if frame.type == _TEXT_DELTA and self._is_live(frame):
            text = spelled(frame.delta)
            if len(text) > 2 and text[0] == 34:
                self._queue.events.append(Delta(text[1:-1]))
                return
        self._event(frame, payload)

    def _is_live(self, frame: Frame) -> bool:
        """Whether a text delta belongs to the block that passes through at once: nearly all of a stream."""
        entry = self._by_index.get(frame.output_index)
        return (
            entry is not None and entry.kind == "text" and self._queue.live == entry.key and not entry.closed
        )

    def _unreadable(self, payload: bytes) -> None:
        """An event of another shape: an error in the provider's own words, or one of no concern."""
        value: object = msgspec.json.decode(payload)
        if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            kind = fields.get("type")
            if "error" in fields or kind == "error":
                self._fail(failure_told(fields, self._dialect))
            elif isinstance(kind, str) and kind.startswith("response.output_item"):
                self._fail(failure("upstream", "The provider sent an item that cannot be understood."))

    def _event(self, frame: Frame, payload: bytes) -> None:
        match frame.type:
            case "response.output_text.delta" | "response.refusal.delta":
                self._say(self._entry(frame, "text"), text_of(frame.delta))
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                self._argue(self._entry(frame, "call"), text_of(frame.delta))
            case "response.reasoning_summary_text.delta":
                self._think(self._entry(frame, "reasoning"), "summary", frame)
            case "response.reasoning_text.delta":
                self._think(self._entry(frame, "reasoning"), "content", frame)
            case "response.output_item.added":
                self._added(frame)
            case "response.output_item.done":
                if frame.item is not None:
                    self._done(self._entry(frame, _KINDS.get(frame.item.type, "other")), frame.item)
            case "response.output_text.done" | "response.refusal.done":
                entry = self._entry(frame, "text")
                if not entry.said:
                    self._say(entry, text_of(frame.text) or text_of(frame.refusal))
            case "response.function_call_arguments.done" | "response.custom_tool_call_input.done":
                entry = self._entry(frame, "call")
                if not entry.said:
                    self._argue(entry, _arguments(frame.arguments, frame.input))
            case "response.created" | "response.in_progress" | "response.queued":
                if self._started:
                    self._queue.events.append(Ping())
                else:
                    self._begin(frame.response or ResponseFields())
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                self._begin(frame.response or ResponseFields())
                self._end(frame.response or ResponseFields(), frame.type[9:])
            case "error":
                self._fail(self._failure_of(payload))
            case "" if is_set(frame.error):
                self._fail(self._failure_of(payload))
            case "ping" | "keepalive":
                self._queue.events.append(Ping())
            case _:
                pass

    def _begin(self, response: ResponseFields) -> None:
        self._model = self._model or response.model
        if not self._started:
            self._started = True
            self._queue.events.append(Start(response.id or "", response.model or ""))

    # --- items

    def _entry(self, frame: Frame, kind: _Kind) -> _Entry:
        """The item an event is about: by index, which is stable, else by id, which not everybody keeps."""
        if frame.output_index is not None and (found := self._by_index.get(frame.output_index)) is not None:
            return found
        item_id = frame.item_id or (frame.item.id if frame.item is not None else None)
        if frame.output_index is None:
            if item_id is not None and (found := self._by_id.get(item_id)) is not None:
                return found
            last = self._entries[-1] if self._entries else None
            if item_id is None and last is not None and last.kind == kind and not last.closed:
                return last
        return self._new_entry(kind, frame.output_index, item_id)

    def _new_entry(self, kind: _Kind, index: int | None, item_id: str | None) -> _Entry:
        if not self._started:
            self._begin(ResponseFields())
        entry = _Entry(len(self._entries), kind)
        self._entries.append(entry)
        if index is not None:
            self._by_index[index] = entry
        if item_id:
            self._by_id[item_id] = entry
        return entry

    def _added(self, frame: Frame) -> None:
        item = frame.item
        if item is None:
            return
        index = frame.output_index
        if index is not None and index in self._by_index:
            return
        entry = self._new_entry(_KINDS.get(item.type, "other"), index, item.id)
        if entry.kind == "call" and item.name:
            self._open_call(entry, item)

    def _say(self, entry: _Entry, text: RawText | None) -> None:
        if not text or entry.closed or entry.kind != "text":
            return
        queue = self._queue
        entry.said = True
        if queue.live == entry.key:
            queue.events.append(Delta(text))
            return
        if not entry.opened:
            entry.opened = True
            queue.open(entry.key, TextBlock())
        queue.delta(entry.key, text)

    def _think(self, entry: _Entry, field: str, frame: Frame) -> None:
        """Summary and raw text may both be sent; the first to come is kept. Summary parts are paragraphs."""
        text = text_of(frame.delta)
        if not text or entry.closed or entry.kind != "reasoning":
            return
        section = (field, frame.summary_index if field == "summary" else None)
        if entry.section is not None and entry.section != section:
            if entry.section[0] != field:
                return
            text = _GAP + text
        entry.section = section
        self._put_thought(entry, text)

    def _put_thought(self, entry: _Entry, text: RawText) -> None:
        self._open_reasoning(entry)
        if text:
            entry.said = True
            self._queue.delta(entry.key, text)

    def _open_reasoning(self, entry: _Entry) -> None:
        if not entry.opened:
            entry.opened = True
            self._queue.open(entry.key, ReasoningBlock())

    def _argue(self, entry: _Entry, text: RawText | None) -> None:
        if not text or entry.closed or entry.kind != "call":
            return
        if entry.opened:  # arguments of a call without a name come again, whole, when it is done
            entry.said = True
            self._queue.delta(entry.key, text)

    def _open_call(self, entry: _Entry, item: OutputItem) -> None:
        name = item.name or ""
        freeform = item.type == "custom_tool_call"
        if item.namespace:
            tool = ToolName(name, item.namespace, "freeform" if freeform else "function")
        else:
            tool = self._tools.restore(name)
            if freeform and tool == ToolName(name):
                tool = ToolName(name, None, "freeform")
        entry.opened = True
        call_id = item.call_id or item.id or made_id(self._id_seed, entry.key)
        block = CallBlock(call_id, tool.name, tool.namespace, tool.kind)
        self._queue.open(entry.key, block, wrapped=tool.kind == "freeform" and not freeform)

    def _done(self, entry: _Entry, item: OutputItem) -> None:
        if entry.closed:
            return
        complete = item.status != "incomplete"
        match entry.kind:
            case "text":
                if not entry.said:
                    self._say(entry, b"".join(words_of(item.content)))
                self._queue.close(entry.key, complete=complete)
            case "reasoning":
                self._done_reasoning(entry, item, complete=complete)
            case "call":
                if not entry.opened:
                    if not item.name:
                        self._fail(failure("upstream", "The provider called a tool without naming it."))
                        return
                    self._open_call(entry, item)
                if not entry.said:
                    self._argue(entry, _arguments(item.arguments, item.input))
                self._queue.close(entry.key, complete=complete)
            case _:
                pass
        entry.closed = True

    def _done_reasoning(self, entry: _Entry, item: OutputItem, *, complete: bool) -> None:
        if not entry.said:
            texts = words_of(item.content) or words_of(item.summary)
            if texts:
                self._put_thought(entry, _GAP.join(texts))
        carriers: tuple[Carrier, ...] = ()
        realm, model = self._dialect.realm, self._model
        if item.encrypted_content:
            carriers = (
                Carrier(
                    kind="encrypted", data=item.encrypted_content, realm=realm, model=model, item_id=item.id
                ),
            )
        elif entry.said:
            carriers = (Carrier(kind="reasoning_content", realm=realm, model=model),)
        if carriers:
            self._open_reasoning(entry)
            self._queue.close(entry.key, carriers, complete=complete)

    # --- the end

    def _end(self, response: ResponseFields, status: str) -> None:
        if response.status in ("incomplete", "failed", "cancelled"):
            status = response.status
        if not self._entries:
            self._items_of(response)
        if self.finished:
            return
        usage = usage_of(response.usage)
        if status in ("failed", "cancelled"):
            if usage is not None:
                self._queue.events.append(usage)
            self._fail(self._failure_in(response))
            return
        for entry in self._entries:
            if entry.opened and not entry.closed:
                whole = status == "completed" or (entry.kind == "call" and self._queue.is_whole(entry.key))
                self._queue.close(entry.key, complete=whole)
        self._queue.finish()
        if usage is not None:
            self._queue.events.append(usage)
        self._queue.events.append(self._finish(response, status))
        self.finished = True

    def _items_of(self, response: ResponseFields) -> None:
        """The items of a whole answer, or of a last event that was not preceded by any item."""
        for value in response.output or ():
            try:
                item = items.decode(value)
            except msgspec.MsgspecError:
                self._fail(failure("upstream", "The provider sent an item that cannot be understood."))
                return
            self._done(self._new_entry(_KINDS.get(item.type, "other"), None, item.id), item)

    def _finish(self, response: ResponseFields, status: str) -> Finish:
        if status != "incomplete":
            return Finish("tool_use" if self._queue.calls else "end", status)
        reason = (response.incomplete_details.reason if response.incomplete_details else None) or ""
        return Finish("refusal" if reason == "content_filter" else "length", reason)

    def _failure_in(self, response: ResponseFields) -> Failure:
        if not is_set(response.error):
            return failure("upstream", "The provider gave up without saying why.")
        value: object = msgspec.json.decode(response.error)
        return failure_told({"error": value}, self._dialect)

    def _failure_of(self, payload: bytes) -> Failure:
        try:
            value: object = msgspec.json.decode(payload)
        except (ValueError, RecursionError):
            value = None
        return failure_told(value, self._dialect)

    def _fail(self, found: Failure) -> None:
        self._queue.events.append(Fail(found))
        self.finished = True


def decode_body(
    body: bytes, *, dialect: Dialect, tools: ToolTable, id_seed: str = "", recall: Recall | None = None
) -> list[Event]:
    """The events of a whole response object, or of an error that came with status 200."""
    decoder = Decoder(dialect=dialect, tools=tools, id_seed=id_seed, recall=recall)
    return decoder.whole(body)


def _arguments(arguments: msgspec.Raw, text: msgspec.Raw) -> RawText | None:
    """Arguments or freeform input as text; an object is spelled out."""
    value = arguments if is_set(arguments) else text
    found = text_of(value)
    if found is None and (whole := json_of(value)) is not None:
        return raw(whole.decode("utf-8", "replace"))
    return found

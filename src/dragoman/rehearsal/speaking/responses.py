"""Answers of `POST /v1/responses`, as OpenAI's service gives them."""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman.rehearsal.answer import Answer, Call, Cut, Failure, Silence, Speech, Thought
from dragoman.rehearsal.asked import Asked
from dragoman.rehearsal.speaking.openai import error_of
from dragoman.rehearsal.speaking.tape import CREATED_AT, Frame, Tape, identifier, sealed

Item = dict[str, Any]


def body(answer: Answer, asked: Asked) -> bytes:
    """The whole answer as one JSON body."""
    spoken = [part for part in answer.parts if isinstance(part, (Thought, Speech, Call))]
    items = [_item(part, asked, index) for index, part in enumerate(spoken)]
    return msgspec.json.encode(_ended(answer, asked, items))


def frames(answer: Answer, asked: Asked) -> list[Frame]:
    """The answer as a stream with all its events; a cut or an error leaves the last item open."""
    stream = _Stream(Tape(answer.pace))
    stream.event("response.created", response=_response(asked, "in_progress"))
    stream.event("response.in_progress", response=_response(asked, "in_progress"))
    broken = bool(answer.parts) and isinstance(answer.parts[-1], (Cut, Failure))
    spoken = [part for part in answer.parts if isinstance(part, (Thought, Speech, Call))]
    items: list[Item] = []
    for part in answer.parts:
        match part:
            case Silence(seconds):
                stream.tape.pause(seconds)
            case Failure():
                error = error_of(part)
                failed = _response(asked, "failed") | {
                    "output": items,
                    "error": {"code": error["code"] or error["type"], "message": error["message"]},
                }
                stream.event("response.failed", response=failed)
                return stream.tape.frames
            case Cut():
                return stream.tape.frames
            case _:
                item = _item(part, asked, len(items))
                stream.say(item, len(items), open_end=broken and part is spoken[-1])
                items.append(item)
    ended = _ended(answer, asked, items)
    stream.event("response.incomplete" if answer.finish == "length" else "response.completed", response=ended)
    return stream.tape.frames


class _Stream:
    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.count = 0

    def event(self, kind: str, **fields: Any) -> None:
        self.tape.event({"type": kind, "sequence_number": self.count, **fields}, kind)
        self.count += 1

    def say(self, item: Item, index: int, *, open_end: bool) -> None:
        """Say an item from `added` to `done`; with an open end, without its last `done` events."""
        place = {"item_id": item["id"], "output_index": index}
        self.event("response.output_item.added", output_index=index, item=_begun(item))
        match item["type"]:
            case "message":
                self.part(place | {"content_index": 0}, "content_part", item["content"][0], open_end)
            case "reasoning":
                for number, part in enumerate(item["summary"]):
                    self.part(place | {"summary_index": number}, "reasoning_summary_part", part, open_end)
                for number, part in enumerate(item.get("content") or ()):
                    self.text(
                        place | {"content_index": number}, "reasoning_text", "text", part["text"], open_end
                    )
            case "function_call":
                payload = item["arguments"]
                self.text(place, "function_call_arguments", "arguments", payload, open_end)
            case _:
                self.text(place, "custom_tool_call_input", "input", item["input"], open_end)
        if not open_end:
            self.event("response.output_item.done", output_index=index, item=item)

    def part(self, place: Item, kind: str, part: Item, open_end: bool) -> None:
        empty = part | {"text": ""}
        self.event(f"response.{kind}.added", **place, part=empty)
        text = "output_text" if kind == "content_part" else "reasoning_summary_text"
        self.text(place, text, "text", part["text"], open_end)
        if not open_end:
            self.event(f"response.{kind}.done", **place, part=part)

    def text(self, place: Item, kind: str, field: str, value: str, open_end: bool) -> None:
        extra = {"logprobs": []} if kind == "output_text" else {}
        for piece in self.tape.spoken(value):
            self.event(f"response.{kind}.delta", **place, delta=piece, **extra)
        if not open_end:
            self.event(f"response.{kind}.done", **place, **{field: value}, **extra)


def _item(part: Thought | Speech | Call, asked: Asked, index: int) -> Item:
    match part:
        case Thought(text):
            item: Item = {"type": "reasoning", "id": identifier("rs_", asked.digest, index), "summary": []}
            if asked.wishes.thinking_as_summary:
                item["summary"] = [{"type": "summary_text", "text": text}]
            else:
                item["content"] = [{"type": "reasoning_text", "text": text}]
            if asked.wishes.sealed_thinking:
                item["encrypted_content"] = sealed(text)
            return item
        case Speech(text):
            return {
                "type": "message",
                "id": identifier("msg_", asked.digest, index),
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
            }
        case Call():
            custom = part.tool.kind == "custom"
            item = {
                "type": "custom_tool_call" if custom else "function_call",
                "id": identifier("ctc_" if custom else "fc_", asked.digest, index),
                "status": "completed",
                "call_id": identifier("call_", part.key),
                "name": part.tool.name,
                "input" if custom else "arguments": part.payload,
            }
            return item if part.tool.namespace is None else item | {"namespace": part.tool.namespace}


def _begun(item: Item) -> Item:
    empty: Item = {"content": [], "summary": [], "arguments": "", "input": ""}
    begun = {key: empty.get(key, value) for key, value in item.items() if key != "encrypted_content"}
    return begun | {"status": "in_progress"}


def _ended(answer: Answer, asked: Asked, items: list[Item]) -> Item:
    usage = answer.usage
    cut_short = answer.finish == "length"
    return _response(asked, "incomplete" if cut_short else "completed") | {
        "output": items,
        "incomplete_details": {"reason": "max_output_tokens"} if cut_short else None,
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cache_read},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input + usage.output,
        },
    }


def _response(asked: Asked, status: str) -> Item:
    return {
        "id": identifier("resp_", asked.digest, length=48),
        "object": "response",
        "created_at": CREATED_AT,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": asked.wishes.max_output_tokens,
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "metadata": {},
    }

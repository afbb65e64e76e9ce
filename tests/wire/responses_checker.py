"""The judge of Responses streams and requests, written from the protocol's own rules and what Codex reads."""

from __future__ import annotations

import json
from typing import Any

_PARTS = {
    "response.output_text": ("message", "text"),
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
    "response.reasoning_summary_text": ("reasoning", "text"),
}
_TERMINAL = {"response.completed", "response.incomplete", "response.failed"}
_IN_ITEM = ("output_index", "item_id")


class Broken(AssertionError):
    """A rule of the protocol is broken."""


def need(condition: object, rule: str, about: object = "") -> None:
    if not condition:
        raise Broken(f"{rule}: {about!r}" if about != "" else rule)


class Checker:
    """Reads a whole stream and raises at the first broken rule.

    Attributes:
        done: the finished items, in order.
        terminal: the last event.
    """

    def __init__(self, stream: bytes) -> None:
        self.done: list[dict[str, Any]] = []
        self.terminal: dict[str, Any] = {}
        self._response_id: str | None = None
        self._next_index = 0
        self._item: dict[str, Any] | None = None
        self._index = -1
        self._ids: set[str] = set()
        self._pieces: dict[str, str] = {}
        self._final: dict[str, str] = {}
        self._part_open = False
        events = [self._event(i, block) for i, block in enumerate(self._blocks(stream))]
        need(events, "an empty stream")
        need(events[0]["type"] == "response.created", "starts with response.created", events[0]["type"])
        for event in events:
            need(not self.terminal, "nothing follows the terminal event", event["type"])
            self._take(event)
        need(self.terminal, "one terminal event")
        self._check_end()

    @staticmethod
    def _blocks(stream: bytes) -> list[bytes]:
        need(stream.endswith(b"\n\n"), "the last frame is whole")
        for separator in ("\r", "\u2028", "\u2029", "\u0085", "\x0b", "\x0c"):
            need(separator.encode() not in stream, "no other line separators", separator)
        return stream[:-2].split(b"\n\n")

    @staticmethod
    def _event(number: int, block: bytes) -> dict[str, Any]:
        lines = block.split(b"\n")
        need(len(lines) == 2 and lines[0][:7] == b"event: " and lines[1][:6] == b"data: ", "two lines", block)
        event = json.loads(lines[1][6:])
        need(lines[0][7:].decode() == event["type"], "event line equals type", event["type"])
        need(event["sequence_number"] == number, "sequence numbers count from zero", event)
        return event

    def _take(self, event: dict[str, Any]) -> None:
        kind: str = event["type"]
        if "response" in event:
            self._response(event["response"], kind)
        stem, _, step = kind.rpartition(".")
        if kind in _TERMINAL:
            self.terminal = event
        elif kind == "response.output_item.added":
            self._added(event)
        elif kind == "response.output_item.done":
            self._done(event)
        elif kind in ("response.content_part.added", "response.reasoning_summary_part.added"):
            self._in_item(event)
            need(not self._part_open, "one part at a time", event)
            need(event["part"]["text"] == "", "a part starts empty", event)
            self._part_open = True
        elif kind in ("response.content_part.done", "response.reasoning_summary_part.done"):
            self._in_item(event)
            need(self._part_open, "the part was added", event)
            self._part_open = False
            need(event["part"]["text"] == self._final.get("text"), "part and done text are equal", event)
        elif stem in _PARTS:
            self._piece(event, stem, step)
        else:
            need(kind in ("response.created", "response.in_progress"), "a known event", kind)

    def _response(self, response: dict[str, Any], kind: str) -> None:
        self._response_id = self._response_id or response["id"]
        need(response["id"] == self._response_id, "the response id stays", response["id"])
        need(response["object"] == "response", "object is response")
        for key in ("created_at", "model", "output", "parallel_tool_calls", "tool_choice", "tools"):
            need(key in response, "required response field", key)
        status = "in_progress" if kind not in _TERMINAL else kind.removeprefix("response.")
        need(response["status"] == status, "status fits the event", response["status"])
        if kind not in _TERMINAL:
            need(response["output"] == [], "no output before the end")

    def _added(self, event: dict[str, Any]) -> None:
        item, index = event["item"], event["output_index"]
        need(self._item is None or self._abandoned(), "one item at a time", event)
        need(index == self._next_index, "output_index counts up", event)
        need(item["id"] and item["id"] not in self._ids, "item ids are unique", item["id"])
        self._ids.add(item["id"])
        self._next_index += 1
        self._item, self._index = item, index
        self._pieces, self._final, self._part_open = {}, {}, False
        if item["type"] != "compaction":
            need(item["type"] == "reasoning" or item["status"] == "in_progress", "an item starts in progress")
        self._shape(item)

    def _abandoned(self) -> bool:
        """A call the answer broke off in is never done."""
        assert self._item is not None
        return self._item["type"].endswith("_call")

    def _in_item(self, event: dict[str, Any]) -> None:
        need(self._item is not None, "an item is open", event)
        assert self._item is not None
        need(event["output_index"] == self._index, "of the open item", event)
        need(event["item_id"] == self._item["id"], "item_id of the open item", event)

    def _piece(self, event: dict[str, Any], stem: str, step: str) -> None:
        self._in_item(event)
        assert self._item is not None
        owner, key = _PARTS[stem]
        need(self._item["type"] == owner, "the event fits the item", event)
        if owner in ("message", "reasoning"):
            need(self._part_open, "text needs an open part", event)
        if step == "delta":
            need(isinstance(event["delta"], str) and key not in self._final, "deltas come before done", event)
            self._pieces[key] = self._pieces.get(key, "") + event["delta"]
        else:
            need(key not in self._final, "done once", event)
            self._final[key] = event[key]
            if key in self._pieces:
                need(event[key] == self._pieces[key], "deltas add up to the done text", event)

    def _done(self, event: dict[str, Any]) -> None:
        item = event["item"]
        assert self._item is not None
        need(item["id"] == self._item["id"] and item["type"] == self._item["type"], "same item", item)
        need(event["output_index"] == self._index, "same index", event)
        need(not self._part_open, "its part is done", item)
        self._shape(item)
        match item["type"]:
            case "message":
                text = "".join(part["text"] for part in item["content"])
                need(text == self._final.get("text"), "the item holds the text", item)
            case "reasoning":
                text = "".join(part["text"] for part in item["summary"])
                need(text == self._final.get("text", ""), "the item holds the summary", item)
            case "function_call":
                need(
                    item["arguments"] == self._final["arguments"] != "", "the item holds the arguments", item
                )
            case "custom_tool_call":
                need(item["input"] == self._final["input"], "the item holds the input", item)
            case _:
                pass
        need(item.get("status") != "in_progress", "a done item is not in progress", item)
        self.done.append(item)
        self._item = None

    @staticmethod
    def _shape(item: dict[str, Any]) -> None:
        """What Codex drops silently when it is missing."""
        match item["type"]:
            case "message":
                need(item["role"] == "assistant" and isinstance(item["content"], list), "message shape", item)
                need(all(part["type"] == "output_text" for part in item["content"]), "text parts", item)
            case "reasoning":
                need(isinstance(item["summary"], list), "reasoning has a summary", item)
            case "function_call":
                need(
                    item["call_id"] and item["name"] and isinstance(item["arguments"], str),
                    "call shape",
                    item,
                )
            case "custom_tool_call":
                need(item["call_id"] and item["name"] and isinstance(item["input"], str), "call shape", item)
            case "local_shell_call":
                need(item["call_id"] and item["action"]["type"] == "exec", "shell shape", item)
            case "tool_search_call":
                need(item["call_id"] and isinstance(item["arguments"], dict), "search shape", item)
            case "compaction":
                need(isinstance(item["encrypted_content"], str), "compaction shape", item)
            case other:
                raise Broken(f"unknown item {other}")

    def _check_end(self) -> None:
        response, kind = self.terminal["response"], self.terminal["type"]
        need(response["output"] == self.done, "the last event lists the done items")
        if kind == "response.completed":
            need(self._item is None, "no item is open at the end")
        need((kind == "response.failed") is (response["error"] is not None), "error only when failed")
        need(
            (kind == "response.incomplete") is (response["incomplete_details"] is not None),
            "details only when incomplete",
        )
        if response["error"] is not None:
            need(response["error"]["code"] and response["error"]["message"], "the error says what and why")
        usage = response["usage"]
        if usage is not None:
            need(usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"], "total_tokens")
            need(isinstance(usage["input_tokens_details"]["cached_tokens"], int), "usage details")


def check_responses_request(body: dict[str, Any]) -> None:
    """Judge a request as a strict server would; raises `Broken` naming the rule."""
    need(isinstance(body["model"], str) and isinstance(body["stream"], bool), "model and stream")
    need(body.get("tools") != [], "an empty tool list is left out")
    names = [tool["name"] for tool in body.get("tools", []) if "name" in tool]
    need(len(names) == len(set(names)), "tool names are unique", names)
    waiting: dict[str, str] = {}
    used: set[str] = set()
    for item in body["input"]:
        match item["type"]:
            case "message":
                need(not waiting, "calls are answered before anybody speaks", item)
                need(item["role"] in ("user", "assistant", "developer"), "a known role", item)
                need(item["content"], "a message says something", item)
                wanted = (
                    {"output_text"}
                    if item["role"] == "assistant"
                    else {"input_text", "input_image", "input_file"}
                )
                need({part["type"] for part in item["content"]} <= wanted, "parts fit the role", item)
                need(all(part.get("text") != "" for part in item["content"]), "no empty text", item)
            case "reasoning":
                need(isinstance(item["summary"], list), "reasoning has a summary", item)
            case "function_call" | "custom_tool_call":
                need(item["call_id"] not in used, "call ids are unique", item)
                need(0 < len(item["call_id"]) <= 64, "call ids are short", item)
                need(isinstance(item.get("arguments", item.get("input")), str), "arguments are text", item)
                used.add(item["call_id"])
                waiting[item["call_id"]] = item["type"]
            case "function_call_output" | "custom_tool_call_output":
                need(item["call_id"] in waiting, "an output belongs to a call right before it", item)
                need(item["output"], "an output says something", item)
                need(
                    item["type"] == f"{waiting.pop(item['call_id'])}_output", "an output fits its call", item
                )
            case other:
                raise Broken(f"unknown item {other}")
    need(not waiting, "every call is answered", waiting)

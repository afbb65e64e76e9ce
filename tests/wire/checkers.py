"""Judges of Messages and Chat Completions bytes, written from the protocols' own rules.

Each raises `Broken` at the first rule that is not kept and otherwise returns what a reader is left with.
"""

from __future__ import annotations

import json
import re
from typing import Any


class Broken(AssertionError):
    """A rule of the protocol is broken."""


def need(condition: object, rule: str, about: object = "") -> None:
    if not condition:
        raise Broken(f"{rule}: {about!r}" if about != "" else rule)


def sse_blocks(stream: bytes) -> list[tuple[str | None, str]]:
    """(event line, data) of each frame of a well-formed stream."""
    need(not stream or stream.endswith(b"\n\n"), "a stream ends with a whole frame")
    need(b"\r" not in stream, "lines end with LF")
    for separator in ("\u2028", "\u2029", "\u0085"):
        need(separator.encode() not in stream, "line separators are escaped")
    out: list[tuple[str | None, str]] = []
    for block in stream.decode().split("\n\n")[:-1]:
        name, data = None, None
        for line in block.split("\n"):
            if line.startswith(":"):
                continue
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            else:
                need(field == "data" and data is None, "one data line a frame", line)
                data = value
        if data is not None:
            out.append((name, data))
    return out


_DELTA_OF = {
    "text": {"text_delta": "text"},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "redacted_thinking": {},
    "tool_use": {"input_json_delta": "partial_json"},
}


class MessagesAnswer:
    """Reads a Messages stream.

    Attributes:
        content: the finished blocks; a `tool_use` has `input_raw`, the joined JSON pieces.
        open_block: a block that was never stopped, allowed only before an error.
        stop_reason, usage, error, message: as the stream said.
    """

    def __init__(self, stream: bytes) -> None:
        self.content: list[dict[str, Any]] = []
        self.open_block: dict[str, Any] | None = None
        self.stop_reason: str | None = None
        self.usage: dict[str, int] = {}
        self.error: dict[str, Any] | None = None
        self.message: dict[str, Any] = {}
        self._over = False
        self._delta_seen = False
        for name, data in sse_blocks(stream):
            event = json.loads(data)
            need(name == event["type"], "the event line repeats the type", name)
            self._take(event)
        need(self._over, "an answer ends with message_stop or error")

    def _take(self, event: dict[str, Any]) -> None:
        need(not self._over, "nothing follows the end", event["type"])
        if not self.message and event["type"] not in ("message_start", "error", "ping"):
            raise Broken(f"{event['type']} before message_start")
        match event["type"]:
            case "message_start":
                need(not self.message, "one message_start")
                self.message = event["message"]
                need(self.message["content"] == [], "a message starts empty")
                need(self.message["type"] == "message" and self.message["role"] == "assistant", "a message")
                need(isinstance(self.message["usage"]["input_tokens"], int), "usage from the start")
            case "content_block_start":
                self._start(event)
            case "content_block_delta":
                self._delta(event)
            case "content_block_stop":
                need(self.open_block is not None, "stop of an open block")
                need(event["index"] == len(self.content), "stop of the open block", event)
                assert self.open_block is not None
                self.content.append(self.open_block)
                self.open_block = None
            case "message_delta":
                need(self.open_block is None, "message_delta comes after all blocks")
                need(not self._delta_seen, "one message_delta")
                self._delta_seen = True
                self.stop_reason = event["delta"]["stop_reason"]
                self.usage = event["usage"]
            case "message_stop":
                need(self._delta_seen, "message_stop follows message_delta")
                self._over = True
            case "error":
                self.error = event["error"]
                need(isinstance(event["error"]["message"], str), "an error has words")
                self._over = True
            case "ping":
                pass
            case other:
                raise Broken(f"unknown event {other}")

    def _start(self, event: dict[str, Any]) -> None:
        need(self.open_block is None, "one block at a time")
        need(event["index"] == len(self.content), "indices count up", event["index"])
        block = dict(event["content_block"])
        match block["type"]:
            case "text":
                need(block["text"] == "", "text comes in deltas")
            case "thinking":
                need(block["thinking"] == "" and block["signature"] == "", "thinking comes in deltas")
            case "redacted_thinking":
                need(block["data"], "redacted thinking has data")
            case "tool_use":
                need(block["input"] == {}, "input comes in deltas")
                need(re.fullmatch(r"[A-Za-z0-9_-]+", block["id"]), "a plain id", block["id"])
                block["input_raw"] = ""
            case other:
                raise Broken(f"unknown block {other}")
        self.open_block = block

    def _delta(self, event: dict[str, Any]) -> None:
        block = self.open_block
        need(block is not None, "a delta belongs to an open block")
        assert block is not None
        need(event["index"] == len(self.content), "a delta belongs to the open block", event["index"])
        kind = event["delta"]["type"]
        need(kind in _DELTA_OF[block["type"]], "the delta fits its block", (kind, block["type"]))
        key = _DELTA_OF[block["type"]][kind]
        target = "input_raw" if key == "partial_json" else key
        block[target] += event["delta"][key]


class ChatAnswer:
    """Reads a Chat Completions stream.

    Attributes:
        text, reasoning: what was said and thought.
        calls: id, kind, name, arguments.
        finish_reason, usage, error: as the stream said.
    """

    def __init__(self, stream: bytes) -> None:
        self.text = ""
        self.reasoning = ""
        self.calls: list[dict[str, Any]] = []
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.order: list[str] = []
        ids: set[Any] = set()
        done = False
        for name, data in sse_blocks(stream):
            need(name is None, "chat frames have no event line")
            need(not done, "nothing follows [DONE]")
            if data == "[DONE]":
                need(self.error is None, "no [DONE] after an error")
                done = True
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                self.error = chunk["error"]
                continue
            need(self.error is None, "nothing follows an error")
            need(chunk["object"] == "chat.completion.chunk", "a chunk")
            ids.add((chunk["id"], chunk["created"], chunk["model"]))
            self._take(chunk)
        need(len(ids) <= 1, "id, created and model stay", ids)
        need(done or self.error is not None, "[DONE] or an error ends a stream")
        need(self.error is not None or self.finish_reason, "a finish reason")

    def _take(self, chunk: dict[str, Any]) -> None:
        if not chunk["choices"]:
            need(self.finish_reason is not None and self.usage is None, "one usage chunk, after the finish")
            self.usage = chunk["usage"]
            return
        (choice,) = chunk["choices"]
        need(choice["index"] == 0, "one choice")
        delta = choice["delta"]
        need(self.finish_reason is None, "nothing follows the finish reason", delta)
        if not self.order:
            need(delta.get("role") == "assistant", "the first chunk names the role")
            self.order.append("role")
        else:
            need("role" not in delta, "the role is named once")
        self.text += delta.get("content") or ""
        self.reasoning += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls", ()):
            self._call(call)
        self.finish_reason = choice["finish_reason"]

    def _call(self, piece: dict[str, Any]) -> None:
        index = piece["index"]
        if index == len(self.calls):
            kind = piece["type"]
            body = piece[kind]
            need(piece["id"] and body["name"], "a call begins with id and name", piece)
            self.calls.append({"id": piece["id"], "kind": kind, "name": body["name"], "arguments": ""})
        need(index == len(self.calls) - 1, "calls come one after the other", index)
        need("id" not in piece or piece["id"] == self.calls[index]["id"], "the id stays")
        body = piece.get("function") or piece.get("custom") or {}
        self.calls[index]["arguments"] += body.get("arguments", body.get("input", ""))


_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_chat_request(body: dict[str, Any], *, late_system: bool = False) -> None:
    """The rules strict Chat providers answer with a 400."""
    waiting: list[str] = []
    users = 0
    for number, message in enumerate(body["messages"]):
        role = message["role"]
        if role == "tool":
            need(message["tool_call_id"] in waiting, "a tool message follows its call", message)
            waiting.remove(message["tool_call_id"])
            need(message["content"], "a tool message says something")
            continue
        need(not waiting, "every call is answered at once", waiting)
        need(role in ("system", "developer", "user", "assistant"), "a known role", role)
        need(number == 0 or role not in ("system", "developer") or late_system, "one leading system message")
        users += role == "user"
        calls = message.get("tool_calls") or []
        need(message.get("content") or calls or message.get("reasoning_content"), "no empty message", message)
        waiting = [call["id"] for call in calls]
        need(len(set(waiting)) == len(waiting), "ids differ within a message", waiting)
        for call in calls:
            need(isinstance(call["function"]["arguments"], str), "arguments are text")
            json.loads(call["function"]["arguments"])
            need(_SAFE_NAME.fullmatch(call["function"]["name"]), "a safe name", call["function"]["name"])
    need(not waiting, "every call is answered", waiting)
    need(users, "a user message")
    _check_tools([tool["function"]["name"] for tool in body.get("tools", ())], body)


def check_messages_request(body: dict[str, Any], *, late_system: bool = False) -> None:
    """The rules Messages providers answer with a 400."""
    need(isinstance(body["max_tokens"], int) and body["max_tokens"] > 0, "an output ceiling")
    messages = body["messages"]
    need(messages and messages[0]["role"] == "user", "the user begins")
    waiting: list[str] = []
    previous = ""
    seen: set[str] = set()
    for message in messages:
        role, content = message["role"], message["content"]
        need(role != previous, "roles alternate", role)
        need(role in ("user", "assistant") or (late_system and role == "system"), "a known role", role)
        previous = role
        need(content, "no empty message")
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        need(all(block["type"] == "tool_result" for block in content[: len(results)]), "results come first")
        if role != "system":
            need(sorted(results) == sorted(waiting), "calls and results pair up", (results, waiting))
            waiting = []
        for block in content:
            if block["type"] == "text":
                need(block["text"].strip(), "no empty text")
            if block["type"] == "tool_use":
                need(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", block["id"]), "a plain id", block["id"])
                need(block["id"] not in seen, "ids are unique", block["id"])
                seen.add(block["id"])
                need(isinstance(block["input"], dict), "input is an object")
                waiting.append(block["id"])
    need(not waiting, "every call is answered", waiting)
    _check_tools([tool["name"] for tool in body.get("tools", ())], body)


def _check_tools(names: list[str], body: dict[str, Any]) -> None:
    need("tools" not in body or names, "no empty list of tools")
    need(len(set(names)) == len(names), "tool names differ", names)
    for name in names:
        need(_SAFE_NAME.fullmatch(name), "a safe tool name", name)

"""A request as the scripted upstream saw it, and what a test looks for in it, whatever the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Wire = Literal["chat", "messages", "responses"]


@dataclass
class Asked:
    """A request as the upstream saw it, and what a test looks for in it, whatever the wire."""

    wire: Wire
    body: dict[str, Any]
    headers: dict[str, str]
    at: float

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation in the wire's own items."""
        return self.body["input" if self.wire == "responses" else "messages"]

    @property
    def text(self) -> str:
        """The whole request as text."""
        return json.dumps(self.body, ensure_ascii=False)

    @property
    def tools(self) -> dict[str, dict[str, Any]]:
        """The tools offered: name -> `{"kind", "namespace", "schema"}`."""
        found: dict[str, dict[str, Any]] = {}

        def add(tool: dict[str, Any], namespace: str | None = None) -> None:
            match self.wire, tool.get("type"):
                case "chat", _:
                    function = tool["function"]
                    found[function["name"]] = {"kind": "function", "schema": function["parameters"]}
                case "messages", _:
                    found[tool["name"]] = {"kind": "function", "schema": tool.get("input_schema", {})}
                case _, "namespace":
                    for inner in tool["tools"]:
                        add(inner, tool["name"])
                case _, "function":
                    found[tool["name"]] = {"kind": "function", "schema": tool["parameters"]}
                case _, "custom":
                    found[tool["name"]] = {"kind": "custom", "schema": {}}
                case _:
                    return
            if namespace is not None:
                found[tool["name"]]["namespace"] = namespace

        for tool in self.body.get("tools") or []:
            add(tool)
        return found

    def tool(self, name: str) -> str:
        """The name under which a tool is offered: its own, or one that ends in it."""
        fitting = [known for known in self.tools if known == name or known.endswith(name)]
        assert fitting, f"{name} is not offered; offered are {sorted(self.tools)}"
        return min(fitting, key=len)

    @property
    def results(self) -> dict[str, str]:
        """The results of calls: call id -> content as text, in the order sent."""
        found: dict[str, str] = {}
        for item in self.history:
            match self.wire:
                case "chat" if item["role"] == "tool":
                    found[item["tool_call_id"]] = _plain(item["content"])
                case "messages" if isinstance(item["content"], list):
                    for block in item["content"]:
                        if block["type"] == "tool_result":
                            assert block["tool_use_id"] not in found
                            found[block["tool_use_id"]] = _plain(block.get("content", ""))
                case "responses" if item.get("type", "").endswith("call_output"):
                    assert item["call_id"] not in found
                    found[item["call_id"]] = _plain(item["output"])
                case _:
                    pass
        return found

    @property
    def calls(self) -> dict[str, Any]:
        """The calls in the history: call id -> arguments as they are sent."""
        found: dict[str, Any] = {}
        for item in self.history:
            match self.wire:
                case "chat":
                    for call in item.get("tool_calls") or []:
                        found[call["id"]] = call["function"]["arguments"]
                case "messages" if isinstance(item["content"], list):
                    for block in item["content"]:
                        if block["type"] == "tool_use":
                            found[block["id"]] = block["input"]
                case "responses" if item.get("type", "").endswith("_call"):
                    found[item["call_id"]] = item.get("arguments", item.get("input"))
                case _:
                    pass
        return found

    @property
    def thoughts(self) -> list[tuple[str, str]]:
        """The reasoning handed back: text, and what only its maker can read."""
        found: list[tuple[str, str]] = []
        for item in self.history:
            match self.wire:
                case "chat" if item.get("reasoning_content"):
                    found.append((item["reasoning_content"], ""))
                case "messages" if isinstance(item["content"], list):
                    found += [
                        (block["thinking"], block["signature"])
                        for block in item["content"]
                        if block["type"] == "thinking"
                    ]
                case "responses" if item.get("type") == "reasoning":
                    summary = "".join(part["text"] for part in item["summary"])
                    found.append((summary, item["encrypted_content"]))
                case _:
                    pass
        return found

    @property
    def images(self) -> int:
        """How many pictures the request holds."""
        mark = {"chat": '"type": "image_url"', "messages": '"type": "image"', "responses": '"input_image"'}
        return self.text.count(mark[self.wire])


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", f"<{part['type']}>") for part in content)

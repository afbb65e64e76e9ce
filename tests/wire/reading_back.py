"""What real clients put into their next request after an answer."""

from __future__ import annotations

import json
from typing import Any

from checkers import ChatAnswer, MessagesAnswer


def messages_history(answer: MessagesAnswer) -> dict[str, Any]:
    """The assistant message Claude Code keeps: blocks verbatim, inputs parsed."""
    content: list[dict[str, Any]] = []
    for block in answer.content:
        match block["type"]:
            case "tool_use":
                parsed = json.loads(block["input_raw"] or "{}")
                content.append(
                    {"type": "tool_use", "id": block["id"], "name": block["name"], "input": parsed}
                )
            case _:
                content.append(block)
    return {"role": "assistant", "content": content}


def chat_history(answer: ChatAnswer) -> dict[str, Any]:
    """The assistant message a Chat client keeps."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in answer.calls
        ]
    return message

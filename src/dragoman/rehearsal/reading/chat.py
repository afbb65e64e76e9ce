"""Reading `POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dragoman.rehearsal.asked import Asked, BadRequest, Entry, OfferedTool, Wishes, fold
from dragoman.rehearsal.reading.parts import property_names, size, table, tables, text_of, whole_number


def read(body: dict[str, Any], model: str, digest: str) -> Asked:
    """Read a Chat Completions request.

    Raises:
        BadRequest: messages are missing or of another shape.
    """
    messages = tables(body, "messages")
    if not messages:
        raise BadRequest("messages: at least one message is required")
    entries = [entry for position, message in enumerate(messages) for entry in _entries(message, position)]
    schema = table(table(body, "response_format"), "json_schema").get("schema")
    # The switch of GLM, Kimi and others, and the one of OpenAI.
    silent = table(body, "thinking").get("type") == "disabled" or body.get("reasoning_effort") == "none"
    return fold(
        entries,
        wire="chat",
        model=model,
        digest=digest,
        tools=tuple(_tools(body)),
        standing_tokens=size(body.get("tools")),
        wishes=Wishes(
            stream=body.get("stream") is True,
            thinking=not silent,
            usage_in_stream=table(body, "stream_options").get("include_usage") is True,
            caching=True,
            max_output_tokens=whole_number(body, "max_completion_tokens", "max_tokens"),
            output_schema=schema if isinstance(schema, dict) else None,
        ),
    )


def _tools(body: dict[str, Any]) -> Iterator[OfferedTool]:
    for tool in tables(body, "tools"):
        kind = "custom" if tool.get("type") == "custom" else "function"
        inner = table(tool, kind)
        if isinstance(inner.get("name"), str):
            yield OfferedTool(inner["name"], kind, properties=property_names(inner.get("parameters")))


def _entries(message: dict[str, Any], position: int) -> Iterator[Entry]:
    content = message.get("content")
    match message.get("role"):
        case "assistant":
            spoken = [content, message.get("reasoning_content"), message.get("tool_calls")]
            yield Entry("assistant", tokens=sum(size(part) for part in spoken))
            for call in tables(message, "tool_calls"):
                inner = table(call, "function") or table(call, "custom")
                yield Entry("assistant", call_id=call.get("id"), tool=inner.get("name"))
        case "tool":
            yield Entry("result", text_of(content), size(content), call_id=message.get("tool_call_id"))
        case "user":
            yield Entry("user", text_of(content), size(content))
        case "system" | "developer":
            yield Entry("context", text_of(content), size(content))
        case role:
            raise BadRequest(f"messages[{position}].role: {role!r} is not a role")

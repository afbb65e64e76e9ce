"""Reading `POST /v1/messages`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dragoman.rehearsal.asked import Asked, BadRequest, Entry, OfferedTool, Wishes, fold
from dragoman.rehearsal.reading.parts import property_names, size, table, tables, text_of, whole_number


def read(body: dict[str, Any], model: str, digest: str) -> Asked:
    """Read a Messages request.

    Raises:
        BadRequest: messages are missing or of another shape.
    """
    messages = tables(body, "messages")
    if not messages:
        raise BadRequest("messages: at least one message is required")
    system = body.get("system")
    entries = [Entry("context", text_of(system), size(system))]
    for position, message in enumerate(messages):
        entries += _entries(message, position)
    schema = table(table(body, "output_config"), "format").get("schema")
    return fold(
        entries,
        wire="messages",
        model=model,
        digest=digest,
        tools=tuple(_tools(body)),
        standing_tokens=size(body.get("tools")),
        wishes=Wishes(
            stream=body.get("stream") is True,
            thinking=table(body, "thinking").get("type") in ("enabled", "adaptive"),
            caching=_has_cache_marker(body),
            max_output_tokens=whole_number(body, "max_tokens"),
            output_schema=schema if isinstance(schema, dict) else None,
        ),
    )


def _tools(body: dict[str, Any]) -> Iterator[OfferedTool]:
    for tool in tables(body, "tools"):
        # Claude Code 2.1.329 names tools it would load later; they cannot be called yet.
        if isinstance(tool.get("name"), str) and not tool.get("defer_loading"):
            yield OfferedTool(tool["name"], properties=property_names(tool.get("input_schema")))


def _entries(message: dict[str, Any], position: int) -> Iterator[Entry]:
    content = message.get("content")
    match message.get("role"):
        case "assistant":
            yield Entry("assistant", tokens=size(content))
            for block in content if isinstance(content, list) else []:
                if isinstance(block, dict) and block.get("type") == "tool_use":
                    yield Entry("assistant", call_id=block.get("id"), tool=block.get("name"))
        case "user":
            texts: list[str] = []
            for block in content if isinstance(content, list) else [{"type": "text", "text": content}]:
                if not isinstance(block, dict):
                    continue
                if block.get("type") == "tool_result":
                    result = block.get("content")
                    yield Entry("result", text_of(result), size(result), call_id=block.get("tool_use_id"))
                elif isinstance(block.get("text"), str):
                    texts.append(block["text"])
            if texts:
                text = "\n".join(texts)
                yield Entry("user", text, size(text))
        case "system":
            yield Entry("context", text_of(content), size(content))
        case role:
            raise BadRequest(f"messages.{position}.role: {role!r} is not a role")


def _has_cache_marker(body: dict[str, Any]) -> bool:
    contents = [body.get("system"), *(message.get("content") for message in tables(body, "messages"))]
    return any(
        isinstance(block, dict) and "cache_control" in block
        for content in contents
        if isinstance(content, list)
        for block in content
    )

"""Reading `POST /v1/responses`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dragoman.rehearsal.asked import Asked, BadRequest, Entry, OfferedTool, Wishes, fold
from dragoman.rehearsal.reading.parts import property_names, size, table, tables, text_of, whole_number


def read(body: dict[str, Any], model: str, digest: str) -> Asked:
    """Read a Responses request.

    Raises:
        BadRequest: the input is missing or of another shape.
    """
    if isinstance(body.get("input"), str):
        items = [{"type": "message", "role": "user", "content": body["input"]}]
    else:
        items = tables(body, "input")
    if not items:
        raise BadRequest("input: at least one item is required")
    instructions = text_of(body.get("instructions"))
    entries = [Entry("context", instructions, size(instructions))]
    tools = list(_tools(body, None))
    for position, item in enumerate(items):
        # Codex 0.16x gives the tools of newer models in an input item instead of the body.
        tools += _tools(item, None) if item.get("type") == "additional_tools" else ()
        entries += _entries(item, position)
    reasoning = table(body, "reasoning")
    schema = table(table(body, "text"), "format").get("schema")
    return fold(
        entries,
        wire="responses",
        model=model,
        digest=digest,
        tools=tuple(tools),
        standing_tokens=size(body.get("tools")),
        wishes=Wishes(
            stream=body.get("stream") is True,
            thinking=reasoning.get("effort") != "none",
            thinking_as_summary=reasoning.get("summary") is not None,
            sealed_thinking="reasoning.encrypted_content" in (body.get("include") or ()),
            caching=True,
            max_output_tokens=whole_number(body, "max_output_tokens"),
            output_schema=schema if isinstance(schema, dict) else None,
        ),
    )


def _tools(body: dict[str, Any], namespace: str | None) -> Iterator[OfferedTool]:
    for tool in tables(body, "tools"):
        name = tool.get("name")
        if not isinstance(name, str) or tool.get("defer_loading"):
            continue
        match tool.get("type"):
            case "namespace":
                yield from _tools(tool, name)
            case "function":
                yield OfferedTool(name, "function", namespace, property_names(tool.get("parameters")))
            case "custom":
                yield OfferedTool(name, "custom", namespace)
            case _:
                pass


def _entries(item: dict[str, Any], position: int) -> Iterator[Entry]:
    # A message may come without a type.
    match item.get("type", "message"):
        case "message":
            content = item.get("content")
            match item.get("role"):
                case "assistant":
                    yield Entry("assistant", tokens=size(content))
                case "user":
                    yield Entry("user", text_of(content), size(content))
                case "developer" | "system":
                    yield Entry("context", text_of(content), size(content))
                case role:
                    raise BadRequest(f"input[{position}].role: {role!r} is not a role")
        case "function_call" | "custom_tool_call" | "local_shell_call" | "tool_search_call":
            yield Entry("assistant", tokens=size(item), call_id=item.get("call_id"), tool=item.get("name"))
        case "function_call_output" | "custom_tool_call_output":
            output = item.get("output")
            yield Entry("result", text_of(output), size(output), call_id=item.get("call_id"))
        case "reasoning":
            yield Entry("assistant", tokens=size(item))
        case _:
            yield Entry("context", tokens=size(item))

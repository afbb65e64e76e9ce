"""What only the responses wire has: the whole event sequence, namespaces, freeform tools, raw reasoning."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

MakeClient = Callable[..., httpx.AsyncClient]


def events(in_memory: MakeClient, play: str, **body: Any) -> list[dict[str, Any]]:
    async def ask() -> str:
        async with in_memory(play) as client:
            request = {"model": "m", "input": "go", "stream": True, **body}
            return (await client.post("/v1/responses", json=request)).text

    found: list[dict[str, Any]] = []
    for block in asyncio.run(ask()).strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_every_item_is_added_spoken_and_done_and_events_are_numbered(in_memory: MakeClient):
    seen = events(in_memory, "[[rule]]\nwhen.tools = 'any'\ndo = [{ think = 'hm' }, { say = 'yes' }]")
    assert [event["type"].removeprefix("response.") for event in seen] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in seen] == list(range(len(seen)))
    done = [event["item"] for event in seen if event["type"] == "response.output_item.done"]
    assert seen[-1]["response"]["output"] == done
    ids = {event["item"]["id"] for event in seen if event["type"] == "response.output_item.added"}
    assert ids == {item["id"] for item in done}
    assert {event["item_id"] for event in seen if "item_id" in event} == ids


def test_a_namespaced_tool_is_called_in_its_namespace(in_memory: MakeClient):
    tools = [{"type": "namespace", "name": "mcp__d", "tools": [{"type": "function", "name": "claude_task"}]}]
    play = "[[rule]]\ndo = [{ call = { tool = 'claude_task', args = { task = 'x' } } }]"
    item = events(in_memory, play, tools=tools)[-1]["response"]["output"][0]
    assert (item["type"], item["namespace"], item["name"]) == ("function_call", "mcp__d", "claude_task")
    assert json.loads(item["arguments"]) == {"task": "x"}


def test_a_freeform_tool_gets_its_text_unchanged(in_memory: MakeClient):
    tools = [{"type": "custom", "name": "apply_patch", "format": {"type": "text"}}]
    play = """
        [[rule]]
        do = [{ call = { tool = "apply_patch", input = '*** Begin "x"' } }]
        """
    seen = events(in_memory, play, tools=tools)
    item = seen[-1]["response"]["output"][0]
    assert (item["type"], item["input"]) == ("custom_tool_call", '*** Begin "x"')
    spoken = [event for event in seen if event["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(event["delta"] for event in spoken) == item["input"]


def test_an_answer_over_the_limit_is_incomplete(in_memory: MakeClient):
    play = "[[rule]]\nwhen.tools = 'any'\ndo = [{ say = 'a rather long sentence' }]"
    last = events(in_memory, play, max_output_tokens=2)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}

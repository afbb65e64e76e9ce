"""What is told about the tools is true, and costs the lead little."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import msgspec
import pytest

from dragoman.mcp import inputs
from dragoman.mcp.declarations import DEFAULT_TOOLS, TOOLS_FILE, tools_document
from mcp import Client

KINDS = {
    "claude_setup": inputs.SetupInput,
    "claude_task": inputs.TaskInput,
    "claude_job_wait": inputs.JobWaitInput,
    "claude_result": inputs.ResultInput,
    "claude_apply": inputs.ApplyInput,
    "claude_cleanup": inputs.CleanupInput,
}


def pieces(text: str) -> int:
    """A fixed approximation of tokens: letters in sixes, digits in threes, signs in pairs."""
    found = re.findall(r"([^\W\d_]+)|(\d+)|((?:[^\w\s]|_)+)", text)
    return sum(-(-len(a) // 6) + -(-len(b) // 3) + -(-len(c) // 2) for a, b, c in found)


def test_the_shims_file_is_what_the_server_lists(lead: Any) -> None:
    assert TOOLS_FILE.read_text() == tools_document(), "run: python -m dragoman.mcp.declarations"

    async def tools(client: Client) -> Any:
        return (await client.list_tools()).tools

    listed = [
        tool.model_dump(by_alias=True, exclude_none=True, exclude_defaults=False) for tool in lead.talk(tools)
    ]
    assert [{name: tool[name] for name in ("name", "description", "inputSchema")} for tool in listed] == [
        {name: tool[name] for name in ("name", "description", "inputSchema")}
        for tool in json.loads(TOOLS_FILE.read_text())["tools"]
    ]


@pytest.mark.parametrize("tool", DEFAULT_TOOLS, ids=lambda tool: tool.name)
def test_every_declared_input_is_taken_and_every_taken_one_declared(tool: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(tool.input_schema())
    fields = {field.encode_name for field in msgspec.structs.fields(KINDS[tool.name])}
    assert fields == {"cwd", *tool.properties}


def test_the_six_tools_cost_less_than_half_of_the_seeds() -> None:
    # The seed's six are 2,578 by the same count (measured on its 0.1.18).
    told = [
        {"name": t.name, "description": t.description, "parameters": t.input_schema()} for t in DEFAULT_TOOLS
    ]
    assert pieces(json.dumps(told, separators=(",", ":"))) < 1_289


def test_only_what_changes_nothing_is_called_read_only() -> None:
    assert {tool.name for tool in DEFAULT_TOOLS if tool.read_only} == {"claude_job_wait", "claude_result"}
    assert {tool.name for tool in DEFAULT_TOOLS if tool.destructive} == {"claude_apply", "claude_cleanup"}

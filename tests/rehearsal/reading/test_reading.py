"""The same conversation read from each wire, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from dragoman.rehearsal.asked import Asked, BadRequest, OfferedTool
from dragoman.rehearsal.reading import chat, messages, responses

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}

MESSAGES: dict[str, Any] = {
    "system": "You work.\nWorking directory: /srv/shop",
    "tools": [
        {"name": "Read", "input_schema": SCHEMA},
        {"name": "Later", "input_schema": SCHEMA, "defer_loading": True},
    ],
    "messages": [
        {"role": "user", "content": "an older task"},
        {"role": "assistant", "content": "done"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>not the user</system-reminder>"},
                {"type": "text", "text": "mend it"},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "a", "name": "Read", "input": {"path": "x"}},
                {"type": "tool_use", "id": "b", "name": "Read", "input": {"path": "y"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "one"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "two"}]},
                {"type": "text", "text": "<system-reminder>still not the user</system-reminder>"},
            ],
        },
    ],
}

CHAT: dict[str, Any] = {
    "tools": [{"type": "function", "function": {"name": "Read", "parameters": SCHEMA}}],
    "messages": [
        {"role": "system", "content": "You work.\nWorking directory: /srv/shop"},
        {"role": "user", "content": "an older task"},
        {"role": "assistant", "content": "done"},
        {"role": "user", "content": "<system-reminder>not the user</system-reminder>\n\nmend it"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "Read", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "Read", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "one"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "two"}]},
    ],
}

RESPONSES: dict[str, Any] = {
    "instructions": "You work.",
    "tools": [{"type": "function", "name": "Read", "parameters": SCHEMA}],
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {
                    "type": "input_text",
                    "text": "# AGENTS.md instructions for /srv/shop\n\n<INSTRUCTIONS>be good</INSTRUCTIONS>",
                },
                {
                    "type": "input_text",
                    "text": "<environment_context>\n  <cwd>/srv/shop</cwd>\n</environment_context>",
                },
            ],
        },
        {"role": "user", "content": "an older task"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "mend it"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "a", "name": "Read", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "Read", "input": ""},
        {"type": "function_call_output", "call_id": "a", "output": "one"},
        {
            "type": "custom_tool_call_output",
            "call_id": "b",
            "output": [{"type": "input_text", "text": "two"}],
        },
    ],
}


@pytest.mark.parametrize(
    "asked",
    [
        messages.read(MESSAGES, "m", "0"),
        chat.read(CHAT, "m", "0"),
        responses.read(RESPONSES, "m", "0"),
    ],
    ids=lambda asked: asked.wire,
)
def test_a_conversation_is_read_the_same_on_every_wire(asked: Asked):
    assert asked.turn == 1
    assert asked.user_text == "mend it"
    assert asked.cwd == "/srv/shop"
    assert [(result.tool, result.text) for result in asked.results] == [("Read", "one"), ("Read", "two")]
    assert asked.tools == (OfferedTool("Read", properties=("path",)),)
    assert 0 < asked.prefix_tokens < asked.prompt_tokens


def test_a_prefix_is_what_the_previous_request_held():
    before = chat.read(CHAT | {"messages": CHAT["messages"][:4]}, "m", "0")
    after = chat.read(CHAT, "m", "0")
    assert after.prefix_tokens == before.prompt_tokens


def test_what_the_client_says_of_its_folder_wins_over_the_packet():
    packet = {"role": "user", "content": "Repo/CWD: /home/me/shop\nGoal: mend it"}
    told = {"role": "system", "content": "Primary working directory: /srv/clone"}
    assert chat.read({"messages": [packet]}, "m", "0").cwd == "/home/me/shop"
    assert chat.read({"messages": [told, packet]}, "m", "0").cwd == "/srv/clone"
    assert chat.read({"messages": [packet, told]}, "m", "0").cwd == "/srv/clone"


def test_thinking_is_shown_only_where_the_request_lets_it():
    def thinks(module: Any, body: dict[str, Any]) -> bool:
        return module.read(body, "m", "0").wishes.thinking

    assert not thinks(messages, MESSAGES)
    assert thinks(messages, MESSAGES | {"thinking": {"type": "adaptive"}})
    assert not thinks(messages, MESSAGES | {"thinking": {"type": "disabled"}})
    assert thinks(chat, CHAT)
    assert not thinks(chat, CHAT | {"thinking": {"type": "disabled"}})
    assert not thinks(chat, CHAT | {"reasoning_effort": "none"})
    assert thinks(responses, RESPONSES)
    assert not thinks(responses, RESPONSES | {"reasoning": {"effort": "none"}})


@pytest.mark.parametrize(
    ("module", "body", "said"),
    [
        (messages, {}, "messages: at least one message is required"),
        (messages, {"messages": "hi"}, "messages: expected an array"),
        (messages, {"messages": ["hi"]}, "messages.0: expected an object"),
        (messages, {"messages": [{"role": "tool", "content": ""}]}, "messages.0.role: 'tool' is not a role"),
        (chat, {"messages": []}, "messages: at least one message is required"),
        (chat, {"messages": [{"role": "robot"}]}, "messages[0].role: 'robot' is not a role"),
        (responses, {}, "input: at least one item is required"),
        (responses, {"input": [{"content": "x"}]}, "input[0].role: None is not a role"),
    ],
)
def test_a_misshapen_request_is_refused(module: Any, body: dict[str, Any], said: str):
    with pytest.raises(BadRequest) as caught:
        module.read(body, "m", "0")
    assert str(caught.value) == said

"""What is read from requests that real clients sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dragoman.rehearsal.asked import OfferedTool
from dragoman.rehearsal.reading import messages, responses

Recorded = Callable[[str], dict[str, Any]]


def test_claude_codes_first_request_is_turn_zero_with_four_tools(recorded: Recorded):
    asked = messages.read(recorded("claude_2.1.329_first.json"), "m", "0")
    assert asked.turn == 0
    # The two reminders before it are the client's words, recorded as their length.
    assert asked.user_text.endswith("say hi [[mock:a]]")
    assert [tool.name for tool in asked.tools] == ["Bash", "Edit", "Read", "Write"]
    assert "file_path" in asked.tools[1].properties
    assert asked.wishes.stream
    assert asked.wishes.thinking
    assert asked.wishes.caching
    assert asked.wishes.max_output_tokens == 32000
    assert asked.prefix_tokens == 0


def test_claude_codes_tool_results_are_named_after_their_calls(recorded: Recorded):
    asked = messages.read(recorded("claude_2.1.197_task_after_bash.json"), "m", "0")
    assert asked.turn == 3
    assert [(result.tool, result.text) for result in asked.results] == [("Bash", "PASS")]
    assert [result.tool for result in asked.earlier] == ["Read", "Edit", "Write"]
    assert asked.user_text.endswith("Fix the bug [[mock:task]]")
    assert 0 < asked.prefix_tokens < asked.prompt_tokens


def test_codexs_turns_are_counted_over_reasoning_messages_and_calls(recorded: Recorded):
    asked = responses.read(recorded("codex_0.169_task_last.json"), "m", "0")
    assert asked.turn == 3
    assert asked.user_text.endswith("say hi")
    assert [result.tool for result in asked.results] == ["exec_command", "exec_command"]
    assert OfferedTool("apply_patch", "custom") in asked.tools
    assert OfferedTool("spawn_agent", "function", "multi_agent_v1", asked.tools[8].properties) in asked.tools
    assert asked.wishes.thinking_as_summary
    assert asked.wishes.sealed_thinking


def test_codexs_namespaced_results_are_read_from_parts_too(recorded: Recorded):
    asked = responses.read(recorded("codex_0.169_mcp.json"), "m", "0")
    assert asked.turn == 1
    assert [result.tool for result in asked.results][:2] == ["ro_echo", "plain_echo"]
    assert asked.results[5].text.endswith("Error executing tool fails")


def test_codexs_code_mode_offers_its_tools_in_an_input_item(recorded: Recorded):
    asked = responses.read(recorded("codex_0.169_code_mode.json"), "m", "0")
    assert asked.tools[0] == OfferedTool("exec", "custom", "functions")

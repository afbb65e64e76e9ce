"""Claude Code works through the gateway: words, tools, files, thinking, pictures, agents, other names."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.real_client


def test_words_arrive_and_are_counted(claude, upstream):
    upstream.play([{"say": "Four, obviously — “4”."}, {"usage": (1200, 34)}])
    done = claude.run("How much is two and two?").assert_fine()
    assert done.said == "Four, obviously — “4”."
    assert done.result["usage"]["input_tokens"] == 1200
    assert done.result["usage"]["output_tokens"] == 34
    (asked,) = upstream.asked
    assert asked.body["model"] == "up"
    assert "How much is two and two?" in asked.text
    # It changes with every run and would spoil the prompt cache of any vendor but the client's own.
    assert "x-anthropic-billing-header" not in asked.text


def test_odd_characters_and_odd_call_ids_survive_in_both_directions(claude, upstream, odd_text):
    command = f"cat > odd.txt <<'END'\n{odd_text}\nEND\n"
    upstream.play(
        [{"say": odd_text}, {"call": "Bash", "args": {"command": command}, "id": "Bash:0"}],
        [{"say": odd_text}],
    )
    done = claude.run(f"Write {odd_text} down.").assert_fine()
    assert done.said == odd_text
    last = upstream.asked[-1]
    assert list(last.calls) == list(last.results)
    (args,) = last.calls.values()
    # 2.1.329 itself takes a spelled-out escape in arguments for the character, on its own wire too.
    meant = command.replace("\\u0041", "A")
    assert (json.loads(args) if isinstance(args, str) else args) == {"command": meant}
    assert f"Write {json.dumps(odd_text, ensure_ascii=False)[1:-1]} down." in last.text


def test_reading_editing_and_a_command_change_the_file(claude, upstream):
    file = claude.repository / "greeting.txt"
    file.write_text("hello\n")
    edit = {"file_path": str(file), "old_string": "hello", "new_string": "hello, world"}
    upstream.play(
        [{"say": "Looking."}, {"call": "Read", "args": {"file_path": str(file)}, "id": "call_1"}],
        [{"call": "Edit", "args": edit, "id": "call_2"}],
        [{"call": "Bash", "args": {"command": "cat greeting.txt", "description": "Show"}, "id": "call_3"}],
        [{"say": "Changed."}],
    )
    done = claude.run("Greet the world.").assert_fine()
    assert done.said == "Changed."
    assert file.read_text() == "hello, world\n"
    last = upstream.asked[-1]
    assert list(last.calls) == list(last.results) == ["call_1", "call_2", "call_3"]
    assert last.results["call_3"] == "hello, world"


def test_parallel_calls_are_all_run_and_answered(claude, upstream):
    folder = claude.repository
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(f"text {name}\n")
    reads = [
        {"call": "Read", "args": {"file_path": str(folder / f"{name}.txt")}, "id": f"call_{name}"}
        for name in ("a", "b")
    ]
    command = {"call": "Bash", "args": {"command": "echo c", "description": "Say c"}, "id": "call_c"}
    upstream.play([*reads, command], [{"say": "Read."}])
    done = claude.run("Read all.").assert_fine()
    assert done.said == "Read."
    results = upstream.asked[-1].results
    assert set(results) == {"call_a", "call_b", "call_c"}
    assert "text a" in results["call_a"]
    assert "text b" in results["call_b"]
    assert results["call_c"] == "c"


def test_the_conversation_only_grows_at_its_end(claude, upstream):
    upstream.play(
        [{"say": "One."}, {"call": "Bash", "args": {"command": "echo 1"}, "id": "call_1"}],
        [{"call": "Bash", "args": {"command": "echo 2"}, "id": "call_2"}],
        [{"say": "Two."}],
    )
    claude.run("Count.").assert_fine()
    first, second, third = (without_cache_marks(asked.history) for asked in upstream.asked)
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    bodies = [asked.body for asked in upstream.asked]
    assert bodies[0]["tools"] == bodies[1]["tools"] == bodies[2]["tools"]
    assert bodies[0].get("system") == bodies[2].get("system")


def without_cache_marks(value):
    """The mark of the newest message wanders, and with it whether a text stands alone or in a block."""
    if isinstance(value, dict):
        return {key: without_cache_marks(inner) for key, inner in value.items() if key != "cache_control"}
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], dict) and value[0].get("type") == "text":
            return value[0]["text"]
        return [without_cache_marks(inner) for inner in value]
    return value


def test_thinking_is_kept_over_the_turns_in_the_upstreams_own_way(claude, upstream):
    thought, seal = "First I list the files;\n\nthen “I” read — carefully.", "c2VhbGVkIGJ5IHRoZSBtYWtlcg=="
    upstream.play(
        [
            {"think": thought, "seal": seal},
            {"call": "Bash", "args": {"command": "ls"}, "id": "call_1"},
        ],
        [
            {"think": "Nothing there.", "seal": "c2Vjb25k"},
            {"call": "Bash", "args": {"command": "pwd"}, "id": "call_2"},
        ],
        [{"say": "Done."}],
    )
    claude.run("Look around.", model="thinker").assert_fine()
    first = (thought, "" if upstream.wire == "chat" else seal)
    second = ("Nothing there.", "" if upstream.wire == "chat" else "c2Vjb25k")
    assert upstream.asked[1].thoughts == [first]
    assert upstream.asked[2].thoughts == [first, second]


def test_a_claude_name_with_its_long_window_label_leads_to_another_vendors_model(claude, upstream):
    upstream.play(
        [
            {"think": "I am somebody else.", "seal": "c2VhbA=="},
            {"call": "Bash", "args": {"command": "echo hi"}, "id": "call_1"},
        ],
        [{"say": "Here."}],
    )
    done = claude.run("Who are you?", model="claude-opus-4-6[1m]").assert_fine()
    assert done.said == "Here."
    assert list(done.result["modelUsage"]) == ["claude-opus-4-6[1m]"]
    last = upstream.asked[-1]
    assert [asked.body["model"] for asked in upstream.asked] == ["glm-up", "glm-up"]
    assert [text for text, _ in last.thoughts] == ["I am somebody else."]
    assert last.results["call_1"].startswith("hi")
    assert "claude-opus" not in str(last.headers)
    assert "context-1m" not in str(last.headers)
    roles = [message.get("role") for message in last.history]
    assert "system" not in roles[1:]


def test_a_deferred_tool_is_offered_once_it_was_searched_for(claude, upstream):
    upstream.play(
        [{"call": "ToolSearch", "args": {"query": "select:WebFetch", "max_results": 1}, "id": "call_1"}],
        [{"call": "WebFetch", "args": {"url": "not an address", "prompt": "Read."}, "id": "call_2"}],
        [{"say": "It cannot be read."}],
    )
    done = claude.run("Read that page.", tools="default")
    assert (done.code, done.said) == (0, "It cannot be read.")
    first, second, _ = upstream.asked
    assert "WebFetch" not in first.tools
    assert "WebFetch" in second.tools
    if upstream.wire != "messages":
        assert "DeferredToolPlaceholder" not in first.tools


@pytest.mark.parametrize("model", ["plain", "blind"])
def test_a_picture_that_was_read_is_shown_to_those_who_can_see(claude, upstream, picture, model):
    file = claude.repository / "shot.png"
    file.write_bytes(picture)
    upstream.play(
        [{"call": "Read", "args": {"file_path": str(file)}, "id": "call_1"}], [{"say": "One pixel."}]
    )
    done = claude.run("What is this?", model=model).assert_fine()
    assert done.said == "One pixel."
    last = upstream.asked[-1]
    assert "call_1" in last.results
    if model == "plain":
        assert last.images == 1
    else:
        assert last.images == 0
        assert "image omitted" in last.text


def test_a_subagent_works_and_reports(claude, upstream):
    def model(asked):
        if asked.results:
            return [{"say": f"The agent said: {asked.results['call_1']}"}]
        if "Say exactly BEETROOT." in asked.text and "Use an agent." not in asked.text:
            return [{"say": "BEETROOT"}]
        task = {
            "description": "Say it",
            "prompt": "Say exactly BEETROOT.",
            "subagent_type": "general-purpose",
        }
        return [{"call": agent_tool(asked), "args": task, "id": "call_1"}]

    upstream.play(model, model, model)
    done = claude.run("Use an agent.", tools="Task,Bash").assert_fine()
    assert "BEETROOT" in done.said
    assert len(upstream.asked) == 3


def agent_tool(asked):
    return next(name for name in asked.tools if name in ("Agent", "Task"))


def test_malformed_arguments_come_back_as_something_the_model_can_mend(claude, upstream):
    upstream.play(
        [{"call": "Bash", "args": '{"command": "ls', "id": "call_1"}],
        [{"call": "Bash", "args": {"command": "echo mended"}, "id": "call_2"}],
        [{"say": "Mended."}],
    )
    done = claude.run("Try.").assert_fine()
    assert done.said == "Mended."
    assert list(upstream.asked[2].results) == ["call_1", "call_2"]
    assert "mended" not in upstream.asked[1].results["call_1"]
    assert upstream.asked[2].results["call_2"] == "mended"

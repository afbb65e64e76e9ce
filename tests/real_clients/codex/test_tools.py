"""Codex works through the gateway: words, tools, files, servers, reasoning, pictures."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.real_client

PATCH = """*** Begin Patch
*** Update File: greeting.txt
@@
-hello
+hello, world
*** Add File: new.txt
+made
*** End Patch
"""


def test_words_arrive_and_are_counted(codex, upstream):
    upstream.play([{"say": "Four, obviously — “4”."}, {"usage": (1200, 34)}])
    done = codex.run("How much is two and two?").assert_fine()
    assert done.said == ["Four, obviously — “4”."]
    usage = done.events[-1]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (1200, 34)
    (asked,) = upstream.asked
    assert asked.body["model"] == "up"
    assert "How much is two and two?" in asked.text


def test_odd_characters_and_odd_call_ids_survive_in_both_directions(codex, upstream, odd_text):
    command = f"cat > odd.txt <<'END'\n{odd_text}\nEND\n"
    upstream.play(
        [{"say": odd_text}, {"call": "exec_command", "args": {"cmd": command}, "id": "exec_command:0"}],
        [{"say": odd_text}],
    )
    done = codex.run(f"Write {odd_text} down.").assert_fine()
    assert done.said == [odd_text, odd_text]
    assert (codex.repository / "odd.txt").read_bytes().decode() == odd_text + "\n"
    last = upstream.asked[-1]
    assert list(last.calls) == list(last.results)
    assert json.dumps(odd_text, ensure_ascii=False)[1:-1] in last.text
    assert f"Write {json.dumps(odd_text, ensure_ascii=False)[1:-1]} down." in last.text
    if upstream.wire != "messages":
        assert list(last.calls) == ["exec_command:0"]


def test_a_shell_call_a_patch_and_two_calls_at_once_change_the_files(codex, upstream):
    folder = codex.repository
    (folder / "greeting.txt").write_text("hello\n")
    upstream.play(
        [{"say": "Looking."}, {"call": "exec_command", "args": {"cmd": "cat greeting.txt"}, "id": "call_1"}],
        [{"call": "apply_patch", "input": PATCH, "id": "call_2"}],
        [
            {"call": "exec_command", "args": {"cmd": "cat greeting.txt > copy-a.txt"}, "id": "call_3"},
            {"call": "exec_command", "args": {"cmd": "cp new.txt copy-b.txt && echo done"}, "id": "call_4"},
        ],
        [{"say": "Changed."}],
    )
    done = codex.run("Greet the world.").assert_fine()
    assert done.said == ["Looking.", "Changed."]
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    greeting = "hello, world\n"
    assert texts == {
        "greeting.txt": greeting,
        "copy-a.txt": greeting,
        "new.txt": "made\n",
        "copy-b.txt": "made\n",
    }
    last = upstream.asked[-1]
    assert list(last.results) == ["call_1", "call_2", "call_3", "call_4"] == list(last.calls)
    assert "hello" in last.results["call_1"]
    assert "done" in last.results["call_4"]
    (change,) = done.items("file_change")
    assert {one["kind"] for one in change["changes"]} == {"update", "add"}


def test_the_conversation_only_grows_at_its_end(codex, upstream):
    """What was sent before is sent again byte for byte, so that the upstream's prompt cache holds."""
    upstream.play(
        [{"say": "One."}, {"call": "exec_command", "args": {"cmd": "echo 1"}, "id": "call_1"}],
        [{"call": "exec_command", "args": {"cmd": "echo 2"}, "id": "call_2"}],
        [{"say": "Two."}],
    )
    codex.run("Count.").assert_fine()
    first, second, third = upstream.asked
    assert second.history[: len(first.history)] == first.history
    assert third.history[: len(second.history)] == second.history
    assert first.body.get("tools") == second.body.get("tools") == third.body.get("tools")
    assert first.body.get("system") == third.body.get("system")


def test_a_call_of_an_mcp_tool_reaches_its_server(codex, upstream):
    codex.add_echo_server()
    upstream.play([{"call": "echo", "args": {"text": "ping"}, "id": "call_1"}], [{"say": "It echoes."}])
    done = codex.run("Call the server.").assert_fine()
    (call,) = done.items("mcp_tool_call")
    assert (call["server"], call["tool"], call["status"]) == ("probe", "echo", "completed")
    assert "echo: ping" in upstream.asked[-1].results["call_1"]
    assert done.said == ["It echoes."]


def test_a_subagent_works_and_reports(codex, upstream):
    """Its tools stand in a namespace, its requests come beside the main ones."""

    def model(asked):
        if "TASK: say beetroot" in json.dumps(asked.history[-1]) and not asked.results:
            return [{"say": "beetroot"}]
        if "call_1" not in asked.results:
            return [{"call": "spawn_agent", "args": {"message": "TASK: say beetroot"}, "id": "call_1"}]
        if "call_2" not in asked.results:
            agent = json.loads(asked.results["call_1"])["agent_id"]
            return [
                {"call": "wait_agent", "args": {"targets": [agent], "timeout_ms": 30_000}, "id": "call_2"}
            ]
        return [{"say": asked.results["call_2"]}]

    upstream.play_by(model)
    done = codex.run("Use an agent.").assert_fine()
    assert '"completed":"beetroot"' in done.said[-1]


def test_reasoning_goes_back_to_the_upstream_unchanged(codex, upstream):
    thought, seal = "First I list the files;\n\nthen “I” read — carefully.", "c2VhbGVkIGJ5IHRoZSBtYWtlcg=="
    upstream.play(
        [
            {"think": thought, "seal": seal},
            {"call": "exec_command", "args": {"cmd": "ls"}, "id": "call_1"},
        ],
        [
            {"think": "Nothing there.", "seal": "c2Vjb25k"},
            {"call": "exec_command", "args": {"cmd": "pwd"}, "id": "call_2"},
        ],
        [{"say": "Done."}],
    )
    done = codex.run("Look around.", model="thinker").assert_fine()
    first = (thought, "" if upstream.wire == "chat" else seal)
    second = ("Nothing there.", "" if upstream.wire == "chat" else "c2Vjb25k")
    assert upstream.asked[1].thoughts == [first]
    assert upstream.asked[2].thoughts == [first, second]
    assert [item["text"] for item in done.items("reasoning")] == [thought, "Nothing there."]


@pytest.mark.parametrize("catalogue", [True, False], ids=["told", "not told"])
def test_a_picture_for_a_model_that_reads_only_text_becomes_a_note(codex, upstream, picture, catalogue):
    """Codex leaves it out itself where the catalogue says so; else the gateway does."""
    codex.configure(catalogue=catalogue)
    (codex.repository / "shot.png").write_bytes(picture)
    upstream.play([{"say": "I cannot see it."}])
    done = codex.run("What is this?", "-i", "shot.png", model="blind").assert_fine()
    assert done.said == ["I cannot see it."]
    (asked,) = upstream.asked
    assert asked.images == 0
    assert "image" in asked.text
    assert "omitted" in asked.text


def test_a_picture_reaches_a_model_that_reads_pictures(codex, upstream, picture):
    (codex.repository / "shot.png").write_bytes(picture)
    upstream.play(
        [{"call": "view_image", "args": {"path": str(codex.repository / "shot.png")}, "id": "call_1"}],
        [{"say": "One pixel."}],
    )
    codex.run("What are these?", "-i", "shot.png").assert_fine()
    assert [asked.images for asked in upstream.asked] == [1, 2]


def test_malformed_arguments_come_back_as_something_the_model_can_mend(codex, upstream):
    upstream.play(
        [{"call": "exec_command", "args": '{"cmd": "ls', "id": "call_1"}],
        [{"call": "exec_command", "args": {"cmd": "echo mended"}, "id": "call_2"}],
        [{"say": "Mended."}],
    )
    done = codex.run("Try.").assert_fine()
    assert done.said == ["Mended."]
    assert "parse" in upstream.asked[1].results["call_1"]
    assert "mended" in upstream.asked[2].results["call_2"]

"""Codex over more than one turn: compaction, a session taken up again, an answer in a given shape."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.real_client

CHECKPOINT = "CONTEXT CHECKPOINT COMPACTION"
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def test_a_full_window_is_compacted_and_the_work_goes_on(codex, upstream):
    """The window comes from our catalogue, the filling from the usage we hand on."""

    def model(asked):
        if CHECKPOINT in json.dumps(asked.history[-1]):
            return [{"say": "SUMMARY: one command was run."}]
        if "SUMMARY: one command was run." in asked.text:
            return [{"say": "Finished."}]
        return [
            {"call": "exec_command", "args": {"cmd": "echo once >> runs.txt"}, "id": "call_1"},
            {"usage": (19_500, 100)},
        ]

    upstream.play(model, model, model)
    done = codex.run("Work.", model="small").assert_fine()
    assert done.said[-1] == "Finished."
    work, compaction, after = upstream.asked
    assert CHECKPOINT in compaction.text
    assert "call_1" in compaction.results
    assert after.results == {}
    assert (codex.repository / "runs.txt").read_text() == "once\n"
    assert not compaction.tools
    assert after.tools == work.tools


def test_a_session_is_taken_up_again_with_all_that_was_said(codex, upstream):
    upstream.play(
        [
            {"think": "The word is needed later.", "seal": "c2VhbA=="},
            {"call": "exec_command", "args": {"cmd": "echo kept"}, "id": "call_1"},
        ],
        [{"say": "Noted."}],
        [{"say": "It was “kept”."}],
    )
    first = codex.run("Remember the word.", model="thinker").assert_fine()
    second = codex.resume(first.thread, "What was it?", model="thinker").assert_fine()
    assert second.thread == first.thread
    assert second.said == ["It was “kept”."]
    _, before, after = upstream.asked
    assert after.history[: len(before.history)] == before.history
    assert (
        after.thoughts
        == before.thoughts
        == [("The word is needed later.", "" if upstream.wire == "chat" else "c2VhbA==")]
    )
    assert "Noted." in after.text


MOVES = [
    (a, b) for a in ("chat", "messages", "responses") for b in ("chat", "messages", "responses") if a != b
]


@pytest.mark.parametrize(("before", "after"), MOVES)
def test_a_session_goes_on_at_another_provider_without_the_sealed_thoughts_of_the_first(
    benches, make_codex, before, after
):
    first, second = benches.get(before), benches.get(after)
    codex = make_codex(first)
    first.upstream.play(
        [
            {"think": "The word is needed later.", "seal": "c2VhbA=="},
            {"call": "exec_command", "args": {"cmd": "echo kept"}, "id": "call_1"},
        ],
        [{"say": "Noted."}],
    )
    begun = codex.run("Remember the word.", model="thinker").assert_fine()
    codex.move_to(second)
    second.upstream.play(
        [{"call": "exec_command", "args": {"cmd": "echo more"}, "id": "call_2"}], [{"say": "It was “kept”."}]
    )
    done = codex.resume(begun.thread, "What was it?", model="thinker").assert_fine()
    assert done.said == ["It was “kept”."]
    assert (first.upstream.trouble, second.upstream.trouble) == ([], [])
    asked = second.upstream.asked[-1]
    assert list(asked.results) == list(asked.calls) == ["call_1", "call_2"]
    assert "Noted." in asked.text
    assert "c2VhbA==" not in asked.text
    assert "gw1." not in asked.text


def test_an_output_schema_reaches_the_upstream_in_its_own_words(codex, upstream):
    (codex.repository / "schema.json").write_text(json.dumps(SCHEMA))
    upstream.play([{"say": '{"answer": 4}'}])
    done = codex.run("How much is two and two?", "--output-schema", "schema.json").assert_fine()
    assert done.said == ['{"answer": 4}']
    (asked,) = upstream.asked
    match upstream.wire:
        case "chat":
            wanted = asked.body["response_format"]
            assert wanted["type"] == "json_schema"
            assert wanted["json_schema"]["schema"] == SCHEMA
        case "messages":
            assert asked.body["output_config"]["format"] == {"type": "json_schema", "schema": SCHEMA}
        case "responses":
            wanted = asked.body["text"]["format"]
            assert (wanted["type"], wanted["schema"]) == ("json_schema", SCHEMA)

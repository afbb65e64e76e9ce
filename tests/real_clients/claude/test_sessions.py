"""Sessions of Claude Code, taken up again at the same provider or at another."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.real_client

OTHER = {"chat": "messages", "messages": "responses", "responses": "chat"}


def test_a_session_is_taken_up_again_with_all_that_was_said(claude, upstream):
    upstream.play(
        [
            {"think": "The word is needed later.", "seal": "c2VhbA=="},
            {"call": "Bash", "args": {"command": "echo kept"}, "id": "call_1"},
        ],
        [{"say": "Noted."}],
        [{"say": "It was “kept”."}],
    )
    first = claude.run("Remember the word.", model="thinker").assert_fine()
    second = claude.run("What was it?", "--resume", first.session, model="thinker").assert_fine()
    assert second.session == first.session
    assert second.said == "It was “kept”."
    after = upstream.asked[2]
    assert after.thoughts == [("The word is needed later.", "" if upstream.wire == "chat" else "c2VhbA==")]
    assert after.results == {"call_1": "kept"}
    assert "Noted." in after.text


def test_a_session_goes_on_at_another_provider_without_the_sealed_thoughts_of_the_first(
    claude, benches, bench, upstream
):
    second = benches.get(OTHER[bench.wire])
    upstream.play(
        [
            {"think": "The word is needed later.", "seal": "c2VhbA=="},
            {"call": "Bash", "args": {"command": "echo kept"}, "id": "call_1"},
        ],
        [{"say": "Noted."}],
    )
    begun = claude.run("Remember the word.", model="thinker").assert_fine()
    claude.move_to(second)
    second.upstream.play(
        [{"call": "Bash", "args": {"command": "echo more"}, "id": "call_2"}], [{"say": "It was “kept”."}]
    )
    done = claude.run("What was it?", "--resume", begun.session, model="thinker").assert_fine()
    assert done.said == "It was “kept”."
    assert second.upstream.trouble == []
    asked = second.upstream.asked[-1]
    assert asked.results == {"call_1": "kept", "call_2": "more"}
    assert "Noted." in asked.text
    assert "c2VhbA==" not in asked.text
    assert "gw1." not in asked.text

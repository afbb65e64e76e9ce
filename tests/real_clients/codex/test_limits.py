"""Our own limits, as Codex meets them: told once, in words its user sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman.config.paths import resolve_home
from dragoman.config.tokens import TokenLimits, mint

pytestmark = pytest.mark.real_client


@pytest.fixture
def limited(bench: Any, codex: Any) -> Any:
    """Gives Codex a token of its own."""

    def give(**kind: Any) -> None:
        folder = str(Path(bench.home))
        bench.token = mint(resolve_home({"DRAGOMAN_HOME": folder}), "data", **kind).secret
        codex.configure()

    before = bench.token
    yield give
    bench.token = before


@pytest.mark.parametrize("bench", ["chat"], indirect=True)
def test_a_budget_that_is_used_up_ends_the_turn_at_once_and_says_so(codex, upstream, limited):
    limited(limits=TokenLimits(requests=1))
    upstream.play([{"say": "Once."}], [{"say": "Twice."}])
    assert codex.run("Go on.").assert_fine().said == ["Once."]
    done = codex.run("Go on.")
    assert (done.code, done.failure) == (1, "This token's budget of 1 requests is used up.")
    assert (len(upstream.asked), done.retries) == (1, [done.failure])


@pytest.mark.parametrize("bench", ["chat"], indirect=True)
def test_a_model_that_the_token_may_not_ask_for_ends_the_turn_at_once(codex, upstream, limited):
    limited(models=("another",))
    upstream.play([{"say": "Never."}])
    done = codex.run("Go on.")
    assert (done.code, done.failure) == (1, "This token may not ask for the model 'plain'.")
    assert upstream.asked == []
    assert len(done.retries) == 1


@pytest.mark.parametrize("bench", ["chat"], indirect=True)
def test_a_token_that_has_ended_fails_after_a_few_tries(codex, upstream, limited):
    """Codex asks again after a 401, since a command may give it a fresh token; it must stay a 401."""
    limited(expires_at=1.0)
    upstream.play([{"say": "Never."}])
    done = codex.run("Go on.")
    assert done.code == 1
    assert done.failure is not None
    assert "The gateway does not know this token" in done.failure
    assert upstream.asked == []
    assert len(done.retries) <= 5

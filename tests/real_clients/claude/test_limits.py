"""Our own limits, as Claude Code meets them: told once, in words its user sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman.config.paths import resolve_home
from dragoman.config.tokens import TokenLimits, mint

pytestmark = pytest.mark.real_client


@pytest.fixture
def limited(bench: Any, claude: Any) -> Any:
    """Gives Claude Code a token of its own."""

    def give(**kind: Any) -> None:
        home = resolve_home({"DRAGOMAN_HOME": str(Path(bench.home))})
        claude.env["ANTHROPIC_AUTH_TOKEN"] = mint(home, "data", **kind).secret

    return give


@pytest.mark.parametrize("bench", ["chat"], indirect=True)
def test_a_budget_that_is_used_up_fails_at_once_and_says_so(claude, upstream, limited):
    limited(limits=TokenLimits(requests=1))
    upstream.play([{"say": "Once."}], [{"say": "Twice."}])
    assert claude.run("Go on.").assert_fine().said == "Once."
    done = claude.run("Go on.")
    assert (done.code, done.result["is_error"], done.result["api_error_status"]) == (1, True, 429)
    assert "This token's budget of 1 requests is used up." in done.said
    assert (done.retries, len(upstream.asked)) == (0, 1)


@pytest.mark.parametrize("bench", ["chat"], indirect=True)
def test_a_model_that_the_token_may_not_ask_for_fails_at_once(claude, upstream, limited):
    limited(models=("another",))
    upstream.play([{"say": "Never."}])
    done = claude.run("Go on.")
    assert (done.code, done.result["is_error"], done.result["api_error_status"]) == (1, True, 403)
    assert "This token may not ask for the model 'plain'." in done.said
    assert (done.retries, upstream.asked) == (0, [])


@pytest.mark.parametrize("bench", ["chat"], indirect=True)
def test_a_token_that_has_ended_fails_after_a_few_tries(claude, upstream, limited):
    limited(expires_at=1.0)
    upstream.play([{"say": "Never."}])
    done = claude.run("Go on.")
    assert (done.code, done.result["is_error"], done.result["api_error_status"]) == (1, True, 401)
    assert upstream.asked == []
    assert done.retries <= 3

"""`token`, and `status` and `stop` with nothing running; running daemons are tested in tests/daemon."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dragoman.cli import serving
from dragoman.config.load import load_config
from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import find
from dragoman.errors import DragomanError
from dragoman.gateway.routes import RouteTable
from dragoman.gateway.tariffs import Tariffs

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("DRAGOMAN_HOME", str(tmp_path))
    return resolve_home({"DRAGOMAN_HOME": str(tmp_path), "HOME": str(tmp_path)})


@pytest.fixture
def token(home: Home) -> Run:
    def run(*words: str) -> Result:
        result = CliRunner().invoke(serving.token, list(words))
        if isinstance(result.exception, DragomanError):
            raise result.exception
        return result

    return run


def test_the_data_token_is_printed_alone_made_when_missing_and_stays_the_same(token: Run, home: Home):
    first = token()
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout == home.data_token_file.read_text()
    assert stat.S_IMODE(home.data_token_file.stat().st_mode) == 0o600
    assert token("show").stdout == first.stdout
    assert json.loads(token("--json").stdout) == {"token": first.stdout.strip()}
    record = find(home, first.stdout.strip())
    assert record is not None
    assert record.scope == "data"
    assert not home.run.exists()


def test_a_new_token_is_shown_once_and_carries_its_limits(token: Run, home: Home):
    words = ["create", "--models", "a, b", "--requests", "5", "--tokens", "1000", "--usd", "0.5"]
    made = token(*words, "--expires", "12h", "--label", "trial")
    record = find(home, made.stdout.strip())
    assert record is not None
    assert (record.scope, record.models, record.label) == ("data", ("a", "b"), "trial")
    assert (record.limits.requests, record.limits.tokens, record.limits.usd) == (5, 1000, 0.5)
    assert record.expires_at is not None
    assert record.expires_at - record.created_at == 12 * 3600
    listing = token("list").stdout
    assert record.id[:12] in listing
    assert "5 requests; 1000 tokens; 0.5 USD; models a, b; ends in 12 h" in listing
    assert made.stdout.strip() not in listing


def test_json_holds_the_same_for_every_subcommand(token: Run):
    made = json.loads(token("create", "--json", "--scope", "control").stdout)
    assert made["token"]["scope"] == "control"
    assert json.loads(token("list", "--json").stdout)["tokens"] == [made["token"]]
    assert json.loads(token("--json", "list").stdout)["tokens"] == [made["token"]]
    assert json.loads(token("revoke", made["token"]["id"], "--json").stdout)["revoked"] == made["token"]
    assert json.loads(token("list", "--json").stdout) == {"tokens": []}


def test_a_revoked_token_opens_nothing(token: Run, home: Home):
    secret = token("create").stdout.strip()
    record = find(home, secret)
    assert record is not None
    assert "revoked" in token("revoke", record.id[:12]).stdout
    assert find(home, secret) is None
    with pytest.raises(DragomanError, match="no token"):
        token("revoke", record.id[:12])


def test_a_limit_in_money_has_its_prices_before_any_daemon_has_run(token: Run, home: Home):
    home.config_file.write_text('[providers.openai]\npreset = "openai"\n')
    home.config_file.chmod(0o600)
    made = token("create", "--usd", "0.5")
    assert made.stderr == ""
    route = RouteTable(load_config(home, {})).resolve("gpt-5.5", "responses")
    price, why = Tariffs(home.state / "tariffs.json").price_of(route, time.time())
    assert price is not None
    assert why == "tariff"
    # A configuration nobody can read keeps no token from being made, and is told.
    home.config_file.write_text("[providers.openai]\npreste = 1\n")
    refused = token("create", "--usd", "0.5")
    assert refused.stdout.startswith("dgm_")
    assert "preste" in refused.stderr


@pytest.mark.parametrize("usd", ["nan", "inf"])
def test_a_limit_that_is_no_number_is_a_usage_error(usd: str, token: Run, home: Home):
    assert token("create", "--usd", usd).exit_code == 2
    assert not home.tokens.exists()


@pytest.mark.parametrize("expires", ["soon", "0h", "-3d", "12", "1y"])
def test_a_time_that_is_none_is_a_usage_error(expires: str, token: Run):
    result = token("create", "--expires", expires)
    assert result.exit_code == 2
    assert "--expires" in result.stderr


def test_an_empty_list_says_so(token: Run):
    assert token("list").stdout == "no tokens yet\n"


def test_status_of_nothing_says_how_to_start_and_fails(home: Home):
    result = CliRunner().invoke(serving.status, [], standalone_mode=False)
    assert result.return_value == 1
    assert "dragoman serve" in result.output
    told = CliRunner().invoke(serving.status, ["--json"], standalone_mode=False)
    assert json.loads(told.output) == {"running": False, "answers": False, "home": str(home.state)}


def test_stop_of_nothing_is_fine(home: Home):
    result = CliRunner().invoke(serving.stop, [], standalone_mode=False)
    assert (result.return_value, result.output) == (0, "dragoman is not running\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (400_000, "5 d"), (-5, "0 s")],
)
def test_ages_are_short(seconds: float, words: str):
    assert serving._age(seconds) == words

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from dragoman.clients.launch import (
    ChosenModel,
    asked_model,
    choose_model,
    claude_asked_model,
    claude_configured_model,
    claude_launch_settings,
    encode_settings,
    launch_settings_file,
    plan_claude_launch,
    plan_codex_launch,
)
from dragoman.clients.setup_codex import Program
from dragoman.config.load import parse_config
from dragoman.config.paths import resolve_home
from dragoman.gateway.routes import RouteTable, UnknownModel

URL = "http://127.0.0.1:5"
ZAI = RouteTable(parse_config("", {"ZAI_API_KEY": "s"}))
NOTHING = RouteTable(parse_config("", {}))


def test_the_model_asked_for_wins_then_the_configured_one_then_ours() -> None:
    def choose(asked: str | None, configured: str | None) -> ChosenModel:
        return choose_model(ZAI, "responses", asked=asked, configured=configured, default="glm-5.2")

    assert choose("glm-5", "glm-4.7").name == "glm-5"
    assert choose(None, "glm-4.7").name == "glm-4.7"
    assert choose(None, None).name == "glm-5.2"
    assert choose(None, None).context_window == 1_000_000


def test_a_configured_model_without_a_route_is_replaced_and_said() -> None:
    chosen = choose_model(ZAI, "responses", asked=None, configured="gpt-6-sol", default="glm-5.2")
    assert chosen.name == "glm-5.2"
    assert chosen.note == "your model gpt-6-sol has no route here; starting with glm-5.2"


def test_with_no_provider_at_all_the_embedded_model_answers() -> None:
    chosen = choose_model(NOTHING, "messages", asked=None, configured="claude-opus-5-5", default=None)
    assert chosen.name == "rehearsal"
    with pytest.raises(UnknownModel):
        choose_model(NOTHING, "messages", asked="glm-5.2", configured=None, default=None)


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["exec", "-m", "a", "hi"], "a"),
        (["--model", "b"], "b"),
        (["--model=c", "x"], "c"),
        (["exec", "--", "-m", "d"], None),
        (["exec", "-m"], None),
        ([], None),
    ],
)
def test_the_model_is_found_among_the_users_words(words: list[str], model: str | None) -> None:
    assert asked_model(words, ("-m", "--model")) == model


def test_claude_codes_own_aliases_are_left_to_it() -> None:
    assert claude_asked_model(["--model", "sonnet"]) is None
    assert claude_asked_model(["--model", "opus[1m]"]) is None
    assert claude_asked_model(["--model", "glm-5"]) == "glm-5"
    assert claude_configured_model({"model": "opus"}, {}) is None
    assert (
        claude_configured_model({"env": {"ANTHROPIC_MODEL": "a"}, "model": "b"}, {"ANTHROPIC_MODEL": "c"})
        == "a"
    )
    assert claude_configured_model({"model": "b"}, {"ANTHROPIC_MODEL": "c"}) == "c"


def test_codex_gets_overrides_that_are_toml_and_the_users_words_last() -> None:
    model = ChosenModel("glm-5.2")
    argv = plan_codex_launch(Path("/c"), ["exec", "hi"], url=URL, program=Program("/d", "/h o"), model=model)
    assert argv[0] == "/c"
    assert argv[-2:] == ["exec", "hi"]
    overrides = [argv[n + 1] for n, word in enumerate(argv) if word == "-c"]
    tree = tomllib.loads("\n".join(overrides))
    provider = tree["model_providers"]["dragoman"]
    assert provider["base_url"] == f"{URL}/v1"
    assert provider["auth"]["args"] == ["DRAGOMAN_HOME=/h o", "/d", "token", "--ensure"]
    assert (tree["model"], tree["model_provider"]) == ("glm-5.2", "dragoman")
    without = plan_codex_launch(Path("/c"), [], url=URL, program=Program("/d"), model=None)
    assert not any(word.startswith("model=") for word in without)


def test_claude_code_gets_a_settings_file_and_no_foreign_account() -> None:
    env = {"PATH": "/bin", "ANTHROPIC_API_KEY": "k", "ANTHROPIC_AUTH_TOKEN": "t", "ANTHROPIC_BASE_URL": "u"}
    argv, kept = plan_claude_launch(Path("/c"), ["-p", "hi"], env, settings_file=Path("/s.json"))
    assert argv == ["/c", "--settings", "/s.json", "-p", "hi"]
    assert kept == {"PATH": "/bin"}


def test_two_launches_with_two_models_do_not_share_a_file(tmp_path: Path) -> None:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path)})
    one, two = (encode_settings({"env": {"ANTHROPIC_MODEL": name}}) for name in ("a", "b"))
    assert launch_settings_file(home, one) == launch_settings_file(home, one)
    assert launch_settings_file(home, one) != launch_settings_file(home, two)
    assert launch_settings_file(home, one).parent == home.state


def test_the_settings_of_a_launch_tell_the_window_and_map_the_aliases() -> None:
    model = ChosenModel("glm-5.2", 1_000_000, 65_536)
    env = claude_launch_settings(url=URL, token="t", model=model, claude_names_routed=False)["env"]
    assert env["ANTHROPIC_BASE_URL"] == URL
    assert env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "1000000"
    assert env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "65536"
    assert env["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == env["CLAUDE_CODE_SUBAGENT_MODEL"] == "glm-5.2"
    own = claude_launch_settings(url=URL, token="t", model=ChosenModel("x"), claude_names_routed=True)["env"]
    assert "ANTHROPIC_DEFAULT_HAIKU_MODEL" not in own
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS" not in own

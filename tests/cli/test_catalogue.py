from __future__ import annotations

import json
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from dragoman.cli import catalogue as commands
from dragoman.errors import DragomanError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ZAI_API_KEY", "ZAI_BASE_URL", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DRAGOMAN_HOME", str(tmp_path))
    (tmp_path / "dragoman.toml").write_text("[gateway]\ndefault_provider = 'zai'\n[providers.zai] # mine\n")
    return tmp_path


def run(command: click.Command, *words: str, text: str | None = None) -> Result:
    result = CliRunner().invoke(command, list(words), input=text, standalone_mode=False)
    if isinstance(result.exception, DragomanError | click.ClickException):
        raise result.exception
    assert result.exception is None, result.exception
    return result


def test_models_are_listed_with_their_provider(place: Path) -> None:
    listed = json.loads(run(commands.models, "--json").stdout)["models"]
    assert [model["name"] for model in listed][:2] == ["glm-5.2", "glm-5.1"]
    assert "glm-5.2" in run(commands.models).stdout
    assert "other names go to zai" in run(commands.models, "list").stdout


def test_explain_and_models_show_tell_the_same(place: Path) -> None:
    told = json.loads(run(commands.explain, "claude-opus-4-6[1m]", "--json").stdout)
    assert told["upstream_model"] == "glm-5.2"
    assert told["keys_found"] == []
    shown = run(commands.models, "show", "claude-opus-4-6[1m]").stdout
    assert shown == run(commands.explain, "claude-opus-4-6[1m]").stdout
    assert "key: MISSING" in shown
    assert "translated" in shown


def test_a_key_is_stored_found_listed_and_forgotten_and_never_shown(place: Path) -> None:
    secret = "zk-" + "a1" * 20
    shown = [run(commands.keys, "set", "zai", text=f"{secret}\n").stdout]
    listed = run(commands.keys, "--json").stdout
    rows = json.loads(listed)
    assert [row["place"] for row in rows["keys"]] == ["stored key zai"]
    shown += [listed, run(commands.keys).stdout, run(commands.explain, "glm-5.2").stdout]
    shown += [run(commands.providers, "list").stdout]
    assert not any(secret in text for text in shown)
    assert run(commands.keys, "rm", "zai").stdout == "forgotten\n"
    assert json.loads(run(commands.keys, "list", "--json").stdout)["missing"] == ["zai"]


def test_a_key_can_be_taken_over_from_the_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "k-123")
    run(commands.keys, "set", "zai", "--from-env", "MY_KEY")
    monkeypatch.delenv("MY_KEY")
    assert len(json.loads(run(commands.keys, "--json").stdout)["keys"]) == 1
    with pytest.raises(DragomanError, match="that is not a key for zai"):
        run(commands.keys, "set", "zai", "--from-env", "MY_KEY")
    with pytest.raises(DragomanError, match="no such provider: zia"):
        run(commands.keys, "set", "zia", text="k\n")


def test_a_key_may_go_to_the_keyring_and_what_to_write_is_said(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: dict[str, str] = {}
    monkeypatch.setattr("dragoman.config.secrets.store_in_keyring", held.__setitem__)
    monkeypatch.setattr(
        "dragoman.config.secrets.remove_from_keyring", lambda name: held.pop(name, None) is not None
    )
    said = run(commands.keys, "set", "zai", "--keyring", text="k-1\n").stdout
    assert held["zai"].strip() == "k-1"
    assert 'keys = [{ keyring = "zai" }]' in said
    assert json.loads(run(commands.keys, "rm", "zai", "--keyring", "--json").stdout)["removed"] is True
    assert json.loads(run(commands.keys, "rm", "zai", "--keyring", "--json").stdout)["removed"] is False


def test_without_the_extra_the_command_that_installs_it_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    with pytest.raises(DragomanError) as caught:
        run(commands.keys, "set", "zai", "--keyring", text="k\n")
    assert 'pip install "dragoman[keyring]"' in (caught.value.hint or "")


def test_a_key_out_of_reach_is_told_in_every_list_and_hides_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    monkeypatch.setenv("KEY_B", "k-b")
    (place / "dragoman.toml").write_text(
        "[providers.zai]\nkeys = [{ keyring = 'a' }, { env = 'KEY_B' }]\n[providers.deepseek]\n"
    )
    listed = json.loads(run(commands.keys, "--json").stdout)
    assert [row["place"] for row in listed["keys"]] == ["environment KEY_B"]
    assert "dragoman[keyring]" in listed["out_of_reach"][0]["reason"]
    assert "OUT OF REACH" in run(commands.keys).stdout
    assert json.loads(run(commands.providers, "--json").stdout)["providers"][0]["keys_out_of_reach"]
    assert "that needs an extra" in run(commands.explain, "glm-5.2").stdout


def test_a_name_of_codexs_own_given_to_another_vendors_model_is_warned_of(place: Path) -> None:
    with (place / "dragoman.toml").open("a") as file:
        file.write("[aliases]\n'gpt-5.6' = 'glm-5.2'\n'gpt-oss' = 'glm-5.2'\n")
    (warning,) = json.loads(run(commands.models, "--json").stdout)["warnings"]
    assert "gpt-5.6 is one of Codex's own names" in warning
    assert f"warning: {warning}" in run(commands.models).stdout
    assert f"warning: {warning}" in run(commands.explain, "gpt-5.6").stdout
    assert json.loads(run(commands.explain, "gpt-oss", "--json").stdout)["warnings"] == []


def test_openais_own_models_go_by_their_names(place: Path) -> None:
    (place / "dragoman.toml").write_text(
        "[gateway]\ndefault_provider = 'openai'\n[providers.openai]\n[providers.openrouter]\n"
        "[models.'gpt-6']\nprovider = 'openrouter'\nupstream = 'openai/gpt-6'\n"
    )
    assert json.loads(run(commands.models, "--json").stdout)["warnings"] == []
    assert json.loads(run(commands.explain, "gpt-5.5", "--json").stdout)["warnings"] == []


def test_a_provider_is_added_without_touching_the_rest(place: Path) -> None:
    before = (place / "dragoman.toml").read_text()
    run(commands.providers, "add", "deepseek")
    text = (place / "dragoman.toml").read_text()
    assert text.startswith(before)
    tree = tomllib.loads(text)
    assert tree["providers"]["deepseek"] == {"preset": "deepseek", "key_env": "DEEPSEEK_API_KEY"}
    assert tree["gateway"]["default_provider"] == "zai"
    run(commands.providers, "add", "deepseek", "--default", "--key-env", "DS")
    tree = tomllib.loads((place / "dragoman.toml").read_text())
    assert tree["providers"]["deepseek"]["key_env"] == "DS"
    assert tree["gateway"]["default_provider"] == "deepseek"
    with pytest.raises(DragomanError, match="no such preset: deepsek"):
        run(commands.providers, "add", "deepsek")


def test_any_endpoint_is_added_by_its_addresses(place: Path) -> None:
    words = ("add", "custom", "--name", "mine", "--wire", "chat=http://127.0.0.1:9/v1")
    said = run(commands.providers, *words, "--wire", "messages=http://127.0.0.1:9").stdout
    assert "next: dragoman providers check mine" in said
    tree = tomllib.loads((place / "dragoman.toml").read_text())
    wires = {"chat": "http://127.0.0.1:9/v1", "messages": "http://127.0.0.1:9"}
    assert tree["providers"]["mine"] == {"preset": "custom", "wires": wires}
    run(commands.providers, "add", "custom", "--name", "mine", "--wire", "chat=http://127.0.0.1:8/v1")
    tree = tomllib.loads((place / "dragoman.toml").read_text())
    assert tree["providers"]["mine"]["wires"] == {**wires, "chat": "http://127.0.0.1:8/v1"}
    (row,) = [
        r for r in json.loads(run(commands.providers, "--json").stdout)["providers"] if r["name"] == "mine"
    ]
    assert (row["preset"], row["profile"], row["key_missing"]) == ("custom", "generic", False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no name and no address"),
        (("--name", "mine"), "no name and no address"),
        (("--name", "mine", "--wire", "http://h"), "expected responses, chat, messages"),
        (("--name", "mine", "--wire", "chat=ftp://h"), "wires.chat: expected an address"),
        (("--name", "mine", "--wire", "chat=http://u:s3cret@h"), "holds no user name or password"),
    ],
)
def test_an_endpoint_without_a_proper_address_is_a_usage_error(
    place: Path, words: tuple[str, ...], said: str
) -> None:
    before = (place / "dragoman.toml").read_bytes()
    with pytest.raises(click.UsageError, match=said) as caught:
        run(commands.providers, "add", "custom", *words)
    assert "s3cret" not in caught.value.format_message()
    assert (place / "dragoman.toml").read_bytes() == before


def test_the_first_provider_becomes_the_default_one(place: Path) -> None:
    (place / "dragoman.toml").unlink()
    run(commands.providers, "add", "kimi", "--name", "moon")
    tree = tomllib.loads((place / "dragoman.toml").read_text())
    assert tree["gateway"]["default_provider"] == "moon"
    rows = json.loads(run(commands.providers, "--json").stdout)["providers"]
    assert {row["name"]: row["key_missing"] for row in rows} == {"moon": True, "rehearsal": False}

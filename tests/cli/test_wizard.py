"""The wizard, typed at on a real pseudo terminal."""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Callable
from typing import Any

SECRET = "zk-0123456789abcdef"

# The blank after a hidden prompt comes once nothing typed is shown any more; what came earlier is lost.


def test_a_new_user_types_a_key_sees_every_change_says_yes_and_gets_an_answer(
    empty_home: Any, at_terminal: Callable[..., Any], provider_url: str
) -> None:
    empty_home.env["ZAI_BASE_URL"] = f"{provider_url}/v1"
    terminal = at_terminal("setup")
    terminal.expect("Who shall answer?")
    terminal.expect("Provider, number or name [zai]")
    terminal.type("")
    terminal.expect("https://z.ai/manage-apikey")
    terminal.expect("Key of zai (not shown): ")
    terminal.type("two words")
    terminal.expect("that is not a key for zai")
    terminal.expect("Key of zai (not shown): ")
    terminal.type(SECRET)
    terminal.expect("Model, number or name [glm-5.2]")
    terminal.type("")
    terminal.expect("Clients, number or name [both]")
    terminal.type("1")
    terminal.expect("This is what would change")
    terminal.expect("+[providers.zai]")
    terminal.expect("the key of zai  would be kept in a file only you can read")
    terminal.expect('+model_provider = "dragoman"')
    terminal.expect('"ANTHROPIC_BASE_URL"')
    terminal.expect("Write this? [y/N]")
    assert not empty_home.config.exists()
    assert not empty_home.codex.exists()
    terminal.type("y")
    terminal.expect("one small question")
    terminal.expect("OK    glm-5.2 as Codex asks: zai over responses, translated to chat")
    terminal.expect("OK    glm-5.2 as Claude Code asks: zai over messages, translated to chat")
    assert terminal.end() == 0
    assert SECRET not in terminal.shown
    tree = tomllib.loads(empty_home.config.read_text())
    assert tree["gateway"]["default_provider"] == "zai"
    assert SECRET not in empty_home.config.read_text()
    (key,) = (empty_home.root / "d" / "state").rglob("*.key")
    assert (key.read_text().strip(), stat.S_IMODE(key.stat().st_mode)) == (SECRET, 0o600)
    assert tomllib.loads(empty_home.codex.read_text())["model"] == "glm-5.2"
    assert json.loads(empty_home.claude.read_text())["env"]["ANTHROPIC_MODEL"] == "glm-5.2"

    again = at_terminal("setup")
    for question in ("Provider", "Model", "Clients"):
        again.expect(f"{question}, number or name")
        again.type("")
    again.expect("nothing: all of it is there already")
    assert again.end() == 0


def test_a_key_found_only_in_the_environment_is_offered_for_keeping(
    empty_home: Any, at_terminal: Callable[..., Any], provider_url: str
) -> None:
    empty_home.env |= {"ZAI_BASE_URL": f"{provider_url}/v1", "ZAI_API_KEY": SECRET}
    told = json.loads(empty_home.dragoman("setup", "--print", "--json").stdout)
    assert "only in this shell's ZAI_API_KEY" in told["notes"][0]
    assert SECRET not in told["notes"][0]
    terminal = at_terminal("setup")
    terminal.expect("Provider, number or name [zai]")
    terminal.type("zai")
    terminal.expect("The key of zai is only in ZAI_API_KEY of this shell")
    terminal.expect("[Y/n]")
    terminal.type("")
    for question in ("Model", "Clients"):
        terminal.expect(f"{question}, number or name")
        terminal.type("")
    terminal.expect("+[providers.zai]")
    terminal.expect("Write this?")
    terminal.type("y")
    terminal.expect("OK    glm-5.2 as Claude Code asks")
    assert terminal.end() == 0
    assert SECRET not in terminal.shown
    del empty_home.env["ZAI_API_KEY"]
    listed = json.loads(empty_home.dragoman("keys", "--json").stdout)
    assert [row["place"] for row in listed["keys"]] == ["stored key zai"]


def test_no_writes_nothing_and_a_model_without_a_route_is_asked_about(
    empty_home: Any, at_terminal: Callable[..., Any]
) -> None:
    empty_home.codex.parent.mkdir()
    empty_home.codex.write_text("model = 'gpt-6-sol' # mine\n")
    terminal = at_terminal("setup")
    terminal.expect("Provider, number or name")
    terminal.type("nobody")
    terminal.expect("type a number from 1 to")
    terminal.type("rehearsal")
    terminal.expect("Clients, number or name")
    terminal.type("codex")
    terminal.expect("Your Codex asks for gpt-6-sol, which has no route here.")
    terminal.expect("Let it ask for rehearsal instead? [y/N]")
    terminal.type("y")
    terminal.expect('+model = "rehearsal" # mine')
    terminal.expect("Write this?")
    terminal.type("n")
    assert terminal.end() == 130
    assert empty_home.codex.read_text() == "model = 'gpt-6-sol' # mine\n"
    assert not empty_home.config.exists()


def test_a_provider_that_refuses_is_told_after_the_setup_with_the_next_step(
    empty_home: Any, at_terminal: Callable[..., Any]
) -> None:
    empty_home.config.parent.mkdir()
    empty_home.config.write_text("[providers.gone]\nwires.chat = 'http://127.0.0.1:9/v1'\n")
    terminal = at_terminal("setup")
    terminal.expect("Provider, number or name [gone]")
    terminal.type("")
    terminal.expect("Model, as the provider calls it")
    terminal.type("m")
    terminal.expect("Clients, number or name")
    terminal.type("codex")
    terminal.expect('+default_provider = "gone"')
    terminal.expect("Write this?")
    terminal.type("y")
    terminal.expect("FAIL  gone/m as Codex asks: gone over responses, translated to chat: ")
    terminal.expect("next: ")
    assert terminal.end() == 1
    assert tomllib.loads(empty_home.codex.read_text())["model"] == "gone/m"


def test_without_a_terminal_setup_alone_is_a_usage_error_and_writes_nothing(empty_home: Any) -> None:
    done = empty_home.dragoman("setup")
    assert done.returncode == 2
    assert "say --write or --print" in done.stderr
    assert not empty_home.codex.exists()


def test_a_provider_can_be_added_by_answering_what_is_missing(
    empty_home: Any, at_terminal: Callable[..., Any]
) -> None:
    terminal = at_terminal("providers", "add")
    terminal.expect("Provider, number or name [zai]")
    assert "rehearsal" not in terminal.shown
    terminal.type("deepseek")
    terminal.expect("+[providers.deepseek]")
    terminal.expect("Key of deepseek (not shown): ")
    terminal.type(SECRET)
    terminal.expect("next: dragoman providers check deepseek")
    assert terminal.end() == 0
    assert SECRET not in terminal.shown
    listed = json.loads(empty_home.dragoman("keys", "--json").stdout)
    assert [row["place"] for row in listed["keys"]] == ["stored key deepseek"]
    done = empty_home.dragoman("providers", "add")
    assert done.returncode == 2
    assert "name a preset: zai, " in done.stderr


def test_what_stands_in_the_way_is_said_before_anything_is_asked(
    empty_home: Any, at_terminal: Callable[..., Any]
) -> None:
    empty_home.env["DRAGOMAN_PORT"] = "0"
    terminal = at_terminal("setup")
    terminal.expect("no fixed port")
    assert terminal.end() == 2
    assert "Who shall answer?" not in terminal.shown

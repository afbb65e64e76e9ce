from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from dragoman.cli import setup as commands
from dragoman.errors import DragomanError

Run = Callable[..., Result]

CONFIG = "[providers.zai]\nkey_env = 'K'\n[gateway]\ndefault_provider = 'zai'\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ZAI_API_KEY", "ZAI_BASE_URL", "PROXY_PORT", "CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DRAGOMAN_HOME", str(tmp_path / "d"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "dragoman.toml").write_text(CONFIG)
    return tmp_path


class FakeTerminal:
    def isatty(self) -> bool:
        return True


def run(command: click.Command, *words: str) -> Result:
    result = CliRunner().invoke(command, list(words), standalone_mode=False)
    if isinstance(result.exception, DragomanError | click.ClickException):
        raise result.exception
    assert result.exception is None, result.exception
    return result


def test_setup_writes_both_clients_and_uninstall_takes_all_back(place: Path) -> None:
    codex, claude = place / ".codex" / "config.toml", place / ".claude" / "settings.json"
    claude.parent.mkdir()
    claude.write_text('{"theme": "dark"}')
    shown = run(commands.setup, "--write")
    assert f"{codex}  written" in shown.stdout
    tree = tomllib.loads(codex.read_text())
    assert (tree["model_provider"], tree["model"]) == ("dragoman", "glm-5.2")
    assert f"DRAGOMAN_HOME={place / 'd'}" in tree["model_providers"]["dragoman"]["auth"]["args"]
    assert json.loads(claude.read_text())["env"]["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:4891"
    written = codex.read_bytes()
    again = json.loads(run(commands.setup, "--write", "--json").stdout)
    assert [entry["changed"] for entry in again["clients"]] == [False, False]
    assert codex.read_bytes() == written
    run(commands.uninstall, "--yes")
    assert not codex.exists()
    assert claude.read_text() == '{"theme": "dark"}'


@pytest.mark.parametrize("settings", [None, '{"model": "opus", "env": {"ANTHROPIC_API_KEY": "k"}}'])
def test_without_a_provider_claude_code_stays_as_it_is_to_the_byte(place: Path, settings: str | None) -> None:
    (place / "d" / "dragoman.toml").unlink()
    file = place / ".claude" / "settings.json"
    if settings is not None:
        file.parent.mkdir()
        file.write_text(settings)
    shown = run(commands.setup, "--write").stdout
    assert "no provider is configured yet, so Claude Code stays as it is" in shown
    assert (file.read_text() if file.exists() else None) == settings


def test_print_changes_nothing(place: Path) -> None:
    shown = json.loads(run(commands.setup, "--print", "--json").stdout)
    assert not shown["written"]
    assert all(entry["changed"] for entry in shown["clients"])
    assert not (place / ".codex").exists()
    assert not (place / "d" / "state").exists()


def test_without_a_terminal_setup_wants_to_be_told_what_to_do(place: Path) -> None:
    with pytest.raises(click.UsageError, match="say --write or --print"):
        run(commands.setup)
    for words in (["--write", "--print"], ["--write", "--project", "--allow-root", "/a"]):
        with pytest.raises(click.UsageError):
            run(commands.setup, *words)


def test_parts_and_clients_can_be_chosen(place: Path) -> None:
    run(commands.setup, "--write", "--client", "codex", "--only", "mcp", "--allow-root", "~/work")
    tree = tomllib.loads((place / ".codex" / "config.toml").read_text())
    assert set(tree) == {"mcp_servers"}
    assert tree["mcp_servers"]["dragoman"]["env"]["CODEX_CLAUDE_ALLOW_ROOTS"] == str(place / "work")
    assert not (place / ".claude").exists()


@pytest.mark.parametrize("words", [("--only", "provider"), ("--client", "claude"), ("--project",)])
def test_a_root_that_would_be_written_nowhere_is_a_usage_error(place: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError, match="--allow-root"):
        run(commands.setup, "--write", "--allow-root", "/a", *words)
    assert not (place / ".codex").exists()


def test_json_is_never_mixed_with_a_question(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(commands.setup, "--write")
    monkeypatch.setattr("dragoman.cli.setup.sys.stdin", FakeTerminal())
    for command in (commands.setup, commands.uninstall):
        with pytest.raises(click.UsageError):
            command.main(["--json"], standalone_mode=False)
    assert (place / ".codex" / "config.toml").exists()


def test_a_project_gets_the_tools_and_is_told_whether_codex_trusts_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = place / "repository"
    project = repository / "inner"
    project.mkdir(parents=True)
    (repository / ".git").mkdir()
    monkeypatch.chdir(project)
    shown = run(commands.setup, "--write", "--project", "--client", "codex")
    assert set(tomllib.loads((project / ".codex" / "config.toml").read_text())) == {"mcp_servers"}
    assert "Codex does not trust this project yet, so it leaves this file unread" in shown.stdout
    assert f'[projects."{repository}"] with trust_level = "trusted"' in shown.stdout
    assert not (place / ".codex").exists()

    def trusted() -> bool:
        told = json.loads(run(commands.setup, "--print", "--project", "--client", "codex", "--json").stdout)
        return told["clients"][0]["project_trusted"]

    assert trusted() is False
    (place / ".codex").mkdir()
    (place / ".codex" / "config.toml").write_text(f"[projects.'{repository}']\ntrust_level = 'trusted'\n")
    assert trusted() is True
    assert "so it reads this file" in run(commands.setup, "--print", "--project").stdout
    run(commands.uninstall, "--yes", "--project", "--client", "codex")
    assert not (project / ".codex" / "config.toml").exists()


def test_what_users_added_to_our_server_stays_with_it_and_is_named_when_it_goes(place: Path) -> None:
    codex = place / ".codex" / "config.toml"
    run(commands.setup, "--write", "--client", "codex", "--allow-root", "/a")
    added = "[mcp_servers.dragoman.tools.claude_cleanup]\napproval_mode = 'approve'\n"
    codex.write_text(codex.read_text() + added)
    run(commands.setup, "--write", "--client", "codex")
    assert codex.read_text().endswith(added)
    server = tomllib.loads(codex.read_text())["mcp_servers"]["dragoman"]
    assert server["env"]["CODEX_CLAUDE_ALLOW_ROOTS"] == "/a", "an earlier wish of the user stands"
    key = "mcp_servers.dragoman.tools.claude_cleanup.approval_mode"
    for written_since in (False, True):
        if written_since:
            (place / "d" / "dragoman.toml").write_text(CONFIG + "port = 4999\n")
            run(commands.setup, "--write", "--client", "codex")
        told = json.loads(run(commands.uninstall, "--dry-run", "--json", "--client", "codex").stdout)
        assert told["clients"][0]["also_removed"] == [key]
    shown = run(commands.uninstall, "--yes", "--client", "codex").stdout
    assert f"what you added to our tables goes with them: {key}; they are kept in " in shown
    backup = Path(shown.partition("kept in ")[2].splitlines()[0])
    assert "approval_mode = 'approve'" in backup.read_text()


def test_without_a_record_what_users_added_to_our_tables_is_named_too(place: Path) -> None:
    codex = place / ".codex" / "config.toml"
    codex.parent.mkdir()
    codex.write_text("[model_providers.dragoman]\nname = 'x'\nmine = 1\n[t]\nx = 1\n")
    told = json.loads(run(commands.uninstall, "--json", "--client", "codex").stdout)
    assert told["clients"][0]["also_removed"] == ["model_providers.dragoman.mine"]
    assert tomllib.loads(codex.read_text()) == {"t": {"x": 1}}


def test_a_model_without_a_route_stays_and_force_replaces_it(place: Path) -> None:
    codex = place / ".codex" / "config.toml"
    codex.parent.mkdir()
    codex.write_text("model = 'gpt-6-sol' # mine\n")
    shown = run(commands.setup, "--write", "--client", "codex")
    assert "gpt-6-sol has no route" in shown.stdout
    assert "model_provider" not in tomllib.loads(codex.read_text())
    run(commands.setup, "--write", "--client", "codex", "--force")
    tree = tomllib.loads(codex.read_text())
    assert (tree["model"], tree["model_provider"]) == ("glm-5.2", "dragoman")
    run(commands.uninstall, "--yes", "--client", "codex")
    assert codex.read_text() == "model = 'gpt-6-sol' # mine\n"


def test_one_broken_file_keeps_both_from_being_written(place: Path) -> None:
    claude = place / ".claude" / "settings.json"
    claude.parent.mkdir()
    claude.write_text('{\n"a": 1,\n}')
    with pytest.raises(DragomanError, match="line 3 is not valid JSON"):
        run(commands.setup, "--write")
    assert not (place / ".codex").exists()


def test_set_model_touches_one_key_and_wants_a_route(place: Path) -> None:
    codex = place / ".codex" / "config.toml"
    codex.parent.mkdir()
    codex.write_text("model = 'a' # mine\n[t]\n")
    run(commands.set_model, "glm-5.1")
    assert codex.read_text() == 'model = "glm-5.1" # mine\n[t]\n'
    with pytest.raises(DragomanError, match="no route for the model nope"):
        run(commands.set_model, "nope")
    run(commands.set_model, "nope", "--force")
    assert tomllib.loads(codex.read_text())["model"] == "nope"


def test_set_model_leaves_a_direct_provider_and_its_key_alone_and_says_who_will_be_asked(place: Path) -> None:
    codex = place / ".codex" / "config.toml"
    codex.parent.mkdir()
    text = "profile = 'p'\nmodel = 'a'\n[profiles.p]\nmodel = 'b'\n"
    text += "[model_providers.mine]\nname = 'mine'\nenv_key = 'OPENAI_API_KEY'\n"
    codex.write_text(text)
    told = json.loads(run(commands.set_model, "glm-5.1", "--json").stdout)["clients"][0]
    assert codex.read_text() == text.replace("model = 'a'", 'model = "glm-5.1"')
    assert any("profile p overrides model" in note for note in told["notes"])
    assert any("asks its provider openai" in note for note in told["notes"])
    run(commands.setup, "--write", "--client", "codex")
    assert json.loads(run(commands.set_model, "glm-5", "--json").stdout)["clients"][0]["notes"] == [
        "your profile p overrides model: change it there, or remove profile"
    ]


def test_the_users_choice_outlives_setup_uninstall_and_setup_again(place: Path) -> None:
    run(commands.setup, "--write")
    for client in ("codex", "claude"):
        run(commands.set_model, "glm-5.1", "--client", client)
    run(commands.setup, "--write", "--force")
    codex, claude = place / ".codex" / "config.toml", place / ".claude" / "settings.json"
    assert tomllib.loads(codex.read_text())["model"] == "glm-5.1"
    assert json.loads(claude.read_text())["env"]["ANTHROPIC_MODEL"] == "glm-5.1"
    codex.write_text(codex.read_text().replace("glm-5.1", "glm-4.7"))
    run(commands.setup, "--write")
    run(commands.uninstall, "--yes", "--client", "codex")
    assert tomllib.loads(codex.read_text()) == {"model": "glm-4.7"}


def test_set_model_on_a_missing_file_seeds_the_provider(place: Path) -> None:
    run(commands.set_model, "glm-5.1")
    tree = tomllib.loads((place / ".codex" / "config.toml").read_text())
    assert (tree["model"], tree["model_provider"]) == ("glm-5.1", "dragoman")
    assert "auth" in tree["model_providers"]["dragoman"]
    run(commands.set_model, "glm-5.1", "--client", "claude")
    env = json.loads((place / ".claude" / "settings.json").read_text())["env"]
    assert (env["ANTHROPIC_MODEL"], env["ANTHROPIC_BASE_URL"]) == ("glm-5.1", "http://127.0.0.1:4891")


def test_set_model_seeds_the_provider_even_when_only_the_embedded_model_is_there(place: Path) -> None:
    (place / "d" / "dragoman.toml").unlink()
    for client in ("codex", "claude"):
        run(commands.set_model, "rehearsal", "--client", client)
    tree = tomllib.loads((place / ".codex" / "config.toml").read_text())
    assert (tree["model"], tree["model_provider"]) == ("rehearsal", "dragoman")
    assert "apiKeyHelper" in json.loads((place / ".claude" / "settings.json").read_text())


def test_a_users_choice_survives_another_setup(place: Path) -> None:
    run(commands.setup, "--write", "--client", "codex")
    run(commands.set_model, "glm-5.1")
    run(commands.setup, "--write", "--client", "codex")
    assert tomllib.loads((place / ".codex" / "config.toml").read_text())["model"] == "glm-5.1"


def test_print_config_is_toml_to_paste(place: Path) -> None:
    tree = tomllib.loads(run(commands.print_config, "--source", "/opt/dragoman").stdout)
    assert "/opt/dragoman" in tree["model_providers"]["dragoman"]["auth"]["args"]
    assert set(tomllib.loads(run(commands.print_config, "--project").stdout)) == {"mcp_servers"}


def test_a_port_that_changes_cannot_be_written_down(place: Path) -> None:
    (place / "d" / "dragoman.toml").write_text("[gateway]\nport = 0\n")
    with pytest.raises(DragomanError, match="no fixed port"):
        run(commands.setup, "--write")

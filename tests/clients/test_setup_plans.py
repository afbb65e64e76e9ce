from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dragoman.clients.editing import lookup
from dragoman.clients.json_edit import JsonText
from dragoman.clients.setup_claude import (
    claude_known,
    claude_settings_file,
    plan_claude,
    plan_claude_model,
)
from dragoman.clients.setup_codex import (
    USUAL_PARTS,
    Program,
    SetupPlan,
    codex_config_file,
    codex_known,
    plan_codex,
    plan_codex_model,
)
from dragoman.clients.setup_record import plan_setup, plan_uninstall
from dragoman.clients.toml_edit import TomlText

URL = "http://127.0.0.1:4891"
PROGRAM = Program("/opt/bin/dragoman")


def codex(text: str = "", **options: Any) -> tuple[SetupPlan, dict[str, Any]]:
    document = TomlText(text)
    given: dict[str, Any] = {"url": URL, "program": PROGRAM, "default_model": "glm-5.2"}
    given |= {"has_route": {"glm-5.2", "glm-5.1"}.__contains__, "parts": ("provider", "mcp"), **options}
    plan = plan_codex(document.tree, **given)
    return plan, plan_setup(document, plan.wishes)[0].tree


def test_codex_gets_a_provider_that_catalogues_and_asks_for_its_token() -> None:
    plan, tree = codex()
    provider = tree["model_providers"]["dragoman"]
    assert provider["name"] != "OpenAI"
    assert provider["base_url"] == f"{URL}/v1"
    assert provider["model_catalog_url"] == f"{URL}/v1/models"
    assert provider["auth"] == {
        "command": "/opt/bin/dragoman",
        "args": ["token", "--ensure"],
        "timeout_ms": 15_000,
    }
    assert (provider["request_max_retries"] + 1) * (provider["stream_max_retries"] + 1) <= 10
    assert tree["features"]["unbounded_connection_retries"] is False
    assert (tree["model_provider"], tree["model"]) == ("dragoman", "glm-5.2")
    assert tree["mcp_servers"]["dragoman"]["command"] == "/opt/bin/dragoman"
    assert plan.selected
    assert plan.notes == ()


def test_unasked_codex_gets_the_tools_and_may_hand_out_a_task_but_not_write_into_the_users_files() -> None:
    _, tree = codex(parts=USUAL_PARTS)
    assert tree["mcp_servers"]["dragoman"]["args"] == ["mcp"]
    assert tree["mcp_servers"]["dragoman"]["tools"] == {"claude_task": {"approval_mode": "approve"}}


def test_what_the_user_said_about_calling_our_tools_is_kept() -> None:
    own = "[mcp_servers.dragoman.tools.claude_apply]\napproval_mode = 'prompt'\n"
    server = codex(own)[1]["mcp_servers"]["dragoman"]
    assert server["tools"] == {
        "claude_apply": {"approval_mode": "prompt"},
        "claude_task": {"approval_mode": "approve"},
    }
    general = "[mcp_servers.dragoman]\ndefault_tools_approval_mode = 'prompt'\n"
    assert "tools" not in codex(general)[1]["mcp_servers"]["dragoman"]


def test_a_home_of_ones_own_reaches_the_programs_codex_starts() -> None:
    _, tree = codex(program=Program("/opt/bin/dragoman", home="/data/d"), allow_roots=["/a", "/b"])
    auth = tree["model_providers"]["dragoman"]["auth"]
    assert [auth["command"], *auth["args"]] == [
        "/usr/bin/env",
        "DRAGOMAN_HOME=/data/d",
        "/opt/bin/dragoman",
        "token",
        "--ensure",
    ]
    assert tree["mcp_servers"]["dragoman"]["env"] == {
        "DRAGOMAN_HOME": "/data/d",
        "CODEX_CLAUDE_ALLOW_ROOTS": "/a:/b",
    }


def test_the_users_model_is_kept_when_it_has_a_route() -> None:
    _, tree = codex('model = "glm-5.1"\nmodel_provider = "openai"\n')
    assert (tree["model_provider"], tree["model"]) == ("dragoman", "glm-5.1")


def test_a_model_without_a_route_leaves_the_users_choice_alone_and_says_so() -> None:
    plan, tree = codex('model = "gpt-6-sol"\n')
    assert "model_provider" not in tree
    assert tree["model"] == "gpt-6-sol"
    assert "dragoman" in tree["model_providers"]
    assert not plan.selected
    assert "gpt-6-sol has no route" in plan.notes[0]


def test_without_a_provider_nothing_is_selected() -> None:
    plan, tree = codex(default_model=None)
    assert not {"model", "model_provider"} & set(tree)
    assert "dragoman providers add" in plan.notes[0]


def test_only_one_part_can_be_written() -> None:
    assert set(codex(parts=["mcp"])[1]) == {"mcp_servers"}
    assert "mcp_servers" not in codex(parts=["provider"])[1]


def test_what_the_user_set_on_our_mcp_server_stays() -> None:
    text = "[mcp_servers.dragoman]\ncommand = 'old'\nenv = { A = 'b' }\n"
    text += "[mcp_servers.dragoman.tools.claude_apply]\n"
    _, tree = codex(text + "approval_mode = 'approve'\n", program=Program("/d", home="/h"))
    server = tree["mcp_servers"]["dragoman"]
    assert server["tools"]["claude_apply"] == {"approval_mode": "approve"}
    assert server["env"] == {"A": "b", "DRAGOMAN_HOME": "/h"}
    assert server["command"] == "/d"


def test_a_rival_server_and_an_overriding_profile_are_named() -> None:
    plan, _ = codex(
        "profile = 'p'\n[profiles.p]\nmodel = 'x'\n[mcp_servers.claude_delegate]\ncommand = 'c'\n"
    )
    assert any("profile p overrides model" in note for note in plan.notes)
    assert any("claude_delegate" in note for note in plan.notes)
    assert "profile p" in plan_codex_model({"profile": "p", "profiles": {"p": {"model": "x"}}}, "m").notes[0]


def test_setting_the_model_touches_one_key() -> None:
    document = TomlText("model = 'a' # mine\n[t]\nx = 1\n")
    new, _ = plan_setup(document, plan_codex_model(document.tree, "glm-5.1").wishes)
    assert new.text == document.text.replace("'a'", '"glm-5.1"')


def test_what_is_surely_ours_in_codex_is_found_without_a_record() -> None:
    text = "# keep\n[t]\nx = 1\n"
    document = TomlText(text)
    plan = plan_codex(document.tree, url=URL, program=PROGRAM, default_model=None, has_route=lambda _: False)
    new, _ = plan_setup(document, plan.wishes)
    back = plan_uninstall(new, codex_known())
    assert back.tree == {**tomllib.loads(text), "features": {"unbounded_connection_retries": False}}


def claude(text: str = "{}", default_model: str | None = "glm-5.2") -> tuple[SetupPlan, dict[str, Any]]:
    document = JsonText(text)
    plan = plan_claude(document.tree, url=URL, program=Program("/opt/my bin/d"), default_model=default_model)
    return plan, plan_setup(document, plan.wishes)[0].tree


def test_claude_code_gets_the_address_a_token_command_and_a_model() -> None:
    plan, tree = claude()
    assert tree["env"]["ANTHROPIC_BASE_URL"] == URL
    assert tree["env"]["ANTHROPIC_MODEL"] == "glm-5.2"
    assert shlex.split(tree["apiKeyHelper"]) == ["/opt/my bin/d", "token", "--ensure"]
    assert plan.selected


@pytest.mark.parametrize("text", ['{"model": "opus"}', '{"env": {"ANTHROPIC_MODEL": "opus"}}'])
def test_the_model_chosen_in_claude_code_stays(text: str) -> None:
    _, tree = claude(text)
    assert "glm-5.2" not in str(tree)


def test_a_token_in_the_settings_is_set_aside_and_said() -> None:
    plan, tree = claude('{"env": {"ANTHROPIC_AUTH_TOKEN": "secret", "X": "y"}}')
    assert lookup(tree, ("env", "ANTHROPIC_AUTH_TOKEN")) is None
    assert "ANTHROPIC_AUTH_TOKEN is set aside" in plan.notes[0]
    assert "secret" not in plan.notes[0]


def test_claude_code_stays_as_it_is_without_a_provider() -> None:
    plan, tree = claude(default_model=None)
    assert tree == {}
    assert not plan.selected


def test_setting_claude_codes_model_touches_one_key_and_names_the_one_that_loses() -> None:
    plan = plan_claude_model({"model": "opus"}, "glm-5.1")
    assert [wish.path for wish in plan.wishes] == [("env", "ANTHROPIC_MODEL")]
    assert plan.notes
    assert claude_known(URL)[0].written == URL


def test_the_files_are_found_where_the_clients_look() -> None:
    assert codex_config_file({"HOME": "/h"}) == Path("/h/.codex/config.toml")
    assert codex_config_file({"HOME": "/h", "CODEX_HOME": "/c"}) == Path("/c/config.toml")
    assert codex_config_file({}, project=Path("/p")) == Path("/p/.codex/config.toml")
    assert claude_settings_file({"HOME": "/h"}) == Path("/h/.claude/settings.json")
    assert claude_settings_file({"CLAUDE_CONFIG_DIR": "/c"}) == Path("/c/settings.json")
    assert claude_settings_file({}, project=Path("/p")) == Path("/p/.claude/settings.json")

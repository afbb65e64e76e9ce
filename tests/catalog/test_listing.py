from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dragoman.catalog.listing import (
    ListedModel,
    anthropic_body,
    anthropic_model_body,
    codex_body,
    codex_instructions,
    openai_body,
    openai_model_body,
)

GLM = ListedModel(
    name="glm-5.2",
    display_name="GLM-5.2",
    provider="zai",
    context_window=200_000,
    max_output_tokens=131_072,
    efforts=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    default_effort="high",
)
PLAIN = ListedModel(
    name="claude-x", display_name="X", provider="p", input_modalities=("text", "image", "pdf")
)

# What codex-cli 0.163 and 0.169 refuse to do without.
REQUIRED = {
    "slug": str,
    "display_name": str,
    "supported_reasoning_levels": list,
    "shell_type": str,
    "visibility": str,
    "supported_in_api": bool,
    "priority": int,
    "support_verbosity": bool,
    "truncation_policy": dict,
    "experimental_supported_tools": list,
    "base_instructions": str,
}


def infos(*models: ListedModel) -> list[dict[str, Any]]:
    return json.loads(codex_body(models))["models"]


def test_codex_gets_every_field_it_requires_for_every_model() -> None:
    for info in infos(GLM, PLAIN):
        for field, kind in REQUIRED.items():
            assert isinstance(info[field], kind), field
        assert info["apply_patch_tool_type"] == "freeform"
        assert info["supports_search_tool"] is False
        assert info["use_responses_lite"] is False


def test_codex_learns_window_modalities_and_efforts() -> None:
    glm, plain = infos(GLM, PLAIN)
    assert (glm["context_window"], glm["default_reasoning_level"], glm["priority"]) == (200_000, "high", 1)
    assert glm["input_modalities"] == ["text"]
    assert [level["effort"] for level in glm["supported_reasoning_levels"]] == list(GLM.efforts)
    assert plain["input_modalities"] == ["text", "image"]
    assert "context_window" not in plain
    assert "default_reasoning_level" not in plain
    assert plain["supported_reasoning_levels"] == []


def test_the_instructions_tell_how_to_patch_and_can_be_replaced() -> None:
    text = codex_instructions()
    assert "*** Begin Patch" in text
    assert len(text) < 6_000
    assert json.loads(codex_body([GLM], instructions="Mine."))["models"][0]["base_instructions"] == "Mine."


def test_openai_clients_get_a_list_of_models() -> None:
    body = json.loads(openai_body([GLM, PLAIN]))
    assert body["object"] == "list"
    assert [(m["id"], m["object"], m["owned_by"]) for m in body["data"]] == [
        ("glm-5.2", "model", "zai"),
        ("claude-x", "model", "p"),
    ]
    assert json.loads(openai_model_body(GLM))["id"] == "glm-5.2"


def test_anthropic_clients_find_each_model_under_a_claude_name_too() -> None:
    body = json.loads(anthropic_body([GLM, PLAIN]))
    assert [m["id"] for m in body["data"]] == ["glm-5.2", "claude-glm-5.2", "claude-x"]
    assert {m["type"] for m in body["data"]} == {"model"}
    assert body["data"][1]["display_name"] == "GLM-5.2"
    assert (body["first_id"], body["last_id"], body["has_more"]) == ("glm-5.2", "claude-x", False)
    assert json.loads(anthropic_model_body(GLM, "claude-glm-5.2"))["id"] == "claude-glm-5.2"
    assert json.loads(anthropic_body([])) == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


def test_official_clients_read_the_lists() -> None:
    from anthropic.types import ModelInfo as AnthropicModel
    from openai.types import Model as OpenAIModel

    for entry in json.loads(anthropic_body([GLM, PLAIN]))["data"]:
        assert AnthropicModel.model_validate(entry, strict=False).display_name
    for entry in json.loads(openai_body([GLM, PLAIN]))["data"]:
        assert OpenAIModel.model_validate(entry).id


@pytest.mark.real_client
def test_the_real_codex_accepts_the_catalogue(tmp_path: Path) -> None:
    codex_cli_bin = pytest.importorskip("codex_cli_bin")
    codex = Path(codex_cli_bin.__file__).parent / "bin" / "codex"
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_bytes(codex_body([GLM, PLAIN]))
    home = tmp_path / "codex-home"
    home.mkdir()
    (home / "config.toml").write_text(f"model_catalog_json = {json.dumps(str(catalogue))}\n")
    env = {"HOME": str(tmp_path), "CODEX_HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [str(codex), "debug", "models"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    known = {model["slug"]: model for model in json.loads(done.stdout)["models"]}
    assert set(known) == {"glm-5.2", "claude-x"}
    assert known["glm-5.2"]["apply_patch_tool_type"] == "freeform"
    levels = [level["effort"] for level in known["glm-5.2"]["supported_reasoning_levels"]]
    assert levels == list(GLM.efforts)

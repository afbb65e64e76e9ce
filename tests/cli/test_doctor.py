from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dragoman.cli.doctor import doctor
from dragoman.clients.checks import check_clients
from dragoman.clients.claude_code import ClaudeCode, ClaudeFeatures
from dragoman.config.schema import Config


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "ZAI_API_KEY",
        "ZAI_BASE_URL",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DRAGOMAN_HOME", str(tmp_path / "d"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    return tmp_path


def look(*words: str) -> tuple[bool, dict[str, Any]]:
    result = CliRunner().invoke(doctor, ["--json", *words], standalone_mode=False)
    assert result.exception is None, result.exception
    told = json.loads(result.stdout)
    assert bool(result.return_value) is not told["ok"]
    assert told["ok"] is all(finding["verdict"] != "fail" for finding in told["findings"])
    assert all(finding["fix"] for finding in told["findings"] if finding["verdict"] in ("warn", "fail"))
    return told["ok"], {finding["name"]: finding for finding in told["findings"]}


def test_a_fresh_machine_is_fine_offline_and_told_what_to_add(place: Path) -> None:
    fine, found = look("--offline")
    assert fine
    assert found["providers"]["fix"] == "dragoman providers add"
    assert found["gateway"]["verdict"] == "skip"
    assert found["git"]["verdict"] == "ok"


def test_without_a_daemon_the_gateway_is_skipped_not_failed(place: Path) -> None:
    fine, found = look()
    assert fine
    assert found["gateway"]["fix"] == "dragoman serve"
    assert found["setup.codex"]["verdict"] == "skip"


def test_a_missing_key_of_the_only_provider_fails_with_its_fix(place: Path) -> None:
    (place / "d" / "dragoman.toml").write_text("[providers.zai]\n")
    fine, found = look("--offline")
    assert not fine
    assert found["keys.zai"] == {
        "name": "keys.zai",
        "verdict": "fail",
        "text": "no key was found",
        "fix": "dragoman keys set zai",
        "details": [],
    }


def test_a_key_is_found_and_never_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAI_API_KEY", "s3cret-s3cret")
    result = CliRunner().invoke(doctor, ["--offline", "-v"], standalone_mode=False)
    assert "environment ZAI_API_KEY" in result.stdout
    assert "s3cret" not in result.stdout
    assert "translated from responses to messages" in result.stdout


def test_a_key_out_of_reach_fails_with_the_command_that_mends_it(place: Path) -> None:
    (place / "key").mkdir()
    (place / "d" / "dragoman.toml").write_text("[providers.zai]\nkeys = [{ file = '~/key' }]\n")
    fine, found = look("--offline")
    assert not fine
    assert found["keys.zai"]["text"] == f"the key file {place / 'key'} cannot be read: is a directory"


def test_a_name_of_codexs_own_given_to_another_vendors_model_is_a_warning(place: Path) -> None:
    (place / "d" / "dragoman.toml").write_text(
        "[gateway]\ndefault_provider = 'ollama'\n[providers.ollama]\n"
        "[models.'gpt-5.6-codex']\nprovider = 'ollama'\nupstream = 'qwen3'\n"
    )
    fine, found = look("--offline")
    assert fine
    assert found["names"]["verdict"] == "warn"
    assert "gpt-5.6-codex" in found["names"]["text"]


def test_a_broken_configuration_is_one_finding_with_its_line(place: Path) -> None:
    (place / "d" / "dragoman.toml").write_text("[gateway]\nprot = 1\n")
    fine, found = look("--offline")
    assert not fine
    assert "dragoman.toml:2: gateway.prot" in found["config"]["text"]


def test_files_with_secrets_that_others_can_read_fail(place: Path) -> None:
    (place / ".env").write_text("ZAI_API_KEY=x")
    (place / ".env").chmod(0o644)
    fine, found = look("--offline")
    assert not fine
    assert found["files"]["fix"] == f"chmod 600 {place / '.env'}"


def test_clients_that_lead_elsewhere_or_lose_to_the_shell_are_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / ".codex").mkdir()
    (place / ".codex" / "config.toml").write_text(
        "[model_providers.dragoman]\nbase_url = 'http://127.0.0.1:1/v1'\n"
    )
    (place / ".claude").mkdir()
    (place / ".claude" / "settings.json").write_text(
        '{"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:4891"}}'
    )
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    fine, found = look()
    assert fine
    assert found["setup.codex"]["verdict"] == "warn"
    assert found["setup.codex"]["fix"] == "dragoman setup --write"
    assert found["setup.claude"]["verdict"] == "ok"
    assert "ANTHROPIC_API_KEY in your shell" in found["setup.shell"]["text"]


def test_the_clients_are_told_with_version_and_features(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = ClaudeFeatures(
        safe_mode=True, permission_prompts=True, manual_mode=False, scrub_needs_bubblewrap=False
    )
    there = ClaudeCode(Path("/bin/claude"), "path", (2, 1, 329), features, ("/opt/claude is broken",))
    monkeypatch.setattr("dragoman.clients.checks.find_claude_code", lambda *_: there)
    monkeypatch.setenv("PATH", "/nowhere")
    found = {finding.name: finding for finding in check_clients({}, Config())}
    assert found["claude"].text == "2.1.329 at /bin/claude"
    assert found["claude"].details == ("understands: safe mode, permission prompts", "/opt/claude is broken")

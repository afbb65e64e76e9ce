from __future__ import annotations

import json
from typing import Any

import pytest

from dragoman.cli import smoke
from dragoman.clients import claude_code
from dragoman.config.paths import resolve_home
from dragoman.config.schema import Config


def test_smoke_asks_the_default_provider_as_both_clients_and_says_what_that_proves(
    empty_home: Any, provider_url: str
) -> None:
    empty_home.config.parent.mkdir()
    wires = f"preset = 'zai'\nwires.messages = '{provider_url}'\nwires.chat = '{provider_url}/v1'\n"
    empty_home.config.write_text(f"[gateway]\ndefault_provider = 'zai'\n[providers.zai]\n{wires}")
    refused = empty_home.dragoman("smoke", "--json")
    told = json.loads(refused.stdout)
    assert (refused.returncode, told["ok"]) == (1, False)
    assert all("key" in trial["error"] for trial in told["trials"])
    assert not (empty_home.root / ".codex").exists()

    assert empty_home.dragoman("keys", "set", "zai", text="zk-1\n").returncode == 0
    assert empty_home.dragoman("stop", "--now").returncode == 0
    done = empty_home.dragoman("smoke")
    assert done.returncode == 0, done.stdout
    assert "OK    glm-5.2 as Codex asks: zai over responses, translated to messages" in done.stdout
    assert "OK    glm-5.2 as Claude Code asks: zai over messages:" in done.stdout
    assert "OK    one packet, read-only, by a worker: " in done.stdout
    assert "dragoman doctor" in done.stdout

    checked = json.loads(empty_home.dragoman("providers", "check", "zai", "--json").stdout)
    assert [(trial["client_wire"], trial["wire"], trial["ok"]) for trial in checked["trials"]] == [
        ("messages", "messages", True),
        ("chat", "chat", True),
    ]


def test_smoke_without_a_provider_says_that_only_the_embedded_model_was_asked(empty_home: Any) -> None:
    done = empty_home.dragoman("smoke")
    assert done.returncode == 0
    assert "no provider was reached" in done.stdout
    assert "OK    one packet, read-only, by a worker: " in done.stdout
    assert "no provider is configured" in empty_home.dragoman("providers", "check").stdout


def test_a_worker_that_is_configured_and_missing_fails_the_smoke_test(empty_home: Any) -> None:
    empty_home.config.parent.mkdir(exist_ok=True)
    empty_home.config.write_text('[clients]\nclaude = "/nowhere/claude"\n')
    done = empty_home.dragoman("smoke")
    assert done.returncode == 1
    assert "FAIL  one packet, read-only, by a worker: the configuration names /nowhere/claude" in done.stdout


def test_without_any_worker_no_packet_is_delegated(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise claude_code.ClaudeCodeMissing("there is no Claude Code")

    monkeypatch.setattr(claude_code, "find_claude_code", missing)
    home = resolve_home({"DRAGOMAN_HOME": "/nowhere", "HOME": "/nowhere"})
    told = smoke._delegate(home, Config(), "m")  # pyright: ignore[reportPrivateUsage]
    assert (told["status"], told["error"]) == ("skipped", "there is no Claude Code")


def test_a_provider_whose_models_nobody_knows_is_checked_once_a_model_is_named(
    empty_home: Any, provider_url: str
) -> None:
    empty_home.config.parent.mkdir()
    empty_home.config.write_text(f"[providers.mine]\nwires.responses = '{provider_url}/v1'\n")
    done = empty_home.dragoman("providers", "check")
    assert done.returncode == 1
    assert "next: dragoman providers check mine --model NAME" in done.stdout
    done = empty_home.dragoman("smoke")
    assert done.returncode == 1
    assert "next: dragoman smoke --model mine/NAME" in done.stderr
    done = empty_home.dragoman("providers", "check", "mine", "--model", "any")
    assert done.returncode == 0, done.stdout
    assert "mine over responses:" in done.stdout
    assert empty_home.dragoman("providers", "check", "mien").returncode == 2

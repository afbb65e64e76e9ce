"""The user's own login for a worker: theirs in place of ours, and nothing of ours left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman.workers.own_login import open_own_login

if TYPE_CHECKING:
    from tests.workers.conftest import Stage

PLANNED = {
    "HOME": "/run/home",
    "CLAUDE_CONFIG_DIR": "/run/claude",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:4891",
    "ANTHROPIC_AUTH_TOKEN": "run-token",
    "ANTHROPIC_CUSTOM_HEADERS": "x-dragoman-run: r",
    "ANTHROPIC_MODEL": "opus",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "NO_PROXY": "127.0.0.1",
    "PATH": "/usr/bin",
}


def test_nothing_of_the_gateway_is_left_and_the_users_own_is_there() -> None:
    env = {
        "ANTHROPIC_BASE_URL": "https://their.own",
        "ANTHROPIC_API_KEY": "their-key",
        "HTTPS_PROXY": "http://proxy",
        "OPENAI_API_KEY": "other",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "0",
    }
    got = open_own_login(PLANNED, env, user_home=Path("/home/u"))
    assert got["HOME"] == "/home/u"
    assert got["ANTHROPIC_BASE_URL"] == "https://their.own"
    assert got["ANTHROPIC_API_KEY"] == "their-key"
    assert got["HTTPS_PROXY"] == "http://proxy"
    assert got["CLAUDE_CODE_DISABLE_BACKGROUND_TASKS"] == "1"
    assert "run-token" not in got.values()
    assert not {"CLAUDE_CONFIG_DIR", "ANTHROPIC_CUSTOM_HEADERS", "OPENAI_API_KEY", "NO_PROXY"} & set(got)


def test_a_worker_with_its_own_login_gets_neither_our_token_nor_our_address(
    stage: Stage, tmp_path: Path
) -> None:
    stage.worker = replace(stage.worker, login="own", user_home=tmp_path / "theirs")
    stage.task = replace(stage.task, environment={"FAKE_NOTES": str(stage.notes)})
    play = stage.play("normal")
    environment = json.loads(play.noted("environment.json"))
    assert play.outcome.status == "finished"
    assert environment["HOME"] == str(tmp_path / "theirs")
    assert stage.task.token not in json.dumps(environment)
    assert "ANTHROPIC_BASE_URL" not in environment
    assert environment["DRAGOMAN_RUN"] == stage.task.run_id
    assert "--setting-sources=user" in json.loads(play.noted("argv.json"))

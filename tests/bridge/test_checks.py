"""What `doctor` says about the bridge."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dragoman.bridge.checks import check_bridge
from dragoman.bridge.supervisor import ensure_supervisor
from dragoman.config.load import load_config
from dragoman.config.paths import Home, resolve_home


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "DRAGOMAN_HOME": str(tmp_path / "h"), "PATH": os.defpath}


@pytest.fixture
def home(env: dict[str, str]) -> Home:
    home = resolve_home(env)
    home.ensure()
    return home


def claude(tmp_path: Path, version: str) -> str:
    program = tmp_path / "claude"
    flags = "--tools --settings --setting-sources --strict-mcp-config --permission-mode dontAsk"
    flags += " --input-format --output-format stream-json"
    program.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo '{version} (Claude Code)' || echo '{flags}'\n")
    program.chmod(0o700)
    return str(program)


def look(
    home: Home, env: dict[str, str], tmp_path: Path, **how: object
) -> dict[str, tuple[str, str, str | None]]:
    config = load_config(home, env)
    found = check_bridge(home, env, config, project=tmp_path, **how)  # pyright: ignore[reportArgumentType]
    return {one.name: (one.verdict, one.text, one.fix) for one in found}


def test_a_machine_that_is_ready_says_so(home: Home, env: dict[str, str], tmp_path: Path) -> None:
    env["CLAUDE_BIN"] = claude(tmp_path, "2.1.329")
    ensure_supervisor(home.state / "supervisor")
    found = look(home, env, tmp_path)
    assert {name: verdict for name, (verdict, _, _) in found.items()} == dict.fromkeys(
        ("bridge.claude", "bridge.hooks", "bridge.terminal", "bridge.rules"), "ok"
    )
    assert "2.1.329" in found["bridge.claude"][1]


@pytest.mark.parametrize(
    ("version", "verdict", "words"),
    [("2.1.100", "warn", "older"), ("2.2.0", "ok", "measured with 2.1.197, 2.1.329")],
)
def test_a_version_nobody_measured_is_named(
    version: str, verdict: str, words: str, home: Home, env: dict[str, str], tmp_path: Path
) -> None:
    env["CLAUDE_BIN"] = claude(tmp_path, version)
    told = look(home, env, tmp_path)["bridge.claude"]
    assert (told[0], words in told[1]) == (verdict, True)


def test_no_claude_code_means_no_lead(home: Home, env: dict[str, str], tmp_path: Path) -> None:
    env["CLAUDE_BIN"] = str(tmp_path / "nothing")
    verdict, text, fix = look(home, env, tmp_path)["bridge.claude"]
    assert (verdict, "cannot start" in text, bool(fix)) == ("warn", True, True)


@pytest.mark.parametrize("name", ["home", "project"])
def test_hooks_that_are_switched_off_are_noticed(
    name: str, home: Home, env: dict[str, str], tmp_path: Path
) -> None:
    project = tmp_path / "project"
    file = (tmp_path if name == "home" else project) / ".claude" / "settings.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"disableAllHooks": true}')
    verdict, text, _ = look(home, env, project)["bridge.hooks"]
    assert (verdict, str(file) in text) == ("warn", True)


def test_a_machine_without_terminals_fails(home: Home, env: dict[str, str], tmp_path: Path) -> None:
    def none() -> tuple[int, int]:
        raise OSError(errno.ENOENT, "No such file or directory")

    verdict, text, _ = look(home, env, tmp_path, open_terminal=none)["bridge.terminal"]
    assert (verdict, "No such file" in text) == ("fail", True)


def test_rules_of_another_version_are_stale_and_none_are_no_fault(
    home: Home, env: dict[str, str], tmp_path: Path
) -> None:
    assert look(home, env, tmp_path)["bridge.rules"][0] == "skip"
    folder = home.state / "supervisor"
    ensure_supervisor(folder)
    (folder / "AGENTS.md").write_text("older rules")
    verdict, _, fix = look(home, env, tmp_path)["bridge.rules"]
    assert (verdict, fix) == ("warn", "dragoman migrate-supervisor")

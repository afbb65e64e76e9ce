"""Finding Claude Code: the order, the refusals, and what each version understands."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman.clients import program as program_module
from dragoman.clients.claude_code import (
    ClaudeCodeMissing,
    ClaudeCodeTooOld,
    bundled_binary,
    find_claude_code,
)
from dragoman.clients.program import absolute_path

HELP = """\
  --tools <tools...>   --settings <file>   --setting-sources <s>   --strict-mcp-config
  --permission-mode <mode>  (choices: "acceptEdits", "dontAsk", "plan")
  --input-format <format>   --output-format <format>  "stream-json"   --safe-mode
"""


class Programs:
    """Pretends to run programs; counts the questions."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.help = HELP
        self.asked: list[tuple[str, str]] = []

    def make(self, path: Path, version: str = "2.1.329 (Claude Code)", *, mode: int = 0o755) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(version)
        path.chmod(mode)
        self.versions[str(path)] = version
        return path

    def ask(self, path: Path, argument: str) -> str:
        self.asked.append((path.name, argument))
        return self.help if argument == "--help" else self.versions[str(path)]


@pytest.fixture
def programs() -> Programs:
    return Programs()


def test_the_configuration_wins_over_everything(programs: Programs, tmp_path: Path) -> None:
    configured = programs.make(tmp_path / "a" / "claude")
    env = {"CLAUDE_BIN": str(programs.make(tmp_path / "b" / "claude")), "PATH": str(tmp_path / "b")}
    found = find_claude_code(str(configured), env, ask=programs.ask, bundled=lambda: None)
    assert (found.path, found.source, found.version_text) == (configured, "config", "2.1.329")


def test_claude_bin_wins_over_path_and_our_own_name_over_it(programs: Programs, tmp_path: Path) -> None:
    ours, theirs, on_path = (programs.make(tmp_path / name / "claude") for name in "abc")
    env = {"CLAUDE_BIN": str(theirs), "PATH": str(on_path.parent)}
    assert find_claude_code(None, env, ask=programs.ask).path == theirs
    assert find_claude_code(None, env, ask=programs.ask).source == "environment"
    env["DRAGOMAN_CLAUDE_BIN"] = str(ours)
    assert find_claude_code(None, env, ask=programs.ask).path == ours


def test_path_wins_over_the_extra_and_the_extra_is_last(programs: Programs, tmp_path: Path) -> None:
    on_path, extra = programs.make(tmp_path / "bin" / "claude"), programs.make(tmp_path / "extra" / "claude")
    env = {"PATH": str(on_path.parent)}
    assert find_claude_code(None, env, ask=programs.ask, bundled=lambda: extra).source == "path"
    assert find_claude_code(None, {"PATH": ""}, ask=programs.ask, bundled=lambda: extra).path == extra


def test_a_command_name_in_the_configuration_is_looked_up_on_path(programs: Programs, tmp_path: Path) -> None:
    program = programs.make(tmp_path / "claude-next")
    found = find_claude_code("claude-next", {"PATH": str(tmp_path)}, ask=programs.ask)
    assert found.path == program


def test_a_relative_entry_of_path_is_never_searched(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.make(tmp_path / "claude")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClaudeCodeMissing):
        find_claude_code(None, {"PATH": ".:"}, ask=programs.ask, bundled=lambda: None)
    assert absolute_path("/a::.:b:/c") == "/a:/c"


def test_no_claude_code_anywhere_is_one_sentence_and_the_next_command(programs: Programs) -> None:
    with pytest.raises(ClaudeCodeMissing) as caught:
        find_claude_code(None, {}, ask=programs.ask, bundled=lambda: None)
    assert caught.value.code == "worker_not_found"
    assert "no Claude Code found" in caught.value.message
    assert "npm install" in (caught.value.hint or "")


@pytest.mark.parametrize("named", ["/nowhere/claude", "no-such-command"])
def test_a_named_program_that_is_missing_is_not_replaced_by_another(
    programs: Programs, tmp_path: Path, named: str
) -> None:
    extra = programs.make(tmp_path / "claude")
    with pytest.raises(ClaudeCodeMissing, match="the configuration names"):
        find_claude_code(named, {}, ask=programs.ask, bundled=lambda: extra)
    with pytest.raises(ClaudeCodeMissing, match="CLAUDE_BIN names"):
        find_claude_code(None, {"CLAUDE_BIN": named}, ask=programs.ask, bundled=lambda: extra)


def test_a_program_that_is_not_executable_is_told_with_the_command_that_mends_it(
    programs: Programs, tmp_path: Path
) -> None:
    program = programs.make(tmp_path / "claude", mode=0o644)
    with pytest.raises(ClaudeCodeMissing) as caught:
        find_claude_code(str(program), {}, ask=programs.ask)
    assert caught.value.hint == f"chmod +x {program}"


def test_a_program_that_is_something_else_is_refused(programs: Programs, tmp_path: Path) -> None:
    program = programs.make(tmp_path / "claude", "command not found: node")
    with pytest.raises(ClaudeCodeMissing, match="not a working Claude Code"):
        find_claude_code(str(program), {}, ask=programs.ask)


def test_a_version_without_a_needed_flag_is_too_old(programs: Programs, tmp_path: Path) -> None:
    programs.help = HELP.replace("--setting-sources", "")
    program = programs.make(tmp_path / "claude", "1.0.3 (Claude Code)")
    with pytest.raises(ClaudeCodeTooOld) as caught:
        find_claude_code(str(program), {}, ask=programs.ask)
    assert "1.0.3" in caught.value.message
    assert "--setting-sources" in caught.value.message
    assert "claude update" in (caught.value.hint or "")


def test_a_bad_one_on_path_is_passed_over_for_the_extra_with_its_reason(
    programs: Programs, tmp_path: Path
) -> None:
    broken, extra = programs.make(tmp_path / "claude", "oops"), programs.make(tmp_path / "extra" / "claude")
    env = {"PATH": str(tmp_path)}
    found = find_claude_code(None, env, ask=programs.ask, bundled=lambda: extra)
    assert found.source == "clients extra"
    assert len(found.passed_over) == 1
    assert str(broken) in found.passed_over[0]
    with pytest.raises(ClaudeCodeMissing, match="not a working"):
        find_claude_code(None, env, ask=programs.ask, bundled=lambda: None)


def test_the_measured_versions_are_known_without_asking_for_help(programs: Programs, tmp_path: Path) -> None:
    old = find_claude_code(str(programs.make(tmp_path / "o", "2.1.197 (Claude Code)")), {}, ask=programs.ask)
    new = find_claude_code(str(programs.make(tmp_path / "n", "2.1.329 (Claude Code)")), {}, ask=programs.ask)
    assert not old.features.permission_prompts
    assert not old.features.manual_mode
    assert new.features.permission_prompts
    assert new.features.scrub_needs_bubblewrap
    assert [argument for _, argument in programs.asked] == ["--version", "--version"]


def test_an_unknown_version_is_asked_for_its_help(programs: Programs, tmp_path: Path) -> None:
    found = find_claude_code(str(programs.make(tmp_path / "c", "2.9.0 (Claude Code)")), {}, ask=programs.ask)
    assert [argument for _, argument in programs.asked] == ["--version", "--help"]
    assert found.features.safe_mode
    assert not found.features.permission_prompts


def test_a_program_is_asked_once_until_its_file_changes(programs: Programs, tmp_path: Path) -> None:
    program = programs.make(tmp_path / "claude")
    for _ in range(3):
        find_claude_code(str(program), {}, ask=programs.ask)
    assert len(programs.asked) == 1
    programs.make(program, "2.1.197 (Claude Code) ")
    assert find_claude_code(str(program), {}, ask=programs.ask).version == (2, 1, 197)


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_bytes(b"\x7fELFnot really")
    program.chmod(0o755)
    with pytest.raises(ClaudeCodeMissing, match="cannot be started"):
        find_claude_code(str(program), {})


def test_a_program_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_module, "_ASK_TIMEOUT_S", 0.2)
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o755)
    with pytest.raises(ClaudeCodeMissing, match="did not answer"):
        find_claude_code(str(program), {})


@pytest.mark.real_client
def test_the_one_of_the_clients_extra_is_found_without_importing_the_package() -> None:
    import subprocess
    import sys

    if bundled_binary() is None:
        pytest.skip("no Claude Code: install the `clients` extra")
    code = (
        "import sys; from dragoman.clients.claude_code import find_claude_code as f;"
        "c = f(None, {}); print(c.source, c.version_text, 'claude_agent_sdk' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    source, _, rest = done.stdout.partition(" extra ")
    assert source == "clients"
    assert rest.split()[1] == "False"

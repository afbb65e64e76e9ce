"""The program's front door: cheap to open, one shape for every error."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import click
import pytest

import dragoman
from dragoman.cli import commands, main


def _cpu_s(argv: list[str]) -> float:
    """User and system seconds of one process."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize(("words", "ceiling"), [(["--help"], 8.0), (["--version"], 6.0)])
def test_starting_costs_only_a_few_empty_interpreters(words: list[str], ceiling: float) -> None:
    empty = [sys.executable, "-c", "pass"]
    ours = [sys.executable, "-m", "dragoman.cli.main", *words]
    for argv in (empty, ours):  # write the bytecode caches first
        _cpu_s(argv)
    base = sum(_cpu_s(empty) for _ in range(12))
    cost = sum(_cpu_s(ours) for _ in range(12))
    assert cost <= ceiling * base, f"{words} costs {cost / base:.1f} empty interpreters, ceiling {ceiling}"


def test_help_and_version_import_neither_click_nor_a_room() -> None:
    program = "import sys; from dragoman.cli import main, commands; commands.overview(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    heavy = {"click", "rich", "httpx", "asyncio", "msgspec", "dragoman.gateway", "dragoman.config"}
    assert not heavy & set(loaded.split())


def test_version_is_the_packages_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"dragoman {dragoman.__version__}\n"


def test_a_mistyped_command_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["demmo"]) == 2
    assert "dragoman demo" in capsys.readouterr().err


def test_every_command_of_the_table_can_be_imported_and_takes_json() -> None:
    import click

    # The contract names these six: they pass all words on, or are a terminal or a protocol themselves.
    without_json = {"codex", "claude", "lead", "attach", "mcp", "completion"}
    group = commands.program()
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        assert command.name == name
        flags = {flag for parameter in command.params for flag in parameter.opts}
        children = command.commands.values() if isinstance(command, click.Group) else []
        for child in children:
            flags |= {flag for parameter in child.params for flag in parameter.opts}
        assert "--json" in flags or name in without_json, name


def test_a_terminal_that_lacks_a_sign_gets_another_in_its_place() -> None:
    program = "from dragoman.cli import main; main._write_what_can_be_written(); print('a \u2713 b')"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    said = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "a ? b\n")


def test_json_stays_whole_on_a_terminal_of_any_encoding() -> None:
    program = "from dragoman.cli.render import show_json; show_json({'sign': '\U0001f600 \u2713'})"
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    said = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert json.loads(said.stdout) == {"sign": "\U0001f600 \u2713"}


def test_a_folder_that_may_not_be_used_is_named_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def program() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere")

    monkeypatch.setattr(commands, "program", lambda: program)
    assert main.run([]) == 1
    assert capsys.readouterr().err == "dragoman: /somewhere: Permission denied\n  next: dragoman doctor\n"


def test_a_usage_error_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["demo", "--nope", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["error_code"] == "usage"
    assert "--nope" in told["error"]

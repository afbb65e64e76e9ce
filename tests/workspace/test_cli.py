"""The commands, as a user types them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest

from dragoman.cli import work
from dragoman.config.paths import resolve_home
from dragoman.errors import DragomanError, ExitCode
from dragoman.process.locks import FileLock
from dragoman.workspace import open_workspace


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose state folder is the one the user's workspaces are in."""
    monkeypatch.setenv("DRAGOMAN_HOME", str(tmp_path))
    return tmp_path


def run(command: Any, *words: str) -> int:
    """Run a command as the program does; its exit code."""
    try:
        answer = command.main(args=list(words), prog_name="x", standalone_mode=False)
    except DragomanError as error:
        return error.exit_code
    return answer if isinstance(answer, int) else ExitCode.OK


@pytest.fixture
def changed(user: Any) -> Any:
    """A workspace with a change."""
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    user.write("sub/new", "worker\n", at=workspace.path)
    return workspace


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was printed, as JSON."""
    return json.loads(capsys.readouterr().out)


def test_list_and_show(user: Any, changed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work.workspace) == 0
    assert str(user.root) in capsys.readouterr().out
    assert run(work.workspace, "list", "--json") == 0
    assert [item["id"] for item in said(capsys)["workspaces"]] == ["w"]
    assert run(work.workspace, "show", "w") == 0
    assert "M  a.txt  +1 -20" in capsys.readouterr().out
    assert run(work.workspace, "show", "w", "--json") == 0
    assert [change["file"] for change in said(capsys)["changes"]] == ["a.txt", "sub/new"]


def test_show_prints_a_patch_that_applies(
    user: Any, changed: Any, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(work.workspace, "show", "w", "--patch") == 0
    user.git("apply", "--check", "-", stdin=capfdbinary.readouterr().out)


def test_apply_by_preview_and_token(user: Any, changed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work.apply, "w", "--preview", "--json") == 0
    shown = said(capsys)
    assert {change["file"] for change in shown["planned_changes"]} == {"a.txt", "sub/new"}
    assert run(work.apply, "w", "--json") == 3
    assert said(capsys)["error_code"] == "confirmation_required"
    assert run(work.apply, "w", "--token", "0" * 64) == 4
    assert run(work.apply, "w", "--token", shown["preview_token"], "--json") == 0
    assert said(capsys)["applied_files"] == ["a.txt", "sub/new"]
    assert user.read("a.txt") == "worker\n"
    assert run(work.apply, "w", "--yes", "--json") == 0
    assert said(capsys)["already_applied"] is True


def test_apply_a_part_then_the_rest_with_cleanup(
    user: Any, changed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(work.apply, "w", "--yes", "--paths", "sub", "--cleanup") == 0
    assert "the workspace is kept: not applied: a.txt" in capsys.readouterr().out
    with pytest.raises(click.UsageError):
        run(work.apply, "w", "--yes", "sub")
    assert run(work.apply, "w", "--yes", "--json", "--cleanup", "--paths", "a.txt", "sub") == 0
    assert said(capsys)["cleanup_performed"] is True
    assert run(work.workspace, "list", "--trash", "--json") == 0
    assert [item["id"] for item in said(capsys)["workspaces"]] == ["w"]
    assert run(work.workspace, "restore", "w") == 0
    assert open_workspace(user.store, "w").path.is_dir()


def test_a_conflict_is_shown_and_ends_with_4(
    user: Any, changed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    user.write("a.txt", "user\n")
    assert run(work.apply, "w", "--yes") == 4
    assert "a.txt: you have uncommitted edits in it" in capsys.readouterr().out
    assert run(work.apply, "w", "--yes", "--on-dirty", "merge", "--json") == 4
    detail = said(capsys)["conflict_details"][0]
    assert (detail["kind"], detail["hunks"][0]["theirs"]) == ("content", "worker")
    assert user.read("a.txt") == "user\n"


def test_a_preview_refuses_words_that_would_write(changed: Any) -> None:
    for word in ("--yes", "--cleanup"):
        with pytest.raises(click.UsageError):
            run(work.apply, "w", "--preview", word)


def test_export_discard_and_cleanup(user: Any, changed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work.export, "w", "--branch", "topic", "--json") == 0
    assert said(capsys)["commit_sha"] == user.git("rev-parse", "topic")
    assert run(work.cleanup, "--older-than", "0", "--json") == 0
    answer = said(capsys)
    assert answer["dry_run"] is True
    assert answer["entries"][0]["reasons"] == ["not applied: a.txt, sub/new"]
    assert run(work.discard, "w", "--json") == 0
    assert said(capsys)["discarded_at"]
    assert run(work.discard, "w") != 0


@pytest.mark.parametrize(
    ("command", "words"),
    [(work.apply, ["--yes"]), (work.apply, ["--preview"]), (work.export, ["--branch", "topic"])],
)
def test_work_beyond_the_scope_is_neither_applied_nor_exported(
    user: Any, changed: Any, home: Path, command: Any, words: list[str]
) -> None:
    run_folder = home / "state" / "runs" / "w"
    run_folder.mkdir(parents=True)
    (run_folder / "result.json").write_text(json.dumps({"scope": {"out_of_scope": ["sub/new"]}}))
    before = (user.root / "a.txt").read_bytes()
    assert run(command, "w", *words) == ExitCode.CONFLICT
    assert (user.root / "a.txt").read_bytes() == before
    assert not user.git("branch", "--list", "topic")
    assert run(work.apply, "w", "--yes", "--paths", "a.txt") == ExitCode.OK
    assert (user.root / "a.txt").read_text() == "worker\n"


def test_cleanup_keeps_the_workspace_of_a_run_that_lives(
    user: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    user.workspace()
    run_folder = resolve_home(os.environ).runs / "w"
    run_folder.mkdir(mode=0o700, parents=True)
    with FileLock(run_folder / "lock"):
        assert run(work.cleanup, "--older-than", "0", "--execute", "--json") == 0
        assert said(capsys)["entries"][0]["action"] == "keep"
    assert run(work.cleanup, "--older-than", "0", "--execute", "--json") == 0
    assert said(capsys)["entries"][0]["action"] == "discard"


def test_names_that_are_not_text_are_shown_without_tricks(
    user: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = user.workspace()
    user.write(b"esc\x1b[31m\xff", "x", at=workspace.path)
    assert run(work.workspace, "show", "w") == 0
    assert '"esc\\033[31m\\377"' in capsys.readouterr().out
    assert run(work.workspace, "show", "w", "--json") == 0
    name = said(capsys)["changes"][0]["file"]
    assert run(work.apply, "w", "--yes", "--paths", name) == 0

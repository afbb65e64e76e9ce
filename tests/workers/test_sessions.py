"""A session carried into another run's folder: the fake and the real clients find it there."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from dragoman.workers.base import Notice
from dragoman.workers.sessions import carry_session

if TYPE_CHECKING:
    from tests.workers.conftest import MessagesServer, Stage

SESSION = "11111111-2222-3333-4444-555555555555"


def moved(stage: Stage, folder: Path) -> Path:
    """Put the stage into another working directory with another private folder; returns the old one's."""
    earlier = stage.task.config_folder
    cwd = folder / "elsewhere"
    cwd.mkdir()
    subprocess.run(["git", "init", "-q", str(cwd)], check=True)
    stage.task = replace(stage.task, cwd=cwd, config_folder=folder / "private-2")
    return earlier


def test_a_session_is_copied_under_the_new_working_directory(tmp_path: Path) -> None:
    earlier = tmp_path / "a"
    source = earlier / "claude" / "projects" / "-old-place"
    source.mkdir(parents=True)
    (source / f"{SESSION}.jsonl").write_text("told")
    cwd = tmp_path / "new place.x"
    assert carry_session("claude", SESSION, earlier, tmp_path / "b", cwd=cwd)
    (copied,) = (tmp_path / "b" / "claude" / "projects").glob("*/*")
    assert copied.read_text() == "told"
    assert copied.parent.name.endswith("-new-place-x")
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("client", ["claude", "codex"])
@pytest.mark.parametrize("bent", ["file", "folder", "pipe"])
def test_a_link_a_worker_left_in_place_of_its_session_is_not_followed(
    tmp_path: Path, client: Literal["claude", "codex"], bent: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / f"{SESSION}.jsonl").write_text("SECRET")
    folder = tmp_path / "a" / client / ("projects" if client == "claude" else "sessions")
    folder.mkdir(parents=True)
    match bent:
        case "folder":
            (folder / "x").symlink_to(outside)
        case "file":
            (folder / "x").mkdir()
            (folder / "x" / f"{SESSION}.jsonl").symlink_to(outside / f"{SESSION}.jsonl")
        case _:
            (folder / "x").mkdir()
            os.mkfifo(folder / "x" / f"{SESSION}.jsonl")
    assert not carry_session(client, SESSION, tmp_path / "a", tmp_path / "b", cwd=tmp_path)
    assert not [path for path in (tmp_path / "b").rglob("*") if path.is_file()]


@pytest.mark.parametrize("id", [SESSION, "../../etc/passwd", "", "*", "a/b"])
def test_a_session_that_is_not_there_is_not_carried(tmp_path: Path, id: str) -> None:
    for client in ("claude", "codex"):
        assert not carry_session(client, id, tmp_path / "a", tmp_path / "b", cwd=tmp_path)


@pytest.mark.real_client
def test_the_real_claude_code_goes_on_elsewhere_and_forks(
    real_stage: Stage, messages_server: MessagesServer, tmp_path: Path
) -> None:
    messages_server.steps = [[{"text": text}] for text in ("First.", "Second.", "Third.")]
    first = real_stage.play(prompt="first task").outcome
    assert first.session_id
    earlier = moved(real_stage, tmp_path)
    assert carry_session(
        "claude", first.session_id, earlier, real_stage.task.config_folder, cwd=real_stage.cwd
    )
    forked = real_stage.play(prompt="second task", resume=first.session_id, fork=True)
    assert forked.told(Notice) == []
    assert forked.outcome.status == "finished"
    assert forked.outcome.session_id != first.session_id
    assert "first task" in messages_server.sent
    gone_on = real_stage.play(prompt="third task", resume=first.session_id)
    assert (gone_on.outcome.session_id, gone_on.told(Notice)) == (first.session_id, [])
    last = str(messages_server.requests[-1][1]["messages"])
    assert "first task" in last
    assert "second task" not in last


@pytest.mark.real_client
def test_the_real_codex_goes_on_elsewhere(
    codex_stage: Stage, messages_server: MessagesServer, tmp_path: Path
) -> None:
    messages_server.steps = [[{"text": text}] for text in ("First.", "Second.")]
    first = codex_stage.play(prompt="first task").outcome
    assert first.session_id
    earlier = moved(codex_stage, tmp_path)
    assert carry_session(
        "codex", first.session_id, earlier, codex_stage.task.config_folder, cwd=codex_stage.cwd
    )
    second = codex_stage.play(prompt="second task", resume=first.session_id)
    assert second.outcome.status == "finished"
    assert "session_not_found" not in [notice.code for notice in second.told(Notice)]
    assert "first task" in str(messages_server.requests[-1][1]["input"])

"""The run folder is the truth about a run: written whole, read without guessing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman.jobs.folder import EventLog, RunFolder, RunFolderInvalid, RunRequest

REQUEST = RunRequest(
    run_id="run-1",
    packet="Goal: x",
    repository="/repo",
    state="/state",
    model="glm-5.2",
    gateway_url="http://127.0.0.1:4891",
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "runs" / "run-1")
    made.create(REQUEST)
    return made


def test_a_request_comes_back_as_it_was_written_and_is_private(folder: RunFolder) -> None:
    assert folder.request() == REQUEST
    assert folder.request_file.stat().st_mode & 0o777 == 0o600
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_second_run_of_the_same_name_is_refused(folder: RunFolder) -> None:
    with pytest.raises(FileExistsError):
        folder.create(REQUEST)


def test_there_is_no_result_until_the_run_has_ended(folder: RunFolder) -> None:
    assert folder.result() is None
    folder.finish({"status": "success"})
    assert folder.result() == {"status": "success"}
    assert sorted(path.name for path in folder.path.iterdir()) == ["request.json", "result.json"]


def test_events_are_numbered_and_can_be_followed_from_where_one_stopped(folder: RunFolder) -> None:
    log = EventLog(folder, now=lambda: 1_700_000_000.1234)
    log.emit("phase", phase="preparing")
    first = list(folder.events())
    log.emit("said", text="zwei\nZeilen")
    second = list(folder.events(first[-1][0]))
    log.close()
    assert [event["n"] for _, event in first + second] == [1, 2]
    assert second[0][1] == {"n": 2, "at": 1_700_000_000.123, "kind": "said", "text": "zwei\nZeilen"}


def test_a_torn_last_line_waits_until_it_is_whole(folder: RunFolder) -> None:
    folder.events_file.write_bytes(b'{"n":1,"kind":"a"}\n{"n":2,"ki')
    assert [event["n"] for _, event in folder.events()] == [1]
    with folder.events_file.open("ab") as stream:
        stream.write(b'nd":"b"}\n')
    assert [event["n"] for _, event in folder.events()] == [1, 2]


def test_an_unreadable_run_is_named_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(RunFolderInvalid, match="the run gone cannot be read") as failure:
        RunFolder(tmp_path / "gone").request()
    assert failure.value.hint == "dragoman jobs list"

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

from dragoman.daemon.log import JsonLog
from dragoman.daemon.log_reading import follow, for_people, last_lines, size_of


def test_the_last_lines_reach_back_into_the_file_put_aside(tmp_path: Path):
    path = tmp_path / "daemon.log"
    assert last_lines(path, 5) == []
    (tmp_path / "daemon.log.1").write_text("a\nb\n")
    path.write_text("c\nd\n")
    assert last_lines(path, 3) == ["b", "c", "d"]
    assert last_lines(path, 0) == []


def test_what_is_added_between_showing_and_following_is_followed(tmp_path: Path):
    path = tmp_path / "daemon.log"
    path.write_text("old\n")
    here = size_of(path)
    with path.open("a") as file:
        file.write("meanwhile\n")
    assert last_lines(path, 5, until=here) == ["old"]
    assert list(islice(follow(path, start=here), 1)) == ["meanwhile"]


def test_following_goes_on_when_the_file_is_put_aside(tmp_path: Path):
    path = tmp_path / "daemon.log"
    path.write_text("before\n")
    added = iter(["one\ntw", "o\n", "three\n"])

    def meanwhile(_: float) -> None:
        text = next(added)
        if text == "three\n":
            path.rename(tmp_path / "daemon.log.1")
        with path.open("a") as file:
            file.write(text)

    assert list(islice(follow(path, sleep=meanwhile), 3)) == ["one", "two", "three"]


def test_a_line_is_short_for_people_and_anything_else_stays_as_it_is(tmp_path: Path):
    log = JsonLog(str(tmp_path / "log"), "gateway", wall=lambda: 0.0)
    log.write("error", "child_ended", exit=3)
    log.write("info", "serving")
    log.close()
    first, second = (tmp_path / "log").read_text().splitlines()
    moment = time.strftime("%H:%M:%S", time.localtime(0))
    assert for_people(first).startswith(f"{moment} gateway[")
    assert for_people(first).endswith("] ERROR child_ended exit=3")
    assert for_people(second).endswith("] serving")
    assert for_people("Fatal Python error") == "Fatal Python error"
    assert for_people("[1]") == "[1]"

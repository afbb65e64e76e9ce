"""The name of a work tree's state changes with whatever a snapshot would take in, and with nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.workspace import open_repository, standing


def git(path: Path, *words: str) -> None:
    identity = ("-c", "user.name=u", "-c", "user.email=u@localhost")
    subprocess.run(("git", "-C", str(path), *identity, *words), check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    top = tmp_path / "repo"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    (top / ".gitignore").write_text("*.log\n")
    (top / "a.txt").write_text("one\n")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "one")
    return top


def change(top: Path) -> None:
    (top / "a.txt").write_text("two\n")


def add(top: Path) -> None:
    (top / "new é.txt").write_text("x")


def stage(top: Path) -> None:
    change(top)
    git(top, "add", "a.txt")


def commit(top: Path) -> None:
    git(top, "commit", "-q", "--allow-empty", "-m", "two")


def remove(top: Path) -> None:
    (top / "a.txt").unlink()


def make_executable(top: Path) -> None:
    (top / "a.txt").chmod(0o755)


@pytest.mark.parametrize("what", [change, add, stage, commit, remove, make_executable])
def test_another_state_has_another_name(repository: Path, what: Callable[[Path], None]) -> None:
    before = standing(open_repository(repository))
    what(repository)
    assert standing(open_repository(repository)) != before


def test_a_second_change_of_a_changed_file_is_another_state(repository: Path) -> None:
    change(repository)
    before = standing(open_repository(repository))
    (repository / "a.txt").write_text("six\n")  # as long as before
    assert standing(open_repository(repository)) != before


def test_the_same_state_keeps_its_name_and_the_repository_its_bytes(repository: Path) -> None:
    add(repository)
    change(repository)
    index = (repository / ".git" / "index").read_bytes()
    before = standing(open_repository(repository))
    (repository / "ignored.log").write_text("noise")
    git(repository, "branch", "other")
    assert standing(open_repository(repository)) == before
    assert (repository / ".git" / "index").read_bytes() == index


def test_an_unresolved_merge_and_a_folder_below_the_top_have_names_too(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "other")
    stage(repository)
    git(repository, "commit", "-q", "-m", "theirs")
    git(repository, "checkout", "-q", "main")
    (repository / "a.txt").write_text("ours\n")
    git(repository, "commit", "-q", "-am", "ours")
    before = standing(open_repository(repository))
    subprocess.run(("git", "-C", str(repository), "merge", "-q", "other"), capture_output=True, check=False)
    merging = standing(open_repository(repository))
    assert merging != before
    below = repository / "below"
    below.mkdir()
    assert standing(open_repository(below)) == merging


def test_a_large_new_file_is_not_read(repository: Path) -> None:
    with (repository / "large.bin").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing: reading it would outlive the test
    assert standing(open_repository(repository))
    os.truncate(repository / "large.bin", 0)

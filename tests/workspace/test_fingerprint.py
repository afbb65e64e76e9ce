"""What a worker must not touch is told part by part."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.workspace.fingerprint import fingerprint
from dragoman.workspace.repository import open_repository


@pytest.fixture
def user_repository(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    for words in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(
            ["git", "-C", str(path), "-c", "user.name=u", "-c", "user.email=u@localhost", *words], check=True
        )
    return path


def _write(name: str, content: str = "x\n", mode: int = 0o644) -> Callable[[Path], None]:
    def change(repository: Path) -> None:
        file = repository / ".git" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)

    return change


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (_write("HEAD", "ref: refs/heads/other\n"), "head"),
        (_write("index"), "index"),
        (_write("refs/tags/v1"), "refs"),
        (_write("packed-refs"), "refs"),
        (_write("config", "[core]\n\tfsmonitor = evil\n"), "config"),
        (_write("info/attributes"), "config"),
        (_write("hooks/pre-commit", mode=0o755), "hooks"),
    ],
)
def test_a_change_is_told_by_its_part(
    user_repository: Path, change: Callable[[Path], None], part: str
) -> None:
    repository = open_repository(user_repository)
    before = fingerprint(repository)
    assert before.differences(fingerprint(repository)) == ()
    change(user_repository)
    assert before.differences(fingerprint(repository)) == (part,)


def test_a_hook_that_only_becomes_executable_is_told(user_repository: Path) -> None:
    _write("hooks/pre-push")(user_repository)
    repository = open_repository(user_repository)
    before = fingerprint(repository)
    (user_repository / ".git/hooks/pre-push").chmod(0o755)
    assert before.differences(fingerprint(repository)) == ("hooks",)


def test_work_tree_files_and_objects_are_not_part_of_it(user_repository: Path) -> None:
    repository = open_repository(user_repository)
    before = fingerprint(repository)
    (user_repository / "new.txt").write_text("x")
    subprocess.run(
        ["git", "-C", str(user_repository), "hash-object", "-w", "new.txt"], check=True, capture_output=True
    )
    assert before.differences(fingerprint(repository)) == ()

"""Folders that turn into symbolic links, and files that are swapped, between the check and the write."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.workspace import apply, preview
from dragoman.workspace.errors import ApplyConflict, ApplyRolledBack, DragomanError


def at(stage: str, act: Callable[[], object]) -> Callable[[str], None]:
    """A checkpoint that does something once."""
    done: list[str] = []

    def checkpoint(name: str) -> None:
        if name == stage and not done:
            done.append(name)
            act()

    return checkpoint


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is not the repository's, with a file of the same name."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "c.txt").write_text("precious\n")
    return folder


def swap(user: Any, outside: Path) -> None:
    """Replace a folder of the repository by a link to another."""
    shutil.rmtree(user.root / "sub")
    (user.root / "sub").symlink_to(outside)


def test_B24_a_folder_that_is_a_link_out_of_the_repository_is_refused(user: Any, outside: Path) -> None:
    workspace = user.workspace()
    user.write("sub/c.txt", "worker\n", at=workspace.path)
    swap(user, outside)

    shown = preview(workspace)
    with pytest.raises(ApplyConflict):
        apply(workspace, token=shown.token)

    assert [conflict.path for conflict in shown.conflicts] == ["sub/c.txt"]
    assert (outside / "c.txt").read_text() == "precious\n"


def test_B24_a_new_file_below_an_ignored_link_is_refused(user: Any, outside: Path) -> None:
    workspace = user.workspace()
    user.write("build/new", "worker\n", at=workspace.path)
    (user.root / "build").symlink_to(outside)

    shown = preview(workspace, include_ignored=["build"])

    assert [(c.path, c.kind) for c in shown.conflicts] == [("build/new", "linked_folder")]
    with pytest.raises(ApplyConflict):
        apply(workspace, token=shown.token, include_ignored=["build"])
    assert list(outside.iterdir()) == [outside / "c.txt"]


@pytest.mark.parametrize("stage", ["locked", "planned", "prepared", "writing"])
@pytest.mark.parametrize("kind", ["edit", "add", "delete"])
def test_B25_a_folder_that_becomes_a_link_at_the_last_moment_is_not_followed(
    user: Any, outside: Path, stage: str, kind: str
) -> None:
    workspace = user.workspace()
    match kind:
        case "edit":
            user.write("sub/c.txt", "worker\n", at=workspace.path)
        case "add":
            user.write("sub/new.txt", "worker\n", at=workspace.path)
        case _:
            (workspace.path / "sub" / "c.txt").unlink()
    token = preview(workspace).token

    if (stage, kind) == ("locked", "delete"):  # the file is gone by the user's own doing
        done = apply(workspace, token=token, checkpoint=at(stage, lambda: swap(user, outside)))
        assert done.already_applied
    else:
        with pytest.raises(DragomanError):
            apply(workspace, token=token, checkpoint=at(stage, lambda: swap(user, outside)))

    assert {p.name: p.read_text() for p in outside.iterdir()} == {"c.txt": "precious\n"}


def test_B25_a_target_that_becomes_a_link_at_the_last_moment_is_not_followed(
    user: Any, outside: Path
) -> None:
    workspace = user.workspace()
    user.write("b.txt", "worker\n", at=workspace.path)

    def replace() -> None:
        (user.root / "b.txt").unlink()
        (user.root / "b.txt").symlink_to(outside / "c.txt")

    with pytest.raises(ApplyRolledBack, match=r"b\.txt was changed"):
        apply(workspace, token=preview(workspace).token, checkpoint=at("writing", replace))

    assert (outside / "c.txt").read_text() == "precious\n"
    assert (user.root / "b.txt").is_symlink()


def test_a_file_swapped_for_a_folder_at_the_last_moment_is_put_back(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    user.write("b.txt", "worker\n", at=workspace.path)
    before = user.read("a.txt")

    def replace() -> None:
        (user.root / "b.txt").unlink()
        user.write("b.txt/inner", "user\n")

    with pytest.raises(ApplyRolledBack, match=r"b\.txt was changed"):
        apply(workspace, token=preview(workspace).token, checkpoint=at("writing", replace))

    assert user.read("b.txt/inner") == "user\n"
    assert user.read("a.txt") == before


def test_a_file_replaced_by_an_equal_one_at_the_last_moment_is_kept(user: Any) -> None:
    """The other file may have been written for a reason (an editor saving), so it counts as changed."""
    workspace = user.workspace()
    user.write("b.txt", "worker\n", at=workspace.path)

    def replace() -> None:
        (user.root / "b.txt").rename(user.root / "b.txt~")
        user.write("b.txt", "b\n")

    with pytest.raises(ApplyRolledBack):
        apply(workspace, token=preview(workspace).token, checkpoint=at("writing", replace))
    assert user.read("b.txt") == "b\n"


def test_the_workers_tree_replaced_by_a_link_is_not_read(user: Any, outside: Path) -> None:
    workspace = user.workspace()
    shutil.rmtree(workspace.path)
    workspace.path.symlink_to(outside)

    with pytest.raises(DragomanError, match="lost its files"):
        preview(workspace)


def test_a_folder_of_the_worker_that_links_to_secrets_gives_a_link_and_not_their_content(
    user: Any, outside: Path
) -> None:
    workspace = user.workspace()
    shutil.rmtree(workspace.path / "sub")
    (workspace.path / "sub").symlink_to(outside)

    shown = preview(workspace)

    assert {(c.path, c.kind) for c in shown.conflicts} == {("sub", "symlink_outside")}

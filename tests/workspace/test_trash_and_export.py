"""Discarding, bringing back, clearing up, and exporting to a branch."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dragoman.workspace import (
    all_trash,
    all_workspaces,
    cleanup,
    delta,
    discard,
    export,
    open_workspace,
    preview,
    restore,
)
from dragoman.workspace.errors import (
    ApplyConflict,
    BranchExists,
    InvalidRequest,
    NoChanges,
    WorkspaceExists,
    WorkspaceNotFound,
)


def test_discard_then_restore_gives_the_same_workspace(
    user: Any, state_of: Callable[[Path], dict[str, object]]
) -> None:
    workspace = user.workspace()
    user.write("new", "worker", at=workspace.path)
    user.git("add", "-A", cwd=workspace.path)
    user.git("commit", "-qm", "mine", cwd=workspace.path)
    user.write("x.log", "ignored too", at=workspace.path)
    held, found = state_of(workspace.path), delta(workspace)

    trashed = discard(workspace)
    assert not workspace.folder.exists()
    assert [w.id for w in all_trash(user.store)] == ["w"]
    assert trashed.discarded_at is not None
    with pytest.raises(WorkspaceNotFound) as raised:
        open_workspace(user.store, "w")
    assert raised.value.hint == "dragoman workspace restore w"
    back = restore(user.store, "w")

    assert state_of(back.path) == held
    assert delta(back) == found
    assert back == workspace
    assert user.git("log", "--format=%s", "-1", cwd=back.path) == "mine"


def test_an_id_in_the_trash_is_not_given_away(user: Any) -> None:
    discard(user.workspace("w"))
    with pytest.raises(WorkspaceExists):
        user.workspace("w")
    restore(user.store, "w")
    with pytest.raises(WorkspaceNotFound):
        restore(user.store, "w")


def test_cleanup_names_why_it_keeps_what_it_keeps(user: Any) -> None:
    for id in ("applied", "open", "part", "empty", "used", "later", "broken", "nested"):
        workspace = user.workspace(id)
        if id != "empty":
            user.write(f"{id}.txt", "worker", at=workspace.path)
        if id == "part":
            user.write("rest.txt", "worker", at=workspace.path)
        if id == "nested":
            user.git("init", "-q", "inner", cwd=workspace.path)
    user.apply(open_workspace(user.store, "applied"))
    user.apply(open_workspace(user.store, "later"))
    user.apply(open_workspace(user.store, "part"), paths=["part.txt"])
    user.write("later.txt", "edited after the apply", at=user.store / "workspaces" / "later" / "tree")
    subprocess.run(["rm", "-rf", str(user.store / "workspaces" / "broken" / "tree" / ".git")], check=True)

    said = cleanup(user.store, in_use=lambda id: id == "used")

    assert {entry.id: (entry.action, entry.reasons) for entry in said} == {
        "applied": ("discard", ("all of it was applied",)),
        "empty": ("discard", ("it holds no change",)),
        "open": ("keep", ("not applied: open.txt",)),
        "part": ("keep", ("not applied: rest.txt",)),
        "later": ("keep", ("not applied: later.txt",)),
        "used": ("keep", ("in use",)),
        "broken": ("keep", ("workspace broken lost its .git folder",)),
        "nested": ("keep", ("inner could not be applied",)),
    }
    assert len(all_workspaces(user.store)) == 8
    cleanup(user.store, in_use=lambda id: id == "used", execute=True)
    assert {w.id for w in all_trash(user.store)} == {"applied", "empty"}


def test_cleanup_minds_ages_and_empties_the_trash_only_when_asked(user: Any) -> None:
    now = datetime.now(UTC)
    user.workspace("old", now=now - timedelta(hours=30))
    user.workspace("young", now=now)

    said = cleanup(user.store, older_than=timedelta(hours=24), execute=True, now=now)
    assert {entry.id: entry.action for entry in said} == {"old": "discard", "young": "keep"}
    later = now + timedelta(days=8)
    assert cleanup(user.store, older_than=timedelta(days=99), now=later)[0].id == "young"
    said = cleanup(
        user.store, older_than=timedelta(days=99), trash_older_than=timedelta(days=7), execute=True, now=later
    )
    assert [(e.id, e.action) for e in said] == [("young", "keep"), ("old", "purge")]
    assert all_trash(user.store) == []


def test_a_part_applied_in_two_steps_counts_as_all_of_it(user: Any) -> None:
    workspace = user.workspace()
    user.write("one", "1", at=workspace.path)
    user.write("two", "2", at=workspace.path)
    user.apply(workspace, paths=["one"])
    user.apply(open_workspace(user.store, "w"), paths=["two"])
    assert [e.action for e in cleanup(user.store)] == ["discard"]


def test_B26_an_export_keeps_modes_and_names_and_touches_nothing_else(user: Any) -> None:
    user.write("b.txt", "uncommitted\n")
    before = user.files()
    index = (user.root / ".git" / "index").read_bytes()
    head = user.git("rev-parse", "HEAD")
    workspace = user.workspace()
    user.write("run.sh", "x", at=workspace.path, x=True)
    user.write("sub/caf\u00e9", "x", at=workspace.path)
    (workspace.path / "link").symlink_to("a.txt")
    (workspace.path / "a.txt").unlink()

    made = export(workspace, "topic/one", message="What the worker did")

    assert user.git("rev-parse", "topic/one") == made.commit
    assert user.git("rev-parse", "topic/one~1") == head == made.base
    assert user.git("log", "-1", "--format=%s|%an|%ae", "topic/one") == "What the worker did|U|u@localhost"
    listed = user.git("-c", "core.quotePath=false", "diff", "--raw", "--no-abbrev", "HEAD", "topic/one")
    assert {tuple(line.split()[i] for i in (1, 4, 5)) for line in listed.splitlines()} == {
        ("000000", "D", "a.txt"),
        ("100755", "A", "run.sh"),
        ("120000", "A", "link"),
        ("100644", "A", "sub/caf\u00e9"),
    }
    assert made.file_count == 4
    assert user.files() == before
    assert (user.root / ".git" / "index").read_bytes() == index
    assert user.git("fsck", "--strict") == ""


def test_an_export_after_a_snapshot_has_the_users_own_work_as_a_commit_below(user: Any) -> None:
    user.write("b.txt", "uncommitted\n")
    workspace = user.workspace(dirty="snapshot")
    user.write("a.txt", "worker\n", at=workspace.path)

    made = export(workspace, "topic")

    assert user.git("diff", "--name-only", "topic~1", "topic") == "a.txt"
    assert user.git("diff", "--name-only", "HEAD", "topic~1") == "b.txt"
    assert user.git("log", "--format=%s", "HEAD..topic").splitlines()[1] == "Uncommitted work at the start"
    assert made.file_count == 1
    subprocess.run(["rm", "-rf", str(user.store)], check=True)
    assert user.git("fsck", "--strict") == ""


def test_an_export_over_an_existing_branch_needs_force_and_never_moves_one_in_use(user: Any) -> None:
    user.git("branch", "topic")
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)

    with pytest.raises(BranchExists):
        export(workspace, "topic")
    assert export(workspace, "topic", force=True).commit == user.git("rev-parse", "topic")
    with pytest.raises(BranchExists, match="checked out"):
        export(workspace, "main", force=True)


@pytest.mark.parametrize("branch", ["", "-x", "a..b", "a b", "x.lock", "@{-1}", "refs/../x"])
def test_a_name_that_is_no_branch_is_refused(user: Any, branch: str) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    with pytest.raises(InvalidRequest):
        export(workspace, branch)


def test_an_export_of_nothing_or_of_a_repository_inside_is_refused(user: Any) -> None:
    workspace = user.workspace()
    with pytest.raises(NoChanges):
        export(workspace, "topic")
    user.write("a.txt", "worker\n", at=workspace.path)
    user.git("init", "-q", "inner", cwd=workspace.path)
    with pytest.raises(ApplyConflict, match="inner"):
        export(workspace, "topic")
    assert preview(workspace).conflicts

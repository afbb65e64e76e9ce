"""Making workspaces from repositories of every kind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dragoman.workspace import (
    Git,
    all_workspaces,
    apply,
    baseline,
    create_workspace,
    delta,
    open_repository,
    open_workspace,
    preview,
    settle,
    worktree_include,
)
from dragoman.workspace.create import plan_patterns
from dragoman.workspace.errors import (
    DirtyRepository,
    GitFailed,
    GitMissing,
    GitTooOld,
    InvalidRequest,
    NoCommits,
    NotARepository,
    StoreInsideRepository,
    UnsupportedRepository,
    WorkspaceDamaged,
    WorkspaceExists,
    WorkspaceNotFound,
)


def test_A11_the_workspace_lies_outside_and_main_stays_clean(user: Any) -> None:
    before = user.everything()
    workspace = user.workspace()
    user.write("x", "worker", at=workspace.path)

    assert not workspace.path.is_relative_to(user.root)
    assert user.git("status", "--porcelain", "--ignored") == ""
    assert user.everything() == before
    assert (user.store / "workspaces").stat().st_mode & 0o777 == 0o700
    assert workspace.folder.stat().st_mode & 0o777 == 0o700
    assert (workspace.folder / "record.json").stat().st_mode & 0o777 == 0o600


def test_A12_a_tree_that_lost_its_git_folder_never_falls_through_to_another_repository(user: Any) -> None:
    subprocess.run(["git", "init", "-q", str(user.store)], check=True)
    workspace = user.workspace()
    shutil.rmtree(workspace.path / ".git")
    user.write("x", "worker", at=workspace.path)

    with pytest.raises(WorkspaceDamaged, match=r"lost its \.git"):
        delta(workspace)
    with pytest.raises(WorkspaceDamaged):
        open_workspace(user.store, "w")


@pytest.mark.parametrize("name", ["build", "dist", "node_modules", ".git-like", "with space", "ünï"])
def test_A13_changes_are_seen_wherever_the_repository_lies(new_user: Callable[..., Any], name: str) -> None:
    user = new_user(f"{name}/repo", {"a": "1", "build/b": "1", "node_modules/c": "1"})
    workspace = user.workspace()
    for path in ("a", "build/b", "node_modules/c", "dist/d"):
        user.write(path, "worker", at=workspace.path)

    assert {c.path for c in delta(workspace).changes} == {"a", "build/b", "node_modules/c", "dist/d"}
    user.apply(workspace)
    assert user.read("dist/d") == "worker"


def test_ask_refuses_uncommitted_work_and_names_it(user: Any) -> None:
    user.write("b.txt", "dirty\n")
    user.write("new/file", "x")

    with pytest.raises(DirtyRepository) as raised:
        user.workspace(dirty="ask")

    assert raised.value.paths == ("b.txt", "new/")
    assert raised.value.exit_code == 3
    assert not (user.store / "workspaces" / "w").exists()


def test_ask_takes_a_clean_repository_whose_files_were_only_touched(user: Any) -> None:
    os.utime(user.root / "a.txt", (1, 1))
    user.write("x.log", "ignored")

    assert user.workspace(dirty="ask").base == user.git("rev-parse", "HEAD")


def test_committed_starts_without_the_uncommitted_work(user: Any) -> None:
    user.write("b.txt", "dirty\n")
    user.write("new", "x")
    workspace = user.workspace(dirty="committed")

    assert (workspace.path / "b.txt").read_text() == "b\n"
    assert not (workspace.path / "new").exists()
    assert workspace.base == workspace.head


def test_B08_a_snapshot_is_faithful(user: Any, new_user: Callable[..., Any]) -> None:
    library = new_user("library", {"x": "1"})
    user.git("submodule", "add", "-q", str(library.root), "lib")
    user.write("gone", "x")
    user.write("exec", "x", x=True)
    user.write("swap/inner", "x")
    user.commit()
    user.git("mv", "a.txt", "renamed.txt")
    user.git("rm", "-q", "b.txt")
    (user.root / "gone").unlink()
    (user.root / "link").symlink_to("nowhere")
    user.write("untracked/deep/file", "x")
    (user.root / "untracked" / "run").write_text("x")
    (user.root / "untracked" / "run").chmod(0o755)
    user.write("out.log", "ignored")
    shutil.rmtree(user.root / "swap")
    user.write("swap", "now a file")
    user.write(b"latin\xe9", "x")
    before = user.everything()

    workspace = user.workspace(dirty="snapshot")

    listed = subprocess.run(
        ["find", ".", "-path", "./.git", "-prune", "-o", "!", "-type", "d", "-print0"],
        cwd=workspace.path,
        capture_output=True,
        check=True,
    ).stdout
    assert set(listed.split(b"\0")) - {b""} == {
        b"./.gitignore",
        b"./.gitmodules",
        b"./renamed.txt",
        b"./sub/c.txt",
        b"./link",
        b"./untracked/deep/file",
        b"./untracked/run",
        b"./swap",
        b"./exec",
        b"./latin\xe9",
    }
    assert (workspace.path / "link").readlink() == Path("nowhere")
    assert os.access(workspace.path / "untracked" / "run", os.X_OK)
    assert workspace.submodules == (("lib", library.git("rev-parse", "HEAD")),)
    assert user.everything() == before
    assert delta(workspace).changes == ()
    assert user.git("status", "--porcelain", cwd=workspace.path) == ""


def test_a_snapshot_of_an_unfinished_merge_takes_the_files_as_they_are(user: Any) -> None:
    user.git("checkout", "-q", "-b", "other")
    user.write("b.txt", "other\n")
    user.commit()
    user.git("checkout", "-q", "main")
    user.write("b.txt", "main\n")
    user.commit()
    subprocess.run(["git", "merge", "-q", "other"], cwd=user.root, capture_output=True, check=False)
    before = user.everything()
    workspace = user.workspace(dirty="snapshot")

    assert "<<<<<<<" in (workspace.path / "b.txt").read_text()
    user.write("new", "worker", at=workspace.path)
    assert preview(workspace).conflicts == ()
    assert user.everything() == before


def test_the_clone_is_the_workers_own(user: Any) -> None:
    user.git("tag", "v1")
    user.git("branch", "other")
    user.git("remote", "add", "origin", "https://user:password@example.invalid/x.git")
    before = user.everything()
    workspace = user.workspace()
    tree = workspace.path

    assert user.git("status", "--porcelain", "--branch", cwd=tree) == "## main"
    assert user.git("describe", "--tags", cwd=tree) == "v1"
    assert user.git("remote", cwd=tree) == ""
    user.write("x", "1", at=tree)
    user.git("add", "-A", cwd=tree)
    user.git("commit", "-qm", "mine", cwd=tree)
    user.git("branch", "-D", "other", cwd=tree)
    user.git("config", "core.hooksPath", "/nowhere", cwd=tree)
    user.git("fsck", cwd=tree)
    user.git("gc", "-q", cwd=tree)

    assert user.everything() == before
    assert [c.path for c in delta(workspace).changes] == ["x"]


def test_included_ignored_files_are_copied_and_are_no_change(user: Any, tmp_path: Path) -> None:
    user.write(".gitignore", ".env*\n*.log\nsecrets/\n")
    user.commit()
    user.write(".env", "KEY=1")
    user.write(".env.local", "KEY=2")
    user.write("x.log", "log")
    user.write("secrets/a", "s")
    (tmp_path / "outside").write_text("precious")
    (user.root / ".env.link").symlink_to(tmp_path / "outside")
    workspace = user.workspace(include=[".env*", "b.txt"])

    assert (workspace.path / ".env").read_text() == "KEY=1"
    assert (workspace.path / ".env.local").exists()
    assert not (workspace.path / "x.log").exists()
    assert not os.path.lexists(workspace.path / ".env.link")
    assert {name for name, _ in workspace.included} == {".env", ".env.local"}
    assert delta(workspace).ignored == ()
    user.write(".env", "KEY=changed", at=workspace.path)
    assert [i.path for i in delta(workspace).ignored] == [".env"]
    with baseline(workspace) as before:
        assert (before / ".env").read_text() == "KEY=1"


def test_a_sparse_workspace_has_the_folders_asked_for_and_says_nothing_of_the_rest(user: Any) -> None:
    for name in ("one/x", "one/deep/x", "two/x", "three/deep/x", "three/y"):
        user.write(name, "x")
    user.commit()
    workspace = user.workspace(sparse=["one", "three/deep"])
    tree = workspace.path

    assert (tree / "one" / "deep" / "x").exists()
    assert (tree / "three" / "y").exists()
    assert not (tree / "two").exists()
    assert (tree / "a.txt").exists()
    assert user.git("status", "--porcelain", cwd=tree) == ""
    assert delta(workspace).changes == ()
    user.write("one/x", "worker", at=tree)
    user.write("two/new", "worker", at=tree)
    assert {(c.status, c.path) for c in delta(workspace).changes} == {
        ("modified", "one/x"),
        ("added", "two/new"),
    }
    user.apply(workspace)
    assert user.read("two/new") == "worker"
    assert user.read("two/x") == "x"


def test_a_worker_may_widen_or_narrow_a_sparse_workspace(user: Any) -> None:
    for name in ("one/x", "two/x", "three/x"):
        user.write(name, "x")
    user.commit()
    workspace = user.workspace(sparse=["one", "three"])
    user.git("sparse-checkout", "set", "one", "two", cwd=workspace.path)
    assert (workspace.path / "two" / "x").exists()
    assert not (workspace.path / "three").exists()
    user.write("two/x", "worker", at=workspace.path)

    assert [(c.status, c.path) for c in delta(workspace).changes] == [("modified", "two/x")]


@pytest.mark.parametrize(
    ("folders", "patterns"),
    [
        ((), ""),
        ((".",), ""),
        (("a",), "/*\n!/*/\n/a/\n"),
        (("a/b/", "a/b/c"), "/*\n!/*/\n/a/\n!/a/*/\n/a/b/\n"),
        (("x*y",), "/*\n!/*/\n/x\\*y/\n"),
    ],
)
def test_sparse_patterns_are_those_of_a_cone(folders: tuple[str, ...], patterns: str) -> None:
    assert plan_patterns(folders) == patterns


@pytest.mark.parametrize("folder", ["../x", "/etc", "a/../../b", "a\nb"])
def test_sparse_folders_outside_are_refused(folder: str) -> None:
    with pytest.raises(InvalidRequest):
        plan_patterns([folder])


def test_the_baseline_is_the_base_and_goes_away(user: Any) -> None:
    user.write("b.txt", "dirty\n")
    workspace = user.workspace(dirty="snapshot")
    user.write("b.txt", "worker\n", at=workspace.path)

    with baseline(workspace) as before:
        assert (before / "b.txt").read_text() == "dirty\n"
        assert user.git("status", "--porcelain", cwd=before) == ""
        user.write("made/by/tests", "x", at=before)
        (before / "made").chmod(0o500)
    assert not before.exists()
    assert sorted(p.name for p in workspace.folder.iterdir()) == ["keep.git", "record.json", "tree"]


def test_the_patterns_to_include_come_from_the_repository_where_the_user_opted_in(user: Any) -> None:
    assert worktree_include(user.repository()) == ()
    user.write(".worktreeinclude", "# secrets\n.env*\n\n!.env.bad\n")
    assert worktree_include(user.repository()) == (".env*", "!.env.bad")


def test_what_a_setup_command_did_is_not_the_workers_doing(user: Any) -> None:
    workspace = user.workspace()
    user.write("b.txt", "by setup\n", at=workspace.path)
    user.write("lock.json", "{}", at=workspace.path)
    (workspace.path / "sub" / "c.txt").unlink()
    user.write("out.log", "ignored", at=workspace.path)

    settled = settle(workspace)

    assert open_workspace(user.store, "w") == settled
    assert delta(settled).changes == ()
    assert user.git("status", "--porcelain", cwd=settled.path) == ""
    user.write("a.txt", "worker\n", at=settled.path)
    shown = preview(settled)
    assert [change.path for change in shown.changes] == ["a.txt"]
    apply(settled, token=shown.token)
    assert user.read("b.txt") == "b\n"


def test_settling_where_nothing_changed_changes_nothing(user: Any) -> None:
    workspace = user.workspace()
    assert settle(workspace) is workspace


def test_two_looks_at_a_workspace_at_once_do_not_meet(user: Any) -> None:
    workspace = user.workspace()
    for n in range(20):
        user.write(f"new{n}", str(n), at=workspace.path)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: delta(workspace), range(8)))
    assert all(one == found[0] for one in found)
    assert not list(workspace.keep_dir.glob("scratch-*"))


# Repositories of every kind


def test_B27_a_linked_worktree_is_a_repository_of_its_own(user: Any, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    user.git("worktree", "add", "-q", "-b", "side", str(linked))
    user.write("b.txt", "on side\n", at=linked)
    user.git("commit", "-qam", "side", cwd=linked)
    before = user.everything()
    workspace = create_workspace(open_repository(linked), user.store, id="w", dirty="ask")
    user.write("b.txt", "worker\n", at=workspace.path)

    apply(workspace, token=preview(workspace).token)

    assert (linked / "b.txt").read_text() == "worker\n"
    assert workspace.branch == "side"
    assert user.everything() == before


def test_B27_a_bare_repository_is_refused(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "bare")], check=True)
    with pytest.raises(UnsupportedRepository, match="bare"):
        open_repository(tmp_path / "bare")


def test_B27_the_git_folder_itself_is_refused(user: Any) -> None:
    with pytest.raises(UnsupportedRepository):
        open_repository(user.root / ".git")


def test_B27_a_repository_without_commits_needs_the_user(new_user: Callable[..., Any]) -> None:
    user = new_user()
    user.write("x", "x")
    with pytest.raises(NoCommits) as raised:
        user.workspace()
    assert raised.value.exit_code == 3
    assert raised.value.hint == "git add -A && git commit"


def test_B27_a_detached_head_stays_one(user: Any) -> None:
    user.git("checkout", "-q", "--detach")
    workspace = user.workspace()
    assert workspace.branch is None
    assert user.git("rev-parse", "--abbrev-ref", "HEAD", cwd=workspace.path) == "HEAD"
    user.write("b.txt", "worker\n", at=workspace.path)
    user.apply(workspace)
    assert user.read("b.txt") == "worker\n"


def test_B27_a_shallow_clone_works(user: Any, tmp_path: Path, new_user: Callable[..., Any]) -> None:
    user.write("b.txt", "second\n")
    user.commit()
    shallow = tmp_path / "shallow"
    user.git("clone", "-q", "--depth", "1", f"file://{user.root}", str(shallow))
    workspace = create_workspace(open_repository(shallow), user.store, id="w", dirty="ask")
    assert user.git("log", "--oneline", cwd=workspace.path).count("\n") == 0
    user.write("b.txt", "worker\n", at=workspace.path)
    (shallow / "new").write_text("x")
    user.git("add", "-A", cwd=shallow)
    user.git("commit", "-qm", "third", cwd=shallow)

    apply(workspace, token=preview(workspace).token)
    assert (shallow / "b.txt").read_text() == "worker\n"


def test_B27_a_sparse_checkout_of_the_user_is_followed(user: Any) -> None:
    for name in ("one/x", "two/x"):
        user.write(name, "x")
    user.commit()
    user.git("sparse-checkout", "set", "one")
    assert not (user.root / "two").exists()
    workspace = user.workspace(dirty="ask")
    assert not (workspace.path / "two").exists()
    user.write("one/x", "worker", at=workspace.path)
    user.apply(workspace)
    assert user.read("one/x") == "worker"


def test_B27_a_change_outside_the_users_sparse_checkout_is_refused_for_that_file(user: Any) -> None:
    for name in ("one/x", "two/x"):
        user.write(name, "x")
    user.commit()
    workspace = user.workspace()
    user.write("one/x", "worker", at=workspace.path)
    user.write("two/x", "worker", at=workspace.path)
    user.git("sparse-checkout", "set", "one")

    shown = preview(workspace)

    assert [(c.path, c.kind) for c in shown.conflicts] == [("two/x", "outside_sparse_checkout")]
    user.apply(workspace, paths=["one"])
    assert user.read("one/x") == "worker"


def test_B27_fsmonitor_split_index_and_untracked_cache_do_not_matter(user: Any) -> None:
    user.git("config", "core.fsmonitor", "true")
    user.git("config", "core.untrackedCache", "true")
    user.git("config", "index.version", "4")
    user.git("update-index", "--split-index")
    user.git("update-index", "--untracked-cache")
    user.write("b.txt", "dirty\n")
    before = user.everything()
    workspace = user.workspace(dirty="snapshot")
    assert (workspace.path / "b.txt").read_text() == "dirty\n"
    assert user.everything() == before
    user.git("config", "core.fsmonitor", "false")


def test_B27_sha256_repositories_work(tmp_path: Path, new_user: Callable[..., Any]) -> None:
    user = new_user("plain", {"x": "x"})
    user.root = tmp_path / "sha256"
    subprocess.run(["git", "init", "-q", "--object-format=sha256", str(user.root)], check=True)
    user.write("a/b", "1\n")
    user.write("c", "1\n")
    user.commit()
    workspace = user.workspace()
    user.write("a/b", "2\n", at=workspace.path)
    user.write("c", "1\nuser\n")
    user.commit()
    user.apply(workspace)
    assert user.read("a/b") == "2\n"


def test_B27_a_partial_clone_that_lacks_files_is_said_with_the_next_step(user: Any, tmp_path: Path) -> None:
    user.git("config", "uploadpack.allowFilter", "true")
    partial = tmp_path / "partial"
    user.git("clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{user.root}", str(partial))

    with pytest.raises(GitFailed, match="partial clone") as raised:
        create_workspace(open_repository(partial), user.store, id="w", dirty="committed")

    assert raised.value.hint
    user.git("checkout", "-q", "HEAD", cwd=partial)
    create_workspace(open_repository(partial), user.store, id="w", dirty="ask")


def test_B27_borrowed_objects_are_followed(user: Any, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    user.git("clone", "-q", "--shared", str(user.root), str(clone))
    repository = open_repository(clone)
    workspace = create_workspace(repository, user.store, id="w", dirty="ask")
    assert user.root / ".git" / "objects" in workspace.object_stores
    user.write("b.txt", "worker\n", at=workspace.path)
    apply(workspace, token=preview(workspace).token)
    assert (clone / "b.txt").read_text() == "worker\n"


def test_B27_a_path_with_a_line_break_works(new_user: Callable[..., Any]) -> None:
    user = new_user('odd\n"name', {"x": "1"})
    workspace = user.workspace()
    user.write("x", "2", at=workspace.path)
    user.apply(workspace)
    assert user.read("x") == "2"


def test_a_base_that_was_collected_is_said_and_the_files_are_still_there(user: Any) -> None:
    user.write("b.txt", "second\n")
    user.commit()
    workspace = user.workspace()
    user.write("b.txt", "worker\n", at=workspace.path)
    user.git("reset", "-q", "--hard", "HEAD~1")
    user.git("reflog", "expire", "--expire=now", "--all")
    user.git("gc", "-q", "--prune=now")

    with pytest.raises(WorkspaceDamaged) as raised:
        preview(workspace)
    assert str(workspace.path) in (raised.value.hint or "")
    assert (workspace.path / "b.txt").read_text() == "worker\n"


# Refusals


def test_a_folder_outside_any_repository_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotARepository):
            open_repository(path)


def test_a_store_inside_the_repository_is_refused(user: Any) -> None:
    with pytest.raises(StoreInsideRepository):
        create_workspace(user.repository(), user.root / "state", id="w", dirty="committed")
    assert not (user.root / "state").exists()


@pytest.mark.parametrize("id", ["", "..", "a/b", ".hidden", "x" * 65, "a b", "a\n", "x.lock"])
def test_an_id_that_cannot_name_a_folder_is_refused(user: Any, id: str) -> None:
    with pytest.raises(InvalidRequest):
        user.workspace(id)


def test_an_id_that_is_taken_is_refused(user: Any) -> None:
    user.workspace("w")
    with pytest.raises(WorkspaceExists):
        user.workspace("w")
    assert [w.id for w in all_workspaces(user.store)] == ["w"]


def test_an_unknown_workspace_is_named(user: Any) -> None:
    with pytest.raises(WorkspaceNotFound, match="nothing"):
        open_workspace(user.store, "nothing")


def test_a_damaged_record_is_said(user: Any) -> None:
    workspace = user.workspace()
    (workspace.folder / "record.json").write_text("{")
    with pytest.raises(WorkspaceDamaged, match="record"):
        open_workspace(user.store, "w")


def test_a_record_survives_the_way_to_the_disk(user: Any) -> None:
    user.write(".env", "x")
    user.write(".gitignore", ".env\n")
    user.commit()
    workspace = user.workspace(sparse=["sub"], include=[".env"])
    assert open_workspace(user.store, "w") == workspace


def test_no_git_and_an_old_git_are_said_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(GitMissing) as missing:
        Git.find({"PATH": str(tmp_path)})
    assert missing.value.hint
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.37.9\n")
    old.chmod(0o755)
    with pytest.raises(GitTooOld, match=r"2\.37\.9"):
        Git.find({"PATH": str(tmp_path)})

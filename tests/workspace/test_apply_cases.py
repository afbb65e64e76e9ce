"""The acceptance cases of applying, each named by its id."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.workspace import apply, delta, discard, open_workspace, patch, preview, restore
from dragoman.workspace.errors import (
    ApplyConflict,
    InvalidRequest,
    NoChanges,
    TokenMismatch,
    TokenRequired,
)

LINES = [f"line {n}\n" for n in range(1, 21)]


def edited(number: int, text: str) -> str:
    """The first file with one line replaced."""
    return "".join([*LINES[: number - 1], text + "\n", *LINES[number:]])


def kinds(shown: Any) -> dict[str, str]:
    """Conflicts by path."""
    return {conflict.path: conflict.kind for conflict in shown.conflicts}


def test_B01_a_commit_to_other_lines_of_the_same_file_is_kept(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("a.txt", edited(19, "user"))
    user.commit()

    result = user.apply(workspace)

    assert user.read("a.txt").splitlines()[1] == "worker"
    assert user.read("a.txt").splitlines()[18] == "user"
    assert result.merged == ("a.txt",)


def test_B02_a_commit_to_the_same_lines_is_a_conflict_with_both_sides_shown(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("a.txt", edited(2, "user"))
    user.commit()
    before = user.everything()

    shown = user.preview(workspace)
    with pytest.raises(ApplyConflict) as raised:
        apply(workspace, token=shown.token)

    assert kinds(shown) == {"a.txt": "content"}
    (hunk,) = shown.conflicts[0].hunks
    assert (hunk.line, hunk.ours, hunk.theirs) == (2, "user", "worker")
    assert raised.value.conflicts == shown.conflicts
    assert user.everything() == before


def test_B03_a_file_deleted_in_main_since_is_a_conflict_naming_it(user: Any) -> None:
    workspace = user.workspace()
    user.write("b.txt", "worker\n", at=workspace.path)
    user.git("rm", "-q", "b.txt")
    user.commit()

    assert kinds(user.preview(workspace)) == {"b.txt": "deleted_in_main"}


def test_B03_a_file_renamed_in_main_since_is_a_conflict_naming_both_names(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.git("mv", "a.txt", "moved.txt")
    user.commit()

    shown = user.preview(workspace)

    assert kinds(shown) == {"a.txt": "renamed_in_main"}
    assert shown.conflicts[0].other == b"moved.txt"


def test_B04_uncommitted_edits_in_a_target_are_refused_by_default(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("a.txt", edited(19, "user"))
    before = user.everything()

    shown = user.preview(workspace)
    with pytest.raises(ApplyConflict):
        apply(workspace, token=shown.token)

    assert kinds(shown) == {"a.txt": "dirty"}
    assert user.everything() == before


def test_B04_uncommitted_edits_in_a_target_are_merged_where_asked_for(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("a.txt", edited(19, "user"))

    user.apply(workspace, on_dirty="merge")

    assert user.read("a.txt").splitlines()[1] == "worker"
    assert user.read("a.txt").splitlines()[18] == "user"


def test_B04_an_edit_hidden_by_assume_unchanged_is_seen_all_the_same(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.git("update-index", "--assume-unchanged", "a.txt")
    user.write("a.txt", edited(19, "user"))

    assert kinds(user.preview(workspace)) == {"a.txt": "dirty"}


def test_B05_other_uncommitted_and_untracked_files_do_not_matter(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("b.txt", "dirty\n")
    user.write("untracked", "mine\n")
    user.write("sub/c.txt", "staged\n")
    user.git("add", "sub/c.txt")
    index = (user.root / ".git" / "index").read_bytes()

    user.apply(workspace)

    assert user.read("a.txt") == edited(2, "worker")
    assert (user.read("b.txt"), user.read("untracked"), user.read("sub/c.txt")) == (
        "dirty\n",
        "mine\n",
        "staged\n",
    )
    assert (user.root / ".git" / "index").read_bytes() == index


def test_B06_after_a_snapshot_only_the_workers_delta_is_applied(user: Any) -> None:
    user.write("b.txt", "dirty\n")
    user.write("new.txt", "untracked\n")
    workspace = user.workspace(dirty="snapshot")
    assert (workspace.path / "new.txt").read_text() == "untracked\n"
    user.write("a.txt", edited(2, "worker"), at=workspace.path)

    result = user.apply(workspace)

    assert [change.path for change in result.changes] == ["a.txt"]
    assert user.read("b.txt") == "dirty\n"


def test_B07_after_a_snapshot_an_edit_of_a_dirty_file_is_applied_on_it(user: Any) -> None:
    user.write("a.txt", edited(19, "user"))
    workspace = user.workspace(dirty="snapshot")
    text = (workspace.path / "a.txt").read_text().replace("line 2\n", "worker\n")
    user.write("a.txt", text, at=workspace.path)

    shown = user.preview(workspace)
    user.apply(workspace)

    assert [(c.path, c.added_lines, c.deleted_lines) for c in shown.changes] == [("a.txt", 1, 1)]
    assert user.read("a.txt") == text


def test_B09_the_token_stands_for_the_workers_files(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    shown = user.preview(workspace)
    user.write("a.txt", edited(3, "worker"), at=workspace.path)
    before = user.everything()

    with pytest.raises(TokenMismatch):
        apply(workspace, token=shown.token)
    assert user.everything() == before


def test_B09_the_token_stands_for_the_list_of_files(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    shown = user.preview(workspace)
    user.write("another", "", at=workspace.path)

    with pytest.raises(TokenMismatch):
        apply(workspace, token=shown.token)


def test_B09_the_token_stands_for_the_targets_content(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    shown = preview(workspace, on_dirty="merge")
    user.write("a.txt", edited(19, "user"))

    with pytest.raises(TokenMismatch):
        apply(workspace, token=shown.token, on_dirty="merge")


def test_B09_the_token_stands_for_head(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    shown = user.preview(workspace)
    user.write("other", "x")
    user.commit()

    with pytest.raises(TokenMismatch):
        apply(workspace, token=shown.token)


def test_B09_the_token_stands_for_the_policy_and_the_paths(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("b.txt", "worker\n", at=workspace.path)
    token = user.preview(workspace).token

    with pytest.raises(TokenMismatch):
        apply(workspace, token=token, on_dirty="merge")
    with pytest.raises(TokenMismatch):
        apply(workspace, token=token, paths=["a.txt"])


@pytest.mark.parametrize("token", [None, ""])
def test_B10_without_a_token_the_next_call_is_named(user: Any, token: str | None) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)

    with pytest.raises(TokenRequired) as raised:
        apply(workspace, token=token)
    assert raised.value.hint == "dragoman apply w --preview"


@pytest.mark.parametrize("how", ["unstaged", "staged", "committed"])
def test_B11_a_rename_is_applied_however_it_was_made(user: Any, how: str) -> None:
    workspace = user.workspace()
    if how == "unstaged":
        (workspace.path / "a.txt").rename(workspace.path / "z.txt")
    else:
        user.git("mv", "a.txt", "z.txt", cwd=workspace.path)
    if how == "committed":
        user.git("commit", "-qm", "rename", cwd=workspace.path)

    result = user.apply(workspace)

    assert [(c.status, c.old_path, c.path) for c in result.changes] == [("renamed", "a.txt", "z.txt")]
    assert user.read("z.txt") == "".join(LINES)
    assert not (user.root / "a.txt").exists()


def test_B11_a_rename_with_an_edit_and_a_copy_are_applied(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "a.txt").unlink()
    user.write("z.txt", edited(2, "worker"), at=workspace.path)
    user.write("sub/c.txt", "c\nmore\n", at=workspace.path)
    user.write("sub/copy.txt", "c\n", at=workspace.path)

    result = user.apply(workspace)

    assert {(c.status, c.old_path, c.path) for c in result.changes} == {
        ("renamed", "a.txt", "z.txt"),
        ("modified", None, "sub/c.txt"),
        ("copied", "sub/c.txt", "sub/copy.txt"),
    }
    assert user.read("z.txt") == edited(2, "worker")
    assert user.read("sub/copy.txt") == "c\n"


def test_B11_a_rename_that_differs_by_case_only_is_applied(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "a.txt").rename(workspace.path / "A.txt")

    user.apply(workspace)

    assert "A.txt" in [p.name for p in user.root.iterdir()]
    assert "a.txt" not in [p.name for p in user.root.iterdir()]


def test_B11_a_rename_by_the_worker_carries_an_edit_in_main_along(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "a.txt").rename(workspace.path / "z.txt")
    user.write("a.txt", edited(19, "user"))
    user.commit()

    user.apply(workspace)

    assert user.read("z.txt") == edited(19, "user")
    assert not (user.root / "a.txt").exists()


def test_B12_modes_are_applied(user: Any) -> None:
    workspace = user.workspace()
    user.write("run.sh", "#!/bin/sh\n", at=workspace.path, x=True)
    (workspace.path / "b.txt").chmod(0o755)

    result = user.apply(workspace)

    assert os.access(user.root / "run.sh", os.X_OK)
    assert os.access(user.root / "b.txt", os.X_OK)
    assert {(c.path, c.old_mode, c.new_mode) for c in result.changes} == {
        ("run.sh", "000000", "100755"),
        ("b.txt", "100644", "100755"),
    }


def test_B12_permissions_git_does_not_record_are_kept(user: Any) -> None:
    (user.root / "b.txt").chmod(0o600)
    workspace = user.workspace()
    user.write("b.txt", "worker\n", at=workspace.path)

    user.apply(workspace)

    assert (user.root / "b.txt").stat().st_mode & 0o777 == 0o600


def test_B12_new_files_follow_the_repository_not_the_umask_of_a_daemon(user: Any) -> None:
    user.root.chmod(0o755)
    workspace = user.workspace()
    user.write("new/file", "x", at=workspace.path)
    before = os.umask(0o077)
    try:
        user.apply(workspace)
    finally:
        os.umask(before)

    assert (user.root / "new" / "file").stat().st_mode & 0o777 == 0o644
    assert (user.root / "new").stat().st_mode & 0o777 == 0o755


def test_B13_symbolic_links_inside_the_repository_are_applied(user: Any) -> None:
    (user.root / "link").symlink_to("b.txt")
    user.commit()
    workspace = user.workspace()
    (workspace.path / "link").unlink()
    (workspace.path / "link").symlink_to("sub/c.txt")
    (workspace.path / "b.txt").unlink()
    (workspace.path / "b.txt").symlink_to("a.txt")
    (workspace.path / "sub" / "up").symlink_to("../a.txt")

    user.apply(workspace)

    assert str((user.root / "link").readlink()) == "sub/c.txt"
    assert str((user.root / "b.txt").readlink()) == "a.txt"
    assert str((user.root / "sub" / "up").readlink()) == "../a.txt"


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../outside", "sub/../../outside", ".git/config", ".GIT/hooks"]
)
def test_B13_a_symbolic_link_out_of_the_repository_is_a_conflict_for_that_file(
    user: Any, target: str
) -> None:
    workspace = user.workspace()
    (workspace.path / "bad").symlink_to(target)
    user.write("good", "x", at=workspace.path)

    assert kinds(user.preview(workspace)) == {"bad": "symlink_outside"}
    user.apply(workspace, paths=["good"])
    assert user.read("good") == "x"
    assert not os.path.lexists(user.root / "bad")


def test_B13_a_link_that_leads_out_by_way_of_another_is_a_conflict(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "sub" / "up").symlink_to("..")
    (workspace.path / "bad").symlink_to("sub/up/../outside")

    assert kinds(user.preview(workspace)) == {"bad": "symlink_outside"}


def test_B13_links_that_lead_nowhere_or_in_a_circle_are_applied_as_they_are(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "dangling").symlink_to("not/there")
    (workspace.path / "circle").symlink_to("circle")
    (workspace.path / "one").symlink_to("sub/../two")
    (workspace.path / "two").symlink_to("one")

    user.apply(workspace)

    assert str((user.root / "circle").readlink()) == "circle"
    assert str((user.root / "one").readlink()) == "sub/../two"


CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "nul": b"a\0b\n",
    "binary": bytes(range(256)) * 40,
    "no newline at the end": b"text",
    "carriage returns": b"a\r\nb\r\n",
    "mixed": b"a\r\nb\n",
}


@pytest.mark.parametrize("name", CONTENTS)
def test_B14_contents_arrive_byte_for_byte(user: Any, name: str) -> None:
    user.write("there", CONTENTS["binary"][:1000])
    user.commit()
    workspace = user.workspace()
    user.write("new", CONTENTS[name], at=workspace.path)
    user.write("there", CONTENTS[name], at=workspace.path)

    user.apply(workspace)

    assert (user.root / "new").read_bytes() == CONTENTS[name]
    assert (user.root / "there").read_bytes() == CONTENTS[name]


def test_B14_a_file_of_50_megabytes_is_applied(user: Any) -> None:
    workspace = user.workspace()
    content = os.urandom(1024) * (50 * 1024)
    user.write("large", content, at=workspace.path)

    user.apply(workspace)

    assert (user.root / "large").read_bytes() == content


@pytest.mark.parametrize("attributes", ["*.txt eol=crlf\n", "*.txt text=auto\n", "*.txt text\n"])
@pytest.mark.parametrize("autocrlf", ["true", "input", "false"])
def test_B14_line_endings_stay_what_they_are_in_the_users_files(
    user: Any, attributes: str, autocrlf: str
) -> None:
    user.git("config", "core.autocrlf", autocrlf)
    user.write(".gitattributes", attributes)
    user.commit()
    for name in ("crlf.txt", "lf.txt"):
        user.write(name, b"one\r\ntwo\r\nthree\r\n" if name.startswith("crlf") else b"one\ntwo\nthree\n")
    user.git("-c", "core.safecrlf=false", "add", "-A")
    user.git("commit", "-qm", "files")
    workspace = user.workspace()
    for name in ("crlf.txt", "lf.txt"):
        path = workspace.path / name
        path.write_bytes(path.read_bytes().replace(b"two", b"TWO"))

    shown = user.preview(workspace)
    user.apply(workspace)

    assert [(c.path, c.added_lines, c.deleted_lines) for c in shown.changes] == [
        ("crlf.txt", 1, 1),
        ("lf.txt", 1, 1),
    ]
    assert (user.root / "crlf.txt").read_bytes() == b"one\r\nTWO\r\nthree\r\n"
    numstat = user.git("diff", "--numstat").splitlines()
    assert numstat == ["1\t1\tcrlf.txt", "1\t1\tlf.txt"]


def test_B14_a_file_with_mixed_line_endings_git_would_change_is_a_conflict(user: Any) -> None:
    user.write(".gitattributes", "*.txt text=auto\n")
    user.write("m.txt", b"one\r\ntwo\nthree\n")
    user.git("-c", "core.safecrlf=false", "add", "-A")
    user.git("commit", "-qm", "files")
    workspace = user.workspace()
    user.write("m.txt", b"one\nTWO\nthree\n", at=workspace.path)

    assert kinds(user.preview(workspace)) == {"m.txt": "line_endings"}


NAMES = [
    b"with space",
    b"tab\there",
    b"line\nbreak",
    b'quote"d',
    b"back\\slash",
    b"-dash",
    b"--option=x",
    b":(top)magic",
    b"star*?[x]",
    b"!bang",
    b"#hash",
    "caf\u00e9".encode(),
    "cafe\u0301".encode(),
    b"latin\xe9",
    b"\xff\xfe",
    "\u202egnp.exe".encode(),
    b"deep er/in \xe9/x",
    b'"',
    b"trailing ",
]


def test_B15_every_name_is_listed_and_applied(user: Any) -> None:
    for number, name in enumerate(NAMES):
        if number % 2:
            user.write(name, "old")
    user.commit()
    workspace = user.workspace()
    for name in NAMES:
        user.write(name, b"worker " + name, at=workspace.path)

    found = delta(workspace)
    user.apply(workspace)

    assert {change.name for change in found.changes} == set(NAMES)
    assert len({change.path for change in found.changes}) == len(NAMES)
    for change in found.changes:
        change.path.encode()  # valid text, whatever the bytes
    for name in NAMES:
        assert (user.root / os.fsdecode(name)).read_bytes() == b"worker " + name


def test_B15_a_listed_name_can_be_asked_for(user: Any) -> None:
    workspace = user.workspace()
    for name in NAMES:
        user.write(name, b"worker", at=workspace.path)
    for change in delta(workspace).changes:
        (shown,) = user.preview(workspace, paths=[change.path]).changes
        assert shown.name == change.name


def test_B16_deletions_are_applied_and_empty_folders_go(user: Any) -> None:
    user.write("deep/er/x", "x")
    user.commit()
    workspace = user.workspace()
    (workspace.path / "b.txt").unlink()
    (workspace.path / "deep" / "er" / "x").unlink()

    user.apply(workspace)

    assert not (user.root / "b.txt").exists()
    assert not (user.root / "deep").exists()


def test_B16_a_folder_with_other_files_in_it_stays(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "sub" / "c.txt").unlink()
    user.write("sub/mine.log", "ignored")

    user.apply(workspace)

    assert user.read("sub/mine.log") == "ignored"


def test_B16_a_deletion_of_a_file_edited_in_main_is_a_conflict(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "b.txt").unlink()
    user.write("b.txt", "user\n")
    user.commit()

    assert kinds(user.preview(workspace)) == {"b.txt": "deleted_by_worker"}


def test_B17_a_file_becomes_a_folder_and_a_folder_a_file(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "b.txt").unlink()
    user.write("b.txt/inner", "x", at=workspace.path)
    (workspace.path / "sub" / "c.txt").unlink()
    (workspace.path / "sub").rmdir()
    user.write("sub", "file", at=workspace.path)

    user.apply(workspace)

    assert user.read("b.txt/inner") == "x"
    assert user.read("sub") == "file"


def test_B17_a_folder_with_an_ignored_file_in_it_is_not_replaced(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "sub" / "c.txt").unlink()
    (workspace.path / "sub").rmdir()
    user.write("sub", "file", at=workspace.path)
    user.write("sub/precious.log", "mine")
    before = user.everything()

    shown = user.preview(workspace)

    assert kinds(shown) == {"sub": "in_the_way"}
    with pytest.raises(ApplyConflict):
        apply(workspace, token=shown.token)
    assert user.everything() == before


def test_B18_ignored_files_are_listed_with_their_rule_and_never_applied(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("out.log", "log", at=workspace.path)
    user.write("build/x/y", "made", at=workspace.path)

    found = delta(workspace)
    user.apply(workspace)

    assert {(i.path, i.rule, i.source, i.line) for i in found.ignored} == {
        ("out.log", "*.log", ".gitignore", 1),
        ("build/", "build/", ".gitignore", 2),
    }
    assert found.ignored_total == 2
    assert not (user.root / "out.log").exists()


def test_B18_ignored_files_are_applied_where_asked_for(user: Any) -> None:
    workspace = user.workspace()
    user.write("out.log", "log", at=workspace.path)
    user.write("build/x/y", "made", at=workspace.path)

    user.apply(workspace, include_ignored=["build"])

    assert user.read("build/x/y") == "made"
    assert not (user.root / "out.log").exists()
    with pytest.raises(InvalidRequest, match="nothing-there"):
        user.preview(workspace, include_ignored=["nothing-there"])


def test_B18_an_ignored_file_of_the_users_is_not_overwritten(user: Any) -> None:
    workspace = user.workspace()
    user.write(".gitignore", "build/\n", at=workspace.path)
    user.write("out.log", "worker", at=workspace.path)
    user.write("out.log", "precious")

    assert kinds(user.preview(workspace)) == {"out.log": "dirty"}
    assert kinds(user.preview(workspace, on_dirty="merge")) == {"out.log": "added_on_both_sides"}


def test_B18_a_file_added_by_force_counts_although_it_is_ignored(user: Any) -> None:
    workspace = user.workspace()
    user.write("kept.log", "kept", at=workspace.path)
    user.write("other.log", "other", at=workspace.path)
    user.git("add", "-f", "kept.log", cwd=workspace.path)

    assert [change.path for change in delta(workspace).changes] == ["kept.log"]


def test_B19_a_submodule_pointer_is_refused_by_name_and_the_rest_can_be_applied(
    user: Any, new_user: Callable[..., Any]
) -> None:
    library = new_user("library", {"x": "1"})
    user.git("submodule", "add", "-q", str(library.root), "lib")
    user.commit()
    workspace = user.workspace()
    nested = workspace.path / "lib"
    nested.rmdir()
    subprocess.run(["git", "clone", "-q", str(library.root), str(nested)], check=True)
    user.write("x", "2", at=nested)
    user.git("add", "-A", cwd=nested)
    user.git("commit", "-qm", "2", cwd=nested)
    user.write("a.txt", edited(2, "worker"), at=workspace.path)

    shown = user.preview(workspace)

    assert kinds(shown) == {"lib": "submodule"}
    assert delta(workspace).submodules == ("lib",)
    user.apply(workspace, paths=["a.txt"])
    assert user.read("a.txt") == edited(2, "worker")


def test_B19_a_removed_submodule_is_refused_by_name(user: Any, new_user: Callable[..., Any]) -> None:
    library = new_user("library", {"x": "1"})
    user.git("submodule", "add", "-q", str(library.root), "lib")
    user.commit()
    workspace = user.workspace()
    (workspace.path / "lib").rmdir()

    assert kinds(user.preview(workspace)) == {"lib": "submodule"}


def test_B19_files_put_into_a_submodule_are_refused_by_name(user: Any, new_user: Callable[..., Any]) -> None:
    library = new_user("library", {"x": "1"})
    user.git("submodule", "add", "-q", str(library.root), "lib")
    user.commit()
    workspace = user.workspace()
    user.write("lib/x", "worker", at=workspace.path)

    assert kinds(user.preview(workspace)) == {"lib": "submodule"}


def test_B19_a_repository_made_inside_the_tree_is_refused_by_name(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    for name, content in (("empty", False), ("full", True)):
        (workspace.path / name).mkdir()
        user.git("init", "-q", cwd=workspace.path / name)
        if content:
            user.write("x", "x", at=workspace.path / name)
            user.git("add", "-A", cwd=workspace.path / name)
            user.git("commit", "-qm", "x", cwd=workspace.path / name)

    assert kinds(user.preview(workspace)) == {"empty": "unsupported_file", "full": "unsupported_file"}
    user.apply(workspace, paths=["a.txt"])
    assert user.read("a.txt") == edited(2, "worker")


def test_B20_a_part_is_applied_and_the_token_stands_for_it(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("sub/c.txt", "worker\n", at=workspace.path)
    user.write("sub/d.txt", "new\n", at=workspace.path)

    shown = user.preview(workspace, paths=["sub"])
    user.write("b.txt", "later, elsewhere\n", at=workspace.path)
    result = apply(workspace, token=shown.token, paths=["sub"])

    assert {change.path for change in result.changes} == {"sub/c.txt", "sub/d.txt"}
    assert shown.left_out == ("a.txt",)
    assert user.read("a.txt") == "".join(LINES)


def test_B20_a_path_outside_the_delta_is_named(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)

    with pytest.raises(InvalidRequest, match=r"b\.txt"):
        user.preview(workspace, paths=["a.txt", "b.txt"])


def test_B20_half_of_a_rename_brings_the_other_half_along(user: Any) -> None:
    workspace = user.workspace()
    (workspace.path / "a.txt").rename(workspace.path / "z.txt")
    user.write("b.txt", "worker\n", at=workspace.path)

    user.apply(workspace, paths=["z.txt"])

    assert not (user.root / "a.txt").exists()
    assert user.read("z.txt") == "".join(LINES)


def test_B22_a_second_workspace_on_the_same_file_merges_or_conflicts(user: Any) -> None:
    first, second, third = user.workspace("w1"), user.workspace("w2"), user.workspace("w3")
    user.write("a.txt", edited(2, "first"), at=first.path)
    user.write("a.txt", edited(19, "second"), at=second.path)
    user.write("a.txt", edited(2, "third"), at=third.path)

    user.apply(first)
    assert kinds(user.preview(second)) == {"a.txt": "dirty"}
    user.apply(second, on_dirty="merge")
    assert user.read("a.txt").splitlines()[1] == "first"
    assert user.read("a.txt").splitlines()[18] == "second"
    assert kinds(user.preview(third, on_dirty="merge")) == {"a.txt": "content"}

    user.commit()
    assert kinds(user.preview(third)) == {"a.txt": "content"}


def test_B23_a_second_apply_says_it_is_already_applied(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    shown = user.preview(workspace)
    apply(workspace, token=shown.token)
    before = user.everything()

    again = apply(workspace, token=shown.token)

    assert again.already_applied
    assert again.changes == ()
    assert user.preview(workspace).already_applied
    assert user.everything() == before
    user.commit()
    assert user.preview(workspace).already_applied


def test_B26_from_a_subfolder_the_worker_starts_there_and_paths_are_right(user: Any) -> None:
    from dragoman.workspace import create_workspace, open_repository

    repository = open_repository(user.root / "sub")
    workspace = create_workspace(repository, user.store, id="w", dirty="ask")
    assert workspace.cwd == workspace.path / "sub"
    (workspace.cwd / "s.txt").write_text("s")

    user.apply(workspace)

    assert user.read("sub/s.txt") == "s"
    assert sorted(p.name for p in (user.root / "sub").iterdir()) == ["c.txt", "s.txt"]


def test_B28_the_patch_applies_with_binary_untracked_and_modes_and_ends_with_a_newline(user: Any) -> None:
    user.write("bin", bytes(range(256)))
    user.commit()
    workspace = user.workspace()
    user.write("bin", bytes(reversed(range(256))), at=workspace.path)
    user.write("new file", "no newline at the end", at=workspace.path)
    user.write("run.sh", "x\n", at=workspace.path, x=True)
    (workspace.path / "a.txt").rename(workspace.path / "z.txt")
    (workspace.path / "b.txt").unlink()
    user.write("caf\u00e9", "x\n", at=workspace.path)

    shown = user.preview(workspace, with_patch=True)

    assert shown.patch == patch(workspace)
    assert shown.patch.endswith(b"\n")
    user.git("apply", "--check", "-", stdin=shown.patch)
    user.git("apply", "-", stdin=shown.patch)
    assert user.preview(workspace).already_applied


def test_B28_the_patch_of_a_preview_applies_to_the_files_as_they_are(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(5, "worker"), at=workspace.path)
    user.write("a.txt", "first line\n" + edited(19, "user"))
    user.commit()

    shown = user.preview(workspace, with_patch=True)

    user.git("apply", "--check", "-", stdin=shown.patch)


@pytest.mark.parametrize("how", ["commit", "amend", "reset", "branch", "detached", "stash", "reinit"])
def test_B29_the_delta_is_against_the_recorded_base_whatever_the_worker_did(user: Any, how: str) -> None:
    user.write("history", "1")
    user.commit("second")
    workspace = user.workspace()
    tree = workspace.path
    user.write("a.txt", edited(2, "worker"), at=tree)
    match how:
        case "commit":
            user.git("commit", "-qam", "mine", cwd=tree)
        case "amend":
            user.git("commit", "-q", "--amend", "-am", "mine", cwd=tree)
        case "reset":
            user.git("reset", "-q", "--soft", "HEAD~1", cwd=tree)
        case "branch":
            user.git("checkout", "-q", "-b", "elsewhere", cwd=tree)
            user.git("commit", "-qam", "mine", cwd=tree)
        case "detached":
            user.git("checkout", "-q", "--detach", "HEAD", cwd=tree)
        case "stash":
            user.git("stash", "-q", cwd=tree)
            user.git("stash", "pop", "-q", cwd=tree)
        case _:
            subprocess.run(["rm", "-rf", str(tree / ".git")], check=True)
            user.git("init", "-q", cwd=tree)

    assert [(change.status, change.path) for change in delta(workspace).changes] == [("modified", "a.txt")]
    user.apply(workspace)
    assert user.read("a.txt") == edited(2, "worker")


def test_B30_cleanup_after_apply_discards_only_when_everything_was_applied(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("b.txt", "worker\n", at=workspace.path)

    part = user.apply(workspace, paths=["a.txt"], cleanup=True)
    assert not part.discarded
    assert part.kept_because == ("not applied: b.txt",)
    assert workspace.path.is_dir()

    rest = user.apply(open_workspace(user.store, "w"), paths=["b.txt"], cleanup=True)
    assert rest.discarded
    assert rest.kept_because == ()
    assert not workspace.folder.exists()
    assert (restore(user.store, "w").path / "b.txt").read_text() == "worker\n"


def test_nothing_to_apply_is_said(user: Any) -> None:
    with pytest.raises(NoChanges):
        user.preview(user.workspace())


def test_until_apply_everything_of_the_user_is_byte_identical(user: Any) -> None:
    user.write("dirty", "x")
    user.write("b.txt", "dirty\n")
    before = user.everything()
    workspace = user.workspace(dirty="snapshot")
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.git("add", "-A", cwd=workspace.path)
    user.git("commit", "-qm", "worker", cwd=workspace.path)
    user.git("tag", "worker-tag", cwd=workspace.path)
    delta(workspace)
    patch(workspace)
    user.preview(workspace, with_patch=True)
    discard(workspace)
    restore(user.store, "w")

    assert user.everything() == before


def test_an_apply_touches_nothing_of_git(user: Any, state_of: Callable[[Path], dict[str, object]]) -> None:
    before = state_of(user.root / ".git")
    workspace = user.workspace()
    user.write("a.txt", edited(2, "worker"), at=workspace.path)
    user.write("new/one", "x", at=workspace.path)

    user.apply(workspace)

    assert state_of(user.root / ".git") == before
    assert user.git("fsck", "--strict") == ""
    assert user.git("status", "--porcelain") == " M a.txt\n?? new/"

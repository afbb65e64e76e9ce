"""Repositories and workers whose configuration names programs: none of them ever runs on our account."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.workspace import (
    apply,
    baseline,
    create_workspace,
    delta,
    discard,
    open_repository,
    patch,
    preview,
    recover,
)
from dragoman.workspace.errors import ApplyConflict, NotARepository, UnsupportedRepository

HOOKS = (
    "post-checkout",
    "post-index-change",
    "pre-commit",
    "post-commit",
    "reference-transaction",
    "pre-auto-gc",
    "post-merge",
    "fsmonitor-watchman",
)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a mark when it runs; as a filter it passes its input on."""
    program = tmp_path / "trap"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> "{tmp_path}/sprung"\ncat\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def sprung(tmp_path: Path) -> Callable[[], str]:
    """What the trap wrote, if it ever ran."""
    mark = tmp_path / "sprung"
    return lambda: mark.read_text() if mark.exists() else ""


def configure(account: Path, text: str) -> None:
    """Add to the account's configuration."""
    with (account / ".gitconfig").open("a") as config:
        config.write(text)


def arm(git_dir: Path, trap: Path) -> None:
    """Write a configuration that runs the trap at every opportunity git offers."""
    hooks = git_dir / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in HOOKS:
        (hooks / name).write_text(f"#!/bin/sh\nexec {trap} {name} </dev/null\n")
        (hooks / name).chmod(0o755)
    with (git_dir / "config").open("a") as config:
        config.write(
            f"""
[core]
	fsmonitor = {trap}
	hooksPath = {hooks}
	pager = {trap}
	editor = {trap}
	sshCommand = {trap}
	askPass = {trap}
	alternateRefsCommand = {trap}
	gitProxy = {trap}
[filter "evil"]
	clean = {trap} clean %f
	smudge = {trap} smudge %f
[filter "process"]
	process = {trap}
	required = true
[diff]
	external = {trap}
[diff "evil"]
	textconv = {trap}
	command = {trap}
[merge "evil"]
	driver = {trap} %O %A %B
[alias]
	status = !{trap}
	diff-files = !{trap}
[credential]
	helper = !{trap}
[gpg]
	program = {trap}
[commit]
	gpgSign = true
[include]
	path = more
[uploadpack]
	packObjectsHook = {trap}
[sequence]
	editor = {trap}
[submodule "lib"]
	update = !{trap}
[index]
	sparse = true
"""
        )
    (git_dir / "more").write_text(f'[filter "included"]\n\tclean = {trap}\n\tsmudge = {trap}\n')


ATTRIBUTES = "* diff=evil merge=evil\n*.e filter=evil\n*.p filter=process\n*.i filter=included\n"


def hostile_files(user: Any) -> None:
    """Files that the attributes send through every filter."""
    user.write(".gitattributes", ATTRIBUTES)
    for name in ("x.e", "x.p", "x.i", "plain"):
        user.write(name, "content\n")
    user.commit()


def whole_round(user: Any, workspace: Any) -> None:
    """Everything this room does with a workspace, up to the apply."""
    delta(workspace)
    patch(workspace)
    with baseline(workspace) as before:
        assert (before / "plain").exists()
    preview(workspace, with_patch=True)
    result = apply(
        workspace, token=preview(workspace, on_dirty="merge").token, on_dirty="merge", cleanup=True
    )
    assert result.changes
    recover(user.store)


def test_a_repository_from_an_archive_runs_nothing(user: Any, trap: Path, sprung: Callable[[], str]) -> None:
    hostile_files(user)
    arm(user.root / ".git", trap)
    user.write("plain", "dirty\n")
    user.write("untracked.e", "dirty\n")
    os.utime(user.root / "x.e")
    (user.root / "x.p").write_text("dirty\n")

    workspace = user.workspace(dirty="snapshot")
    user.write("plain", "dirty\nworker\n", at=workspace.path)
    user.write("new.e", "worker\n", at=workspace.path)
    whole_round(user, workspace)

    assert sprung() == ""
    assert user.read("plain") == "dirty\nworker\n"
    assert user.read("new.e") == "worker\n"


def test_a_worker_that_arms_its_clone_runs_nothing_on_our_account(
    user: Any, trap: Path, sprung: Callable[[], str]
) -> None:
    hostile_files(user)
    workspace = user.workspace()
    arm(workspace.path / ".git", trap)
    user.write(".gitattributes", ATTRIBUTES + "*.new filter=evil\n", at=workspace.path)
    user.write("x.e", "worker\n", at=workspace.path)
    user.write("y.new", "worker\n", at=workspace.path)
    user.write("plain", "worker\n", at=workspace.path)

    whole_round(user, workspace)

    assert sprung() == ""
    assert user.read("y.new") == "worker\n"


def test_a_worker_that_arms_a_repository_inside_its_tree_runs_nothing(
    user: Any, trap: Path, sprung: Callable[[], str]
) -> None:
    user.write("plain", "x")
    user.commit()
    workspace = user.workspace()
    nested = workspace.path / "nested"
    nested.mkdir()
    user.git("init", "-q", cwd=nested)
    user.write("x.e", "1", at=nested)
    user.git("add", "-A", cwd=nested)
    user.git("commit", "-qm", "x", cwd=nested)
    arm(nested / ".git", trap)
    user.write("x.e", "2", at=nested)
    user.write("plain", "worker", at=workspace.path)

    delta(workspace)
    user.apply(workspace, paths=["plain"])

    assert sprung() == ""


def test_an_armed_submodule_of_the_user_runs_nothing(
    user: Any, new_user: Callable[..., Any], trap: Path, sprung: Callable[[], str]
) -> None:
    library = new_user("library", {"x.e": "1", ".gitattributes": "*.e filter=evil\n"})
    user.git("submodule", "add", "-q", str(library.root), "lib")
    user.write("plain", "x")
    user.commit()
    arm(user.root / ".git" / "modules" / "lib", trap)
    user.write("lib/x.e", "2")

    workspace = user.workspace(dirty="snapshot")
    user.write("plain", "worker", at=workspace.path)
    user.apply(workspace)

    assert sprung() == ""


def test_environment_variables_of_the_caller_do_not_redirect_git(
    user: Any,
    new_user: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    trap: Path,
    sprung: Callable[[], str],
) -> None:
    other = new_user("other", {"x": "1"})
    for name, value in {
        "GIT_DIR": str(other.root / ".git"),
        "GIT_WORK_TREE": str(other.root),
        "GIT_INDEX_FILE": str(other.root / ".git" / "index"),
        "GIT_OBJECT_DIRECTORY": str(other.root / ".git" / "objects"),
        "GIT_EXTERNAL_DIFF": str(trap),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(trap),
        "GIT_PAGER": str(trap),
    }.items():
        monkeypatch.setenv(name, value)
    before = other.everything()

    workspace = create_workspace(open_repository(user.root), user.store, id="w", dirty="snapshot")
    user.write("b.txt", "worker\n", at=workspace.path)
    apply(workspace, token=preview(workspace).token)

    assert sprung() == ""
    assert other.everything() == before
    assert user.read("b.txt") == "worker\n"


def test_keys_in_the_environment_do_not_reach_git(
    user: Any, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER_API_KEY", "sk-secret-value")
    seen = account / "seen"
    configure(account, f'[filter "spy"]\n\tclean = env > {seen}; cat\n')
    user.write(".gitattributes", "*.spy filter=spy\n")
    user.commit()
    workspace = user.workspace()
    user.write("x.spy", "x\n", at=workspace.path)
    delta(workspace)

    assert "HOME=" in seen.read_text()
    assert "sk-secret-value" not in seen.read_text()


def test_a_filter_of_the_account_does_not_find_the_workers_programs(
    user: Any,
    account: Path,
    trap: Path,
    sprung: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Filters run inside the worker's tree, where `python3 -m` and a PATH with a dot would look first."""
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}{os.environ['PATH']}")
    configure(account, '[filter "mod"]\n\tclean = python3 -m json.tool\n[filter "word"]\n\tclean = tr a b\n')
    user.write(".gitattributes", "*.mod filter=mod\n*.word filter=word\n")
    user.commit()
    workspace = user.workspace()
    user.write("json/__init__.py", f"import os; os.system('{trap} module </dev/null')\n", at=workspace.path)
    user.write("tr", trap.read_bytes(), at=workspace.path, x=True)
    user.write("x.mod", "{}", at=workspace.path)
    user.write("x.word", "aaa\n", at=workspace.path)

    assert len(delta(workspace).changes) == 4
    assert sprung() == ""


def test_a_filter_of_the_account_runs_both_ways(user: Any, account: Path) -> None:
    configure(account, '[filter "upper"]\n\tclean = tr a-z A-Z\n\tsmudge = tr A-Z a-z\n\trequired = true\n')
    user.write(".gitattributes", "*.up filter=upper\n")
    user.write("x.up", "hello\n")
    user.commit()
    assert user.git("show", "HEAD:x.up") == "HELLO"

    workspace = user.workspace()
    assert (workspace.path / "x.up").read_text() == "hello\n"
    user.write("x.up", "hello worker\n", at=workspace.path)
    user.write("new.up", "fresh\n", at=workspace.path)
    shown = preview(workspace, with_patch=True)
    apply(workspace, token=shown.token)

    assert b"+HELLO WORKER" in shown.patch
    assert (user.read("x.up"), user.read("new.up")) == ("hello worker\n", "fresh\n")
    assert user.git("diff", "--stat", "--", "x.up").startswith(" x.up | 2 +-")
    assert user.git("status", "--porcelain", cwd=workspace.path) == " M x.up\n?? new.up"


def test_an_edit_of_a_file_whose_filter_only_the_repository_configures_is_refused(user: Any) -> None:
    user.git("config", "filter.upper.clean", "tr a-z A-Z")
    user.git("config", "filter.upper.smudge", "tr A-Z a-z")
    user.write(".gitattributes", "*.up filter=upper\n")
    user.write("x.up", "hello\n")
    user.write("y.up", "hello\n")
    user.commit()
    workspace = user.workspace()
    assert workspace.refused_filters == ("upper",)
    assert (workspace.path / "x.up").read_text() == "HELLO\n"
    user.write("x.up", "WORKER\n", at=workspace.path)
    (workspace.path / "y.up").unlink()
    user.write("plain", "worker\n", at=workspace.path)

    shown = preview(workspace, on_dirty="merge")
    with pytest.raises(ApplyConflict):
        apply(workspace, token=shown.token, on_dirty="merge")

    assert {c.path: c.kind for c in shown.conflicts}["x.up"] in ("filter", "content")
    user.apply(workspace, paths=["plain"])
    assert user.read("x.up") == "hello\n"


def test_a_filter_of_the_repository_runs_where_the_user_trusts_it(user: Any) -> None:
    user.git("config", "filter.upper.clean", "tr a-z A-Z")
    user.git("config", "filter.upper.smudge", "tr A-Z a-z")
    user.write(".gitattributes", "*.up filter=upper\n")
    user.write("x.up", "hello\n")
    user.commit()

    repository = open_repository(user.root, trusted_filters=frozenset({"upper"}))
    workspace = create_workspace(repository, user.store, id="w", dirty="committed")
    assert (workspace.path / "x.up").read_text() == "hello\n"
    user.write("x.up", "worker\n", at=workspace.path)
    user.apply(workspace)

    assert user.read("x.up") == "worker\n"


@pytest.fixture
def lfs(tmp_path: Path, account: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for git-lfs on PATH: contents lie beside the objects and are found through alternates."""
    tools = tmp_path / "tools"
    tools.mkdir()
    program = tools / "git-lfs"
    program.write_text(
        """#!/usr/bin/env python3
import hashlib, os, sys
git_dir = os.environ.get("GIT_DIR") or os.popen("git rev-parse --absolute-git-dir").read().strip()
data = sys.stdin.buffer.read()
if sys.argv[1] == "clean":
    if data.startswith(b"version lfs "):
        sys.stdout.buffer.write(data); sys.exit()
    name = hashlib.sha256(data).hexdigest()
    os.makedirs(os.path.join(git_dir, "lfs", "objects"), exist_ok=True)
    with open(os.path.join(git_dir, "lfs", "objects", name), "wb") as f: f.write(data)
    sys.stdout.write("version lfs " + name + "\\n")
else:
    name = data.decode().split()[-1]
    stores = [git_dir]
    alternates = os.path.join(git_dir, "objects", "info", "alternates")
    if os.path.exists(alternates):
        stores += [os.path.dirname(l.strip()) for l in open(alternates)]
    for store in stores:
        path = os.path.join(store, "lfs", "objects", name)
        if os.path.exists(path):
            sys.stdout.buffer.write(open(path, "rb").read()); sys.exit()
    sys.exit("object not found")
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return program


@pytest.mark.parametrize("scope", ["--global", "--local"])
def test_B27_large_files_kept_outside_git_come_out_right(user: Any, lfs: Path, scope: str) -> None:
    user.git("config", scope, "filter.lfs.clean", "git-lfs clean -- %f")
    user.git("config", scope, "filter.lfs.smudge", "git-lfs smudge -- %f")
    user.git("config", scope, "filter.lfs.required", "true")
    user.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    user.write("big.bin", b"\0large" * 1000)
    user.write("other.bin", b"\0other" * 1000)
    user.commit()
    assert user.git("show", "HEAD:big.bin").startswith("version lfs ")
    git_before = {n: v for n, v in user.everything().items() if n.startswith(".git/")}

    workspace = user.workspace()
    assert (workspace.path / "big.bin").read_bytes() == b"\0large" * 1000
    user.write("big.bin", b"\0worker" * 1000, at=workspace.path)
    user.write("new.bin", b"\0new" * 1000, at=workspace.path)
    user.apply(workspace)

    assert (user.root / "big.bin").read_bytes() == b"\0worker" * 1000
    assert (user.root / "new.bin").read_bytes() == b"\0new" * 1000
    assert {n: v for n, v in user.everything().items() if n.startswith(".git/")} == git_before


def test_a_work_tree_moved_by_configuration_is_refused(user: Any, tmp_path: Path) -> None:
    user.git("config", "core.worktree", str(tmp_path))

    with pytest.raises((UnsupportedRepository, NotARepository)):
        open_repository(user.root)


def test_trees_with_names_that_reach_out_are_refused(user: Any, tmp_path: Path) -> None:
    blob = user.git("hash-object", "-w", "--stdin", stdin=b"evil")
    for name in (b"..", b".git"):
        inner = user.git("mktree", stdin=f"100644 blob {blob}\tescaped\n".encode())
        entry = b"040000 tree " + inner.encode() + b"\t" + name + b"\n"
        tree = user.git("mktree", stdin=entry)
        commit = user.git("commit-tree", tree, "-m", "evil")
        user.git("update-ref", "refs/heads/main", commit)
        with pytest.raises(Exception, match=r"git read-tree failed|invalid path"):
            user.workspace(f"w{len(name)}")
    assert not (tmp_path / "state" / "workspaces" / "escaped").exists()
    assert list((user.store / "workspaces").iterdir()) == []


def test_a_worker_that_forges_its_index_gives_no_more_than_a_hint(user: Any) -> None:
    workspace = user.workspace()
    user.write("b.txt", "worker\n", at=workspace.path)
    index = workspace.path / ".git" / "index"
    for forged in (b"", b"DIRC", b"DIRC\0\0\0\2\xff\xff\xff\xff" + b"\0" * 200, os.urandom(4000)):
        index.write_bytes(forged)
        assert [change.path for change in delta(workspace).changes] == ["b.txt"]
    index.unlink()
    os.mkfifo(index)
    assert [change.path for change in delta(workspace).changes] == ["b.txt"]
    index.unlink()
    index.symlink_to(user.root / ".git" / "index")
    assert [change.path for change in delta(workspace).changes] == ["b.txt"]


def test_a_workers_objects_are_not_believed(user: Any) -> None:
    """A file forged into the clone's store under the name of an object of ours changes nothing."""
    workspace = user.workspace()
    user.write("b.txt", "worker\n", at=workspace.path)
    user.git("add", "-A", cwd=workspace.path)
    user.git("commit", "-qm", "w", cwd=workspace.path)
    objects = workspace.path / ".git" / "objects"
    for path in objects.rglob("*"):
        if path.is_file() and len(path.name) == 38:
            path.chmod(0o644)
            path.write_bytes(b"forged")

    user.apply(workspace)
    assert user.read("b.txt") == "worker\n"


def test_special_files_in_a_tree_do_no_harm(user: Any) -> None:
    workspace = user.workspace()
    os.mkfifo(workspace.path / "pipe")
    (workspace.path / "b.txt").unlink()
    os.mkfifo(workspace.path / "b.txt")
    os.mkfifo(user.root / "pipe")

    found = delta(workspace)

    assert [(change.status, change.path) for change in found.changes] == [("deleted", "b.txt")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_nobody_may_read_is_named(user: Any) -> None:
    workspace = user.workspace()
    user.write("secret", "x", at=workspace.path)
    (workspace.path / "secret").chmod(0)

    assert [(s.name, s.reason) for s in delta(workspace).skipped] == [(b"secret", "unreadable")]


def test_discarding_runs_nothing(user: Any, trap: Path, sprung: Callable[[], str]) -> None:
    workspace = user.workspace()
    arm(workspace.path / ".git", trap)
    discard(workspace)
    assert sprung() == ""


def test_the_trap_works(user: Any, trap: Path, sprung: Callable[[], str]) -> None:
    """The other tests would prove nothing if git never sprang it."""
    hostile_files(user)
    arm(user.root / ".git", trap)
    user.write("x.e", "changed\n")
    subprocess.run(["git", "add", "-A"], cwd=user.root, capture_output=True, check=False)

    assert "clean" in sprung()

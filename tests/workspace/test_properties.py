"""Random edits on both sides: apply gives what `git merge` gives, or refuses and touches nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.workspace import (
    apply,
    create_workspace,
    delta,
    discard,
    open_repository,
    preview,
    restore,
)
from dragoman.workspace.errors import ApplyConflict, NoChanges
from dragoman.workspace.keep import Keep, make_keep
from dragoman.workspace.names import is_safe, quoted, shown, unshown
from dragoman.workspace.trees import Entry, edit_tree, look_up

NAMES = ["a", "b", "d/a", "d/b", "d/e/a", "f/a", "d", "caf\u00e9 x"]
LINES = st.lists(st.sampled_from(["one", "two", "three", "four", "five"]), min_size=0, max_size=6)
FILES = st.dictionaries(st.sampled_from(NAMES), LINES, min_size=1, max_size=6).filter(
    lambda files: not any(f"{name}/" in other for name in files for other in files)
)


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, ...]]:
    """A few edits, each on a name: write, delete, rename, make executable, link."""
    found: list[tuple[str, ...]] = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["write", "insert", "delete", "rename", "exec", "link"]))
        found.append(
            (kind, draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMES)), draw(st.sampled_from("xyz")))
        )
    return found


def carry_out(top: Path, wanted: list[tuple[str, ...]]) -> None:
    """Do the edits as far as they make sense."""
    for kind, name, other, text in wanted:
        path, target = top / name, top / other
        exists = path.is_file() or path.is_symlink()
        if kind in ("write", "link") and not path.is_dir() and _can_have(path, top):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if kind == "link":
                path.symlink_to("a")
            else:
                path.write_text(text + "\n")
        elif kind == "insert" and path.is_file() and not path.is_symlink():
            path.write_text(text + "\n" + path.read_text())
        elif kind == "delete" and exists:
            path.unlink()
            _prune(path.parent, top)
        elif kind == "exec" and path.is_file() and not path.is_symlink():
            path.chmod(0o755)
        elif kind == "rename" and exists and not os.path.lexists(target) and _can_have(target, top):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            _prune(path.parent, top)


def _can_have(path: Path, top: Path) -> bool:
    return all(
        not os.path.lexists(p) or (p.is_dir() and not p.is_symlink()) for p in path.parents if p != top
    )


def _prune(folder: Path, top: Path) -> None:
    while folder != top and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def git(cwd: Path, *args: str, ok: tuple[int, ...] = (0,)) -> str:
    """Run git as the user would."""
    done = subprocess.run(["git", *args], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode in ok, done.stderr
    return done.stdout.strip()


def everything(top: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in top.rglob("*"):
        if path.is_symlink():
            found[str(path)] = (0, os.fsencode(path.readlink()))
        elif path.is_file():
            found[str(path)] = (path.stat().st_mode, path.read_bytes())
        else:
            found[str(path)] = (1, b"")
    return found


def tree_on_disk(root: Path) -> str:
    """The tree of all files, by git itself, in an index of its own."""
    index = root.parent / "index.check"
    index.unlink(missing_ok=True)
    env = {**os.environ, "GIT_INDEX_FILE": str(index)}
    subprocess.run(["git", "add", "-A"], cwd=root, env=env, check=True)
    done = subprocess.run(
        ["git", "write-tree"], cwd=root, env=env, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@contextmanager
def repository(files: dict[str, list[str]]) -> Iterator[Path]:
    """A repository with one commit."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "repo"
        root.mkdir()
        git(root, "init", "-q")
        for name, lines in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("".join(line + "\n" for line in lines))
        git(root, "add", "-A")
        git(
            root,
            "-c",
            "user.name=U",
            "-c",
            "user.email=u@localhost",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "base",
        )
        yield root


slow = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def compare_with_merge(
    files: dict[str, list[str]], mine: list[tuple[str, ...]], theirs: list[tuple[str, ...]]
) -> None:
    """Apply the worker's edits to the user's, and merge the same with git."""
    with repository(files) as root:
        store = root.parent / "state"
        workspace = create_workspace(open_repository(root), store, id="w", dirty="committed")
        carry_out(workspace.path, theirs)
        git(workspace.path, "add", "-A")
        git(workspace.path, "commit", "-q", "--allow-empty", "-m", "worker")
        worker = git(workspace.path, "rev-parse", "HEAD")
        carry_out(root, mine)
        git(root, "add", "-A")
        git(root, "commit", "-q", "--allow-empty", "-m", "mine")

        other = root.parent / "other"
        git(root.parent, "clone", "-q", str(root), str(other))
        git(other, "fetch", "-q", str(workspace.path), worker)
        merged = subprocess.run(
            ["git", "merge", "-q", "--no-edit", worker], cwd=other, capture_output=True, check=False
        )
        before = everything(root)
        try:
            shown = preview(workspace)
            apply(workspace, token=shown.token)
        except NoChanges:
            assert git(workspace.path, "diff", "--stat", workspace.base, worker) == ""
            return
        except ApplyConflict:
            assert everything(root) == before
            return
        assert merged.returncode == 0
        assert tree_on_disk(root) == git(other, "rev-parse", "HEAD^{tree}")
        untouched = {name: what for name, what in everything(root).items() if "/.git/" in name}
        assert {n: w for n, w in before.items() if "/.git/" in n}.items() <= untouched.items()


@slow
@given(files=FILES, mine=edits(), theirs=edits())
def test_an_apply_is_what_a_merge_gives_or_nothing(
    files: dict[str, list[str]], mine: list[tuple[str, ...]], theirs: list[tuple[str, ...]]
) -> None:
    compare_with_merge(files, mine, theirs)


@pytest.mark.endurance
@settings(slow, max_examples=600)
@given(files=FILES, mine=edits(), theirs=edits())
def test_an_apply_is_what_a_merge_gives_or_nothing_many_times(
    files: dict[str, list[str]], mine: list[tuple[str, ...]], theirs: list[tuple[str, ...]]
) -> None:
    compare_with_merge(files, mine, theirs)


@slow
@given(files=FILES, dirty=edits(), theirs=edits())
def test_what_is_applied_on_a_snapshot_is_the_workers_tree_and_a_restored_workspace_is_the_same(
    files: dict[str, list[str]], dirty: list[tuple[str, ...]], theirs: list[tuple[str, ...]]
) -> None:
    with repository(files) as root:
        store = root.parent / "state"
        carry_out(root, dirty)
        before = everything(root)
        workspace = create_workspace(open_repository(root), store, id="w", dirty="snapshot")
        assert everything(root) == before
        assert delta(workspace).changes == ()
        carry_out(workspace.path, theirs)
        result = delta(workspace)
        held = everything(workspace.path)
        discard(workspace)
        workspace = restore(store, "w")
        assert everything(workspace.path) == held
        assert delta(workspace).tree == result.tree
        try:
            apply(workspace, token=preview(workspace).token)
        except NoChanges:
            assert result.changes == ()
            return
        assert tree_on_disk(root) == result.tree


TREE_NAMES = st.lists(st.sampled_from([b"a", b"b", b"a.b", b"a0", b"\xff"]), min_size=1, max_size=4).map(
    b"/".join
)


@pytest.fixture(scope="module")
def keep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keep]:
    """A git folder of ours, for trees."""
    with repository({"x": ["x"]}) as root:
        yield make_keep(open_repository(root), tmp_path_factory.mktemp("keep") / "keep.git")


@settings(slow, max_examples=30)
@given(
    first=st.dictionaries(TREE_NAMES, st.sampled_from(["100644", "100755"]), max_size=8),
    second=st.dictionaries(TREE_NAMES, st.sampled_from(["100644", "100755", None]), max_size=8),
)
def test_an_edited_tree_is_what_an_index_would_give(
    keep: Keep, first: dict[bytes, str], second: dict[bytes, str | None]
) -> None:
    blob = keep.run("hash-object", "-w", "--stdin", stdin=b"x").text
    empty = keep.run("hash-object", "-t", "tree", "-w", "--stdin").text

    def by_index(start: str, change: dict[bytes, str | None]) -> str:
        index = keep.dir / "index.check"
        index.unlink(missing_ok=True)
        keep.run("read-tree", start, index=index)
        for removal in (True, False):  # what is removed makes room first
            lines = [
                f"{mode or 0} {blob if mode else '0' * 40}\t".encode() + name
                for name, mode in change.items()
                if (mode is None) == removal
            ]
            if lines:
                stdin = b"\0".join(lines) + b"\0"
                keep.run("update-index", "-z", "--replace", "--index-info", index=index, stdin=stdin)
        return keep.run("write-tree", index=index).text

    start = by_index(empty, dict(first))
    wanted = {
        name: mode
        for name, mode in second.items()
        if not any(
            m and other != name and (other + b"/" in name + b"/" or name + b"/" in other + b"/")
            for other, m in second.items()
        )
    }
    edited = edit_tree(keep, start, {n: Entry(m, blob) if m else None for n, m in wanted.items()})
    assert edited == by_index(start, wanted)
    for name, entry in look_up(keep, edited, wanted).items():
        assert (entry.mode if entry else None) == wanted[name]
    keep.run("fsck", "--strict", "--no-dangling", edited)


@given(st.binary(min_size=1, max_size=40))
def test_a_shown_name_reads_back(name: bytes) -> None:
    assert unshown(shown(name)) == name
    assert unshown(quoted(name)) == name
    shown(name).encode()
    assert quoted(name).isprintable()


@given(st.text(min_size=1))
def test_a_name_that_is_text_is_shown_as_it_is(name: str) -> None:
    if not name.startswith('"'):
        assert shown(name.encode()) == name


@pytest.mark.parametrize(
    "name",
    [
        *(b"", b"/x", b"a/../b", b"..", b"a//b", b"./a", b"a\0b"),
        *(
            b".git/x",
            b"a/.GIT/x",
            b".git",
            b"GIT~1/x",
            b".git./x",
            b".git ",
            b".g\xe2\x80\x8cit/x",
            b".git:x",
        ),
    ],
)
def test_names_that_reach_into_git_or_out_are_not_safe(name: bytes) -> None:
    assert not is_safe(name)


@pytest.mark.parametrize(
    "name", [b".gitignore", b"a/.gitattributes", b"x.git/y", b"..a", b"a..", b"\xff", b" "]
)
def test_ordinary_names_are_safe(name: bytes) -> None:
    assert is_safe(name)


def test_the_check_itself_sees_files(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    before = everything(tmp_path)
    (tmp_path / "x").write_text("2")
    assert everything(tmp_path) != before
    shutil.rmtree(tmp_path)

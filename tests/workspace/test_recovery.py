"""Applies that are interrupted: by an error, by a signal, by `kill -9` at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.workspace import apply, open_workspace, preview, recover
from dragoman.workspace.errors import (
    ApplyRolledBack,
    RecoveryNeeded,
    RepositoryBusy,
    TokenMismatch,
)
from dragoman.workspace.locks import repository_key

CHILD = """
import os, signal, sys
from pathlib import Path
from dragoman.workspace import apply, open_workspace
store, token, stage, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
seen = 0
def checkpoint(name):
    global seen
    if name == "writing":
        print("writing", flush=True)
    if name == stage:
        seen += 1
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)
apply(open_workspace(store, "w"), token=token, checkpoint=checkpoint)
"""

STAGES = [
    ("locked", 1),
    ("planned", 1),
    ("prepared", 1),
    ("writing", 1),
    ("step", 1),
    ("step", 2),
    ("step", 4),
    ("step", 6),
    ("done", 1),
    ("cleared", 1),
]


class Stop(Exception):
    """Raised by a checkpoint."""


def busy_workspace(user: Any) -> Any:
    """A workspace whose delta adds, edits, removes, swaps and links."""
    user.write("swap/inner", "x")
    user.write("plain", "x")
    (user.root / "b.txt").chmod(0o640)
    user.commit()
    workspace = user.workspace()
    tree = workspace.path
    user.write("a.txt", "worker\n", at=tree)
    user.write("new/deep/one", "1", at=tree)
    (tree / "b.txt").unlink()
    (tree / "b.txt").symlink_to("a.txt")
    (tree / "sub" / "c.txt").unlink()
    (tree / "swap" / "inner").unlink()
    (tree / "swap").rmdir()
    user.write("swap", "now a file", at=tree)
    (tree / "plain").unlink()
    user.write("plain/now/a", "folder", at=tree)
    return workspace


def leftovers(user: Any) -> list[str]:
    """Traces of an apply in the user's repository or in the state folder."""
    traces = [p for p in user.root.rglob("*") if "dragoman" in p.name or p.name == "index.lock"]
    return [str(p) for p in [*traces, *(user.store / "journal").glob("*")]]


@pytest.mark.parametrize(("stage", "count"), STAGES)
def test_B21_after_a_kill_the_next_start_finds_all_or_nothing(user: Any, stage: str, count: int) -> None:
    workspace = busy_workspace(user)
    before = user.everything()
    token = preview(workspace).token
    child = [sys.executable, "-c", CHILD, str(user.store), token, stage, str(count)]
    assert subprocess.run(child, capture_output=True, check=False).returncode == -signal.SIGKILL

    (recovered, *more) = recover(user.store) or [None]

    assert not more
    assert leftovers(user) == []
    if stage in ("done", "cleared"):
        assert recovered is None or recovered.outcome == "completed"
        assert preview(open_workspace(user.store, "w")).already_applied
        assert open_workspace(user.store, "w").applied[0].token == token
    else:
        assert recovered is not None
        assert recovered.outcome == (
            "untouched" if stage in ("locked", "planned", "prepared") else "rolled_back"
        )
        assert user.everything() == before
        assert preview(workspace).token == token


def test_B21_the_next_preview_recovers_by_itself(user: Any) -> None:
    workspace = busy_workspace(user)
    before = user.everything()
    token = preview(workspace).token
    subprocess.run(
        [sys.executable, "-c", CHILD, str(user.store), token, "step", "3"], capture_output=True, check=False
    )
    assert user.everything() != before

    assert preview(workspace).token == token
    assert user.everything() == before
    assert leftovers(user) == []


def test_B21_a_take_back_that_is_killed_is_taken_up_again(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = busy_workspace(user)
    before = user.everything()
    token = preview(workspace).token
    subprocess.run(
        [sys.executable, "-c", CHILD, str(user.store), token, "step", "6"], capture_output=True, check=False
    )
    real, luck, failed = os.unlink, random.Random(3), [0]

    def failing(*args: Any, **how: Any) -> None:
        if luck.random() < 0.4:
            failed[0] += 1
            raise OSError(5, "Input/output error")
        real(*args, **how)

    monkeypatch.setattr(os, "unlink", failing)
    attempts = 0
    while list((user.store / "journal").glob("*.json")):
        attempts += 1
        assert attempts < 100
        recover(user.store)

    assert failed[0] > 0
    assert attempts > 1
    assert user.everything() == before


@pytest.mark.parametrize(
    ("kills", "files"),
    [(4, 400), pytest.param(20, 2000, marks=[pytest.mark.endurance, pytest.mark.timeout(600)])],
)
def test_B21_kills_at_random_moments_inside_an_apply_of_many_files(
    new_user: Callable[..., Any], kills: int, files: int
) -> None:
    edited, added = files * 3 // 4, files // 4
    user = new_user(files={f"d{n % 20}/f{n}": f"old {n}\n" for n in range(edited)})
    workspace = user.workspace()
    for n in range(edited):
        user.write(f"d{n % 20}/f{n}", f"new {n}\n", at=workspace.path)
    for n in range(added):
        user.write(f"e{n % 20}/g{n}", f"more {n}\n", at=workspace.path)
    token = preview(workspace).token
    before = user.files()
    outcomes: dict[str, int] = {}
    moments = random.Random(7)
    span_s = files / 8000
    child = [sys.executable, "-c", CHILD, str(user.store), token, "never", "1"]
    for _ in range(kills):
        with subprocess.Popen(child, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            started = time.monotonic()
            try:
                process.wait(moments.uniform(0.0, span_s))
                span_s = time.monotonic() - started
            except subprocess.TimeoutExpired:
                process.kill()
        recovered = recover(user.store)
        assert leftovers(user) == []
        after = user.files()
        outcome = recovered[0].outcome if recovered else "completed"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome == "completed":
            assert len(after) == files
            assert all(content.startswith((b"new", b"more")) for _, content in after.values())
            user.git("checkout", "-q", "-f", ".")
            user.git("clean", "-fdq")
        else:
            assert outcome == "rolled_back"
            assert after == before
    assert outcomes.get("rolled_back", 0) >= kills // 4, outcomes
    assert user.git("status", "--porcelain") == ""


@pytest.mark.parametrize("step", range(1, 9))
def test_an_error_half_way_takes_everything_back(user: Any, step: int) -> None:
    workspace = busy_workspace(user)
    before = user.everything()
    token = preview(workspace).token
    seen = [0]

    def checkpoint(name: str) -> None:
        seen[0] += name == "step"
        if name == "step" and seen[0] == step:
            raise OSError(28, "No space left on device")

    with pytest.raises(ApplyRolledBack, match="No space left"):
        apply(workspace, token=token, checkpoint=checkpoint)
    assert user.everything() == before
    assert leftovers(user) == []


def test_an_interrupt_takes_everything_back_and_goes_on(user: Any) -> None:
    workspace = busy_workspace(user)
    before = user.everything()

    def checkpoint(name: str) -> None:
        if name == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(workspace, token=preview(workspace).token, checkpoint=checkpoint)
    assert user.everything() == before


def at(stage: str, count: int, act: Callable[[], object]) -> Callable[[str], None]:
    """A checkpoint that does something once, at the given occurrence of a stage."""
    seen = [0]

    def checkpoint(name: str) -> None:
        if name == stage:
            seen[0] += 1
            if seen[0] == count:
                act()

    return checkpoint


@pytest.mark.parametrize("stage", ["locked", "planned", "prepared", "writing", "step"])
def test_an_edit_while_applying_is_never_lost(user: Any, stage: str) -> None:
    workspace = user.workspace()
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        user.write(name, "worker\n", at=workspace.path)
    before = user.files()
    token = preview(workspace).token

    with pytest.raises((ApplyRolledBack, TokenMismatch, RecoveryNeeded, Exception)) as raised:
        apply(workspace, token=token, checkpoint=at(stage, 1, lambda: user.write("sub/c.txt", "user edit\n")))

    assert raised.type.__name__ in ("ApplyRolledBack", "TokenMismatch", "ApplyConflict")
    assert user.read("sub/c.txt") == "user edit\n"
    assert user.read("a.txt").encode() == before["a.txt"][1]
    assert leftovers(user) == []


def test_a_file_that_appears_while_applying_is_never_overwritten(user: Any) -> None:
    workspace = user.workspace()
    user.write("x/new", "worker\n", at=workspace.path)
    user.write("a.txt", "worker\n", at=workspace.path)

    with pytest.raises(ApplyRolledBack, match="x/new appeared"):
        apply(
            workspace,
            token=preview(workspace).token,
            checkpoint=at("writing", 1, lambda: user.write("x/new", "user\n")),
        )
    assert user.read("x/new") == "user\n"


def test_an_edit_of_a_new_file_during_a_failing_apply_is_saved(user: Any) -> None:
    workspace = user.workspace()
    user.write("n1", "worker\n", at=workspace.path)
    user.write("n2", "worker\n", at=workspace.path)

    def meddle() -> None:
        with (user.root / "n1").open("a") as file:
            file.write("user\n")
        raise OSError(28, "No space left on device")

    with pytest.raises(RecoveryNeeded) as raised:
        apply(workspace, token=preview(workspace).token, checkpoint=at("step", 1, meddle))

    ((name, place),) = raised.value.saved
    assert name == "n1"
    assert Path(place).read_text() == "worker\nuser\n"


def test_an_edit_after_a_kill_is_not_overwritten_by_recovery(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    user.write("b.txt", "worker\n", at=workspace.path)
    old = user.read("a.txt")
    token = preview(workspace).token
    subprocess.run(
        [sys.executable, "-c", CHILD, str(user.store), token, "step", "1"], capture_output=True, check=False
    )
    assert user.read("a.txt") == "worker\n"
    (user.root / "a.txt").unlink()
    user.write("a.txt", "written since\n")

    with pytest.raises(RecoveryNeeded) as raised:
        preview(workspace)

    assert user.read("a.txt") == "written since\n"
    ((name, place),) = raised.value.saved
    assert name == "a.txt"
    assert Path(place).read_text() == old
    preview(workspace, on_dirty="merge")


def test_a_folder_replaced_after_a_kill_does_not_stop_recovery(user: Any, tmp_path: Path) -> None:
    user.write("sub/d.txt", "d\n")
    user.commit()
    workspace = user.workspace()
    user.write("sub/c.txt", "worker\n", at=workspace.path)
    user.write("sub/d.txt", "worker\n", at=workspace.path)
    token = preview(workspace).token
    subprocess.run(
        [sys.executable, "-c", CHILD, str(user.store), token, "step", "1"], capture_output=True, check=False
    )
    (user.root / "sub").rename(tmp_path / "aside")
    (user.root / "sub").symlink_to(tmp_path / "aside")

    (recovered,) = recover(user.store)

    assert [name for name, _ in recovered.saved] == ["sub/c.txt"]
    assert Path(recovered.saved[0][1]).read_text() == "c\n"
    assert (tmp_path / "aside" / "c.txt").read_text() == "worker\n"
    assert leftovers(user) == []


def test_a_file_is_saved_onto_another_disk(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    user.write("b.txt", "worker\n", at=workspace.path)
    token = preview(workspace).token
    old = user.read("a.txt")
    subprocess.run(
        [sys.executable, "-c", CHILD, str(user.store), token, "step", "1"], capture_output=True, check=False
    )
    (user.root / "a.txt").unlink()
    user.write("a.txt", "written since\n")
    real = os.rename

    def rename(source: Any, target: Any, **how: Any) -> None:
        if ".saved" in os.fsdecode(target):
            raise OSError(18, "Invalid cross-device link")
        real(source, target, **how)

    monkeypatch.setattr(os, "rename", rename)
    (recovered,) = recover(user.store)

    assert Path(recovered.saved[0][1]).read_text() == old
    assert leftovers(user) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_git_folder_that_cannot_be_written_is_said(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    token = preview(workspace).token
    (user.root / ".git").chmod(0o500)
    try:
        with pytest.raises(ApplyRolledBack, match="could not begin"):
            apply(workspace, token=token)
    finally:
        (user.root / ".git").chmod(0o700)


def test_a_file_deleted_while_files_are_prepared_is_said(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)

    with pytest.raises((ApplyRolledBack, TokenMismatch)):
        apply(
            workspace,
            token=preview(workspace).token,
            checkpoint=at("planned", 1, lambda: (user.root / "a.txt").unlink()),
        )
    assert leftovers(user) == []


def test_git_commands_of_the_user_are_held_off_while_applying(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    refused: list[str] = []

    def commit() -> None:
        done = subprocess.run(["git", "commit", "-qam", "x"], cwd=user.root, capture_output=True, check=False)
        refused.append(done.stderr.decode())

    apply(workspace, token=preview(workspace).token, checkpoint=at("writing", 1, commit))

    assert "index.lock" in refused[0]
    user.git("commit", "-qam", "afterwards")


def test_a_git_command_at_work_holds_the_apply_off(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    lock = user.root / ".git" / "index.lock"
    lock.write_text("")
    before = user.everything()

    with pytest.raises(RepositoryBusy, match=r"index\.lock"):
        apply(workspace, token=preview(workspace).token)

    assert user.everything() == before
    recover(user.store)
    assert lock.exists(), "a lock that is not ours stays"


def test_recovery_leaves_an_apply_alone_that_is_still_running(user: Any) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    found: list[object] = []

    apply(
        workspace,
        token=preview(workspace).token,
        checkpoint=at("step", 1, lambda: found.extend(recover(user.store))),
    )

    assert found == []
    assert user.read("a.txt") == "worker\n"


def test_a_journal_that_cannot_be_read_stops_only_its_own_repository(
    user: Any, new_user: Callable[..., Any]
) -> None:
    workspace = user.workspace()
    user.write("a.txt", "worker\n", at=workspace.path)
    preview(workspace)
    journal = user.store / "journal" / f"{repository_key(user.root)}.json"
    journal.parent.mkdir(exist_ok=True)
    journal.write_text('{"version": 99}')

    assert recover(user.store) == []
    with pytest.raises(RecoveryNeeded, match="journal"):
        preview(workspace)
    other = new_user("other", {"x": "1"})
    theirs = other.workspace("other")
    other.write("x", "2", at=theirs.path)
    other.apply(theirs)


def test_recovery_of_a_repository_that_is_gone_forgets_it(user: Any) -> None:
    workspace = busy_workspace(user)
    token = preview(workspace).token
    subprocess.run(
        [sys.executable, "-c", CHILD, str(user.store), token, "step", "1"], capture_output=True, check=False
    )
    subprocess.run(["rm", "-rf", str(user.root)], check=True)

    assert [r.outcome for r in recover(user.store)] == ["gone"]
    assert recover(user.store) == []

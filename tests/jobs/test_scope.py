"""What was changed is held against what was allowed, and against what nobody should have touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman.jobs.scope import matches, outside_scope, plan_scope
from dragoman.workspace import Change

MENDED = "def double(x):\n    return 2 * x\n"


def mend(tree: Path) -> None:
    (tree / "code_under_test.py").write_text(MENDED)


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("a.txt", ["a.txt"], ["b.txt", "x/a.txt", "a.txt2"]),
        ("./a.txt", ["a.txt"], ["b.txt"]),
        ("src", ["src/a", "src/b/c"], ["srcs/a"]),
        ("src/", ["src/a", "src/b/c"], ["srcs/a", "x/src/a"]),
        ("src/**", ["src/a", "src/b/c"], ["a"]),
        ("**/*.py", ["a.py", "x/y/a.py"], ["a.txt"]),
        ("*.py", ["a.py"], ["x/a.py"]),
        ("src/*/test_?.py", ["src/x/test_1.py"], ["src/test_1.py", "src/x/y/test_1.py", "src/x/test_12.py"]),
        ("app/[id]/page.tsx", ["app/[id]/page.tsx", "app/i/page.tsx"], ["app/x/page.tsx"]),
        ("[!a].txt", ["b.txt"], ["a.txt"]),
        (
            "docs/r\u00e4ksm\u00f6rg\u00e5s.md",
            ["docs/ra\u0308ksmo\u0308rga\u030as.md"],
            ["docs/raksmorgas.md"],
        ),
        ("a b(1)+.txt", ["a b(1)+.txt"], ["a b1.txt"]),
        (".", ["anything/at/all"], []),
        ("**", ["anything/at/all"], []),
        ("[z-a", ["[z-a"], ["z"]),
    ],
)
def test_a_pattern_allows_what_it_says(pattern: str, inside: list[str], outside: list[str]) -> None:
    assert [name for name in inside if not matches(name, pattern)] == []
    assert [name for name in outside if matches(name, pattern)] == []


def change(path: str, old: str | None = None) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(path=path, old_path=old)


def test_a_rename_is_a_change_of_both_names() -> None:
    changes: list[Change] = [change("src/new.py", "lib/old.py"), change("src/a.py")]
    assert outside_scope(changes, ["src/"]) == ("lib/old.py",)
    assert outside_scope(changes, []) == ("src/new.py", "lib/old.py", "src/a.py")


def test_names_may_be_given_from_where_the_lead_stands(tmp_path: Path) -> None:
    for name in ("top.py", "sub/inner.py", "sub/src/a.py", "both.py", "sub/both.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    asked = ["top.py", "inner.py", "src/**", "both.py", "sub/inner.py", "new.py", "**"]
    assert plan_scope(asked, tmp_path, "sub") == (
        *("top.py", "sub/inner.py", "sub/src/**", "both.py", "new.py", "**"),
    )
    assert plan_scope(["inner.py"], tmp_path, "") == ("inner.py",)


def test_a_change_the_task_does_not_allow_is_partial_and_named(bench: Any) -> None:
    def act(tree: Path) -> None:
        mend(tree)
        (tree / "test_it.py").write_text("")

    result = bench.carry_out(act, report="Done.")
    assert (result["status"], result["error_code"]) == ("partial", "scope_exceeded")
    assert "test_it.py" in result["error"]
    assert list(result["scope"]["allowed"]) == ["code_under_test.py"]
    assert list(result["scope"]["out_of_scope"]) == ["test_it.py"]


def test_a_reviewer_that_changes_a_file_is_no_success(bench: Any) -> None:
    result = bench.carry_out(mend, packet="Role: reviewer\nGoal: look\n", report="Fine.")
    assert (result["status"], result["error_code"]) == ("partial", "scope_exceeded")


def test_a_file_of_the_checkout_that_changed_under_an_unconfined_worker_is_told(bench: Any) -> None:
    def act(tree: Path) -> None:
        mend(tree)
        (bench.repository / "x").write_text("escaped")
        (bench.repository / "test_it.py").unlink()

    result = bench.carry_out(act, report="Done.")
    assert (result["status"], result["error_code"]) == ("partial", "isolation_violation")
    assert sorted(result["isolation_violations"]) == ["test_it.py", "x"]


def test_ignored_files_of_the_checkout_may_change_meanwhile(bench: Any) -> None:
    (bench.repository / ".gitignore").write_text("*.log\n")

    def act(tree: Path) -> None:
        mend(tree)
        (bench.repository / "server.log").write_text("x")

    result = bench.carry_out(act, report="Done.")
    assert (result["status"], list(result["isolation_violations"])) == ("success", [])


def test_the_worker_in_a_subfolder_has_its_scope_from_the_top(bench: Any) -> None:
    sub = bench.repository / "sub"
    sub.mkdir()
    (sub / "inner.py").write_text("x = 1\n")
    bench.repository = sub
    result = bench.carry_out(
        lambda cwd: (cwd / "inner.py").write_text("x = 2\n"),
        packet="Goal: x\nAllowed files:\n- `inner.py`\n- `code_under_test.py`\n",
        report="Done.",
    )
    (task,) = bench.tasks
    assert task.cwd == task.scope_root / "sub"
    assert task.editable == ("sub/inner.py", "code_under_test.py")
    assert [file["path"] for file in result["delta"]["files"]] == ["sub/inner.py"]
    assert result["status"] == "success"

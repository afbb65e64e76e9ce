"""Permission rules: the spellings that were seen to work, and nothing that opens more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.workers.base import WorkerTask
from dragoman.workers.claude_rules import (
    ClaudeRules,
    allows_command,
    plan_rules,
    plan_settings,
    scope_glob,
)

CWD = Path("/work place/repo (1)")


def rules_for(cwd: Path = CWD, **changes: object) -> ClaudeRules:
    task = WorkerTask(
        prompt="p",
        cwd=cwd,
        model="m",
        gateway_url="http://127.0.0.1:1",
        token="t",
        run_id="r",
        config_folder=Path("/nowhere"),
        **changes,  # pyright: ignore[reportArgumentType]
    )
    return plan_rules(task, cwd=cwd)


def test_a_file_is_opened_by_an_edit_rule_with_two_slashes_and_escaped_parentheses() -> None:
    assert rules_for(editable=("src/a.py",)).allow == (r"Edit(//work place/repo \(1\)/src/a.py)",)


def test_write_rules_are_never_used_because_they_match_nothing() -> None:
    rules = rules_for(editable=("**", "a.txt", "src/"))
    assert not any(rule.startswith("Write") for rule in rules.allow)
    assert "Write" in rules.tools


def test_no_rule_is_bare(tmp_path: Path) -> None:
    rules = rules_for(tmp_path, editable=("**",), readable_dirs=(tmp_path,), allowed_commands=("make",))
    assert all("(" in rule for rule in (*rules.allow, *rules.deny))


@pytest.mark.parametrize(
    ("pattern", "glob"),
    [
        ("src/", "//ws/src/**"),
        ("src/**", "//ws/src/**"),
        ("./a.txt", "//ws/a.txt"),
        (".", "//ws/**"),
        ("./", "//ws/**"),
        ("*.json", "//ws/*.json"),
        ("q?.txt", "//ws/q?.txt"),
        ("src/[ab].py", "//ws/src/[ab].py"),
        ("open[.txt", r"//ws/open\[.txt"),
        ("é(ü).txt", "//ws/é(ü).txt"),
        ("../up", None),
        ("a/../../up", None),
        ("/etc/passwd", None),
        ("", None),
        ("src/*/", "//ws/src/*/**"),
        ("back\\slash", None),
        ("trailing ", None),
        ("line\nbreak", None),
    ],
)
def test_a_scope_entry_becomes_a_pattern_below_the_folder(pattern: str, glob: str | None) -> None:
    assert scope_glob(pattern, Path("/ws")) == glob


def test_a_name_with_brackets_that_exists_is_meant_literally(tmp_path: Path) -> None:
    (tmp_path / "[id]").mkdir()
    (tmp_path / "star*.txt").touch()
    (tmp_path / "[id]" / "page.tsx").touch()
    assert scope_glob("[id]/page.tsx", tmp_path) == rf"/{tmp_path}/\[id\]/page.tsx"
    assert scope_glob("[id]", tmp_path) == rf"/{tmp_path}/\[id\]/**"
    assert scope_glob("star*.txt", tmp_path) == rf"/{tmp_path}/star\*.txt"


def test_a_name_no_rule_can_spell_is_told_and_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "what?.txt").touch()
    rules = rules_for(tmp_path, editable=("what?.txt",))
    assert rules.allow == ()
    assert [notice.code for notice in rules.notices] == ["scope_not_expressible"]


@given(st.lists(st.text(alphabet="ab./*?[]()\\ é~#!", max_size=12), max_size=5))
def test_whatever_the_scope_says_no_rule_leaves_the_folder(patterns: list[str]) -> None:
    for rule in rules_for(Path("/ws"), editable=tuple(patterns)).allow:
        path = rule.removeprefix("Edit(").removesuffix(")")
        assert path.startswith("//ws/")
        assert ".." not in path.split("/")


def test_nothing_is_writable_when_the_task_only_reads() -> None:
    rules = rules_for(read_only=True, editable=("**",))
    assert rules.tools == ("Read", "Grep", "Glob", "Bash")
    assert rules.allow == ()
    assert rules_for(editable=()).tools == rules.tools


def test_a_folder_outside_is_opened_for_reading_only(tmp_path: Path) -> None:
    rules = rules_for(read_only=True, readable_dirs=(tmp_path,))
    assert rules.allow == (f"Read(/{tmp_path}/**)",)


def test_an_exact_command_becomes_a_rule_with_its_parentheses_escaped() -> None:
    rules = rules_for(
        read_only=True, allowed_commands=('python3 -c "print(1)"', "make test", "make test", " ")
    )
    assert rules.allow == (r'Bash(python3 -c "print\(1\)")', "Bash(make test)")
    assert rules.commands_by_hook == ()


@pytest.mark.parametrize("command", ["pytest test_*.py", "run:*", "a\\b", "a\nb"])
def test_a_command_a_rule_would_widen_goes_to_the_hook(command: str) -> None:
    rules = rules_for(read_only=True, allowed_commands=(command,))
    assert rules.allow == ()
    assert rules.commands_by_hook == (command,)


def test_env_files_are_denied_in_every_spelling_that_was_seen_to_matter() -> None:
    deny = rules_for(Path("/ws"), denied_reads=(".env",)).deny
    assert {"Read(.env)", "Read(./.env)", "Read(**/.env)", "Read(//ws/**/.env)", "Edit(**/.env)"} <= set(deny)


def test_git_may_not_write_files_through_its_output_option() -> None:
    assert "Bash(git * --output*)" in rules_for().deny


def test_the_settings_deny_what_is_not_allowed_instead_of_asking() -> None:
    permissions = plan_settings(rules_for())["permissions"]
    assert permissions["defaultMode"] == "dontAsk"
    assert permissions["disableBypassPermissionsMode"] == "disable"


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("make *", True),
        ("  make *\n", True),
        ("cd /ws && make *", True),
        ("cd '/ws' && make *", True),
        ("cd /ws/../etc && make *", False),
        ("make *; id", False),
        ("make * && id", False),
        ("MAKE *", False),
        ("make all", False),
        ("", False),
    ],
)
def test_the_hook_compares_word_for_word(asked: str, allowed: bool) -> None:
    assert allows_command(asked, ("make *",), Path("/ws")) is allowed


def test_a_worker_in_a_subfolder_writes_by_names_from_the_top_and_reads_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    rules = rules_for(tmp_path / "sub", editable=("a.txt", "sub/"), scope_root=tmp_path)
    top = f"/{tmp_path.resolve()}"
    assert rules.allow == (f"Edit({top}/a.txt)", f"Edit({top}/sub/**)", f"Read({top}/**)")
    assert f"Read({top}/**/.env)" in rules.deny

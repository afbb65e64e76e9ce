"""What a task is taken for when nobody said."""

from __future__ import annotations

import pytest

from dragoman.mcp.modes import infer_mode


@pytest.mark.parametrize(
    ("task", "mode", "reason"),
    [
        ("Add a summary of the parser to README.md", "write", "write_hints"),
        ("Implement greet(name) in src/app.py", "write", "write_hints"),
        ("Fix the security bug in auth.py", "write", "write_hints"),
        ("Refactor the queue", "write", "write_hints"),
        ("Explain how the queue works", "read", "read_hints"),
        ("Where is the token checked?", "read", "read_hints"),
        ("How would you change the parser?", "read", "read_hints"),
        ("Why was the parser rewritten?", "read", "read_hints"),
        ("Do you see where the lock is released?", "read", "read_hints"),
        ("Do what TASK.md says: add greet()", "write", "write_hints"),
        ("Review the retry logic", "review", "review_hints"),
        ("Find bugs in the lexer", "review", "review_hints"),
        ("Look for possible problems in the lexer", "review", "review_hints"),
        ("Review the lexer and fix what is wrong", "review", "mixed_intent_review_first"),
        ("为什么修改这个函数", "read", "query_prefix_override"),
        ("修复登录错误", "write", "write_hints"),
        ("审查这段代码", "review", "review_hints"),
        ("テストを追加してください", "write", "write_hints"),
        ("なぜ変更したのか", "read", "query_prefix_override"),
        ("the address of the building", "read", "default_read"),
        ("", "read", "default_read"),
    ],
)
def test_the_words_of_a_task_say_what_it_is(task: str, mode: str, reason: str) -> None:
    found = infer_mode("auto", task)
    assert (found.delegated_mode, found.reason) == (mode, reason)


def test_a_mode_that_was_asked_for_is_taken_as_it_is() -> None:
    assert infer_mode("read", "Fix it", has_diff=True)[:3] == ("read", "read", "explicit")


def test_a_diff_is_there_to_be_judged_and_constraints_to_limit_a_change() -> None:
    assert infer_mode("auto", "Fix it", has_diff=True, has_constraints=True).delegated_mode == "review"
    assert infer_mode("auto", "Look at it", has_constraints=True).delegated_mode == "write"


def test_files_without_a_word_are_reviewed_with_low_confidence() -> None:
    found = infer_mode("auto", "src/app.py", has_files=True)
    assert (found.delegated_mode, found.reason, found.confidence) == ("review", "files_fallback", "low")


def test_the_words_that_decided_are_named() -> None:
    assert infer_mode("auto", "Fix the parser and fix the lexer, then rename both").matched_hints == (
        "fix",
        "rename",
    )

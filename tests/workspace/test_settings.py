"""Which settings of a repository are repeated, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman.workspace import Git
from dragoman.workspace.errors import GitFailed
from dragoman.workspace.settings import OURS, PLAIN, Setting, parse_list, plan_settings, render


def listed(*lines: tuple[str, str, str]) -> list[Setting]:
    """Settings as git lists them: scope, key, value."""
    return [Setting(*line) for line in lines]


def test_only_settings_that_say_how_bytes_are_read_are_repeated() -> None:
    plan = plan_settings(
        listed(
            ("local", "core.autocrlf", "true"),
            ("local", "core.fsmonitor", "/bin/evil"),
            ("local", "core.hookspath", "/evil"),
            ("local", "core.excludesfile", "/dev/zero"),
            ("local", "merge.evil.driver", "evil"),
            ("local", "alias.status", "!evil"),
            ("worktree", "core.eol", "crlf"),
        )
    )
    assert plan.plain == (("core.autocrlf", "true"), ("core.eol", "crlf"))
    assert plan.filters == ()


def test_no_setting_that_is_repeated_can_name_a_program() -> None:
    """Each name was looked up in git's documentation; a new one needs the same care."""
    assert not {
        key for key in PLAIN if key.rpartition(".")[2] in ("command", "driver", "program", "fsmonitor")
    }
    assert {"core.hooksPath", "core.fsmonitor"} <= {key for key, _ in OURS}


def test_the_last_of_several_values_wins() -> None:
    plan = plan_settings(listed(("global", "core.eol", "lf"), ("local", "core.eol", "crlf")))
    assert plan.plain == (("core.eol", "crlf"),)


def test_a_filter_of_the_account_cannot_be_replaced_by_the_repository() -> None:
    plan = plan_settings(
        listed(
            ("global", "filter.lfs.process", "git-lfs filter-process"),
            ("local", "filter.lfs.process", "evil"),
            ("local", "filter.lfs.required", "false"),
            ("local", "filter.other.clean", "evil"),
        )
    )
    assert plan.filters == (("filter.lfs.process", "git-lfs filter-process"),)
    assert plan.refused_filters == {"other"}


def test_git_lfs_word_for_word_is_taken_from_the_repository_and_nothing_like_it() -> None:
    for value, taken in (
        ("git-lfs filter-process", True),
        ("git-lfs clean -- %f", True),
        ("git-lfs clean -- %f; evil", False),
        ("/tmp/git-lfs clean -- %f", False),
        ("git-lfs  clean -- %f", False),
    ):
        plan = plan_settings(
            listed(("local", "filter.x.clean", value), ("local", "filter.x.required", "true"))
        )
        assert bool(plan.filters) == taken
        assert (plan.refused_filters == {"x"}) == (not taken)


def test_a_trusted_filter_is_taken_whole() -> None:
    plan = plan_settings(
        listed(
            ("local", "filter.a.b.clean", "x"),
        ),
        frozenset({"a.b"}),
    )
    assert plan.filters == (("filter.a.b.clean", "x"),)


def test_gits_listing_is_read() -> None:
    raw = b"global\0user.name\nA\0local\0core.bare\0local\0filter.x.clean\na\nb\0"
    assert list(parse_list(raw)) == listed(
        ("global", "user.name", "A"), ("local", "core.bare", "true"), ("local", "filter.x.clean", "a\nb")
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("filter.x.clean", 'tr "a" \\b; echo #not a comment'),
        ("filter.with.dots and spaces.clean", "x"),
        ('filter.quo"te\\d.clean', "  leading and trailing  "),
        ("filter.x.clean", "line\nbreak\ttab"),
        ("filter.x.clean", ""),
        ("core.eol", "lf"),
    ],
)
def test_what_is_written_reads_back_as_it_was(tmp_path: Path, key: str, value: str) -> None:
    file = tmp_path / "config"
    file.write_text(render([(key, value)]))
    read = Git.find().run(["config", "--file", str(file), "--list", "-z"]).out.decode()
    assert read == f"{key}\n{value}\0"


def test_a_name_git_cannot_read_back_is_left_out(tmp_path: Path) -> None:
    assert render([("filter.a\nb.clean", "x")]).strip() == ""


def test_a_failing_command_is_named_without_its_arguments(user: Any) -> None:
    with pytest.raises(GitFailed) as raised:
        user.repository().read("cat-file", "-p", "secret-argument-of-a-user")
    assert str(raised.value).startswith("git cat-file failed (128)")


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    program = tmp_path / "git"
    program.write_text('#!/bin/sh\n[ "$1" = version ] && echo git version 2.50.0 && exit\nsleep 600 & wait\n')
    program.chmod(0o755)
    git = Git.find({"PATH": f"{tmp_path}:/usr/bin:/bin"})
    with pytest.raises(GitFailed, match="took longer"):
        git.run(["status"], timeout_s=0.2)

"""Whatever a guard refuses is told in one sentence, and a guard is never talked round by a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.jobs.guards import (
    MAX_TASK_BYTES,
    Refused,
    check_context_roots,
    check_cwd,
    check_depth,
    check_paths,
    check_task,
    connection_roots,
    depth,
    passable,
    real_roots,
    roots_for,
    worker_depth,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = (tmp_path / "home" / "u").resolve()
    (folder / "projects" / "app").mkdir(parents=True)
    return folder


def refused(home: Path, cwd: object, *, roots: tuple[str, ...] | None = ("~/projects",)) -> str:
    """The code a folder is refused with; the sentence is checked on the way."""
    allow = None if roots is None else real_roots(roots, home=home)
    with pytest.raises(Refused) as caught:
        check_cwd(str(cwd), home=home, allow_roots=allow, private=(home / ".local/state/dragoman",))
    one_sentence(caught.value)
    return caught.value.code


def one_sentence(error: Refused) -> None:
    assert error.message.isprintable()
    assert "\n" not in error.message
    assert len(error.message) < 400


def test_a_folder_below_an_allow_root_is_taken_by_its_real_name(home: Path) -> None:
    (home / "alias").symlink_to(home / "projects")
    found = check_cwd(
        home / "alias" / "app" / ".." / "app", home=home, allow_roots=real_roots(["~/projects"], home=home)
    )
    assert found == home / "projects" / "app"


@pytest.mark.parametrize(
    "root", ["/", "/etc", "/usr", "/tmp", "/proc", "/root", "/home", "/usr/lib", "/proc/self"]
)
def test_a_folder_of_the_system_is_refused_to_everybody(home: Path, root: str) -> None:
    assert refused(home, root, roots=("/", "~/projects")) == "dangerous_root"
    assert refused(home, root, roots=None) == "dangerous_root"


def test_the_home_and_what_holds_it_are_refused_by_every_name(home: Path) -> None:
    (home / "projects" / "way-home").symlink_to(home)
    (home / "projects" / "to-root").symlink_to("/")
    for name in (home, home.parent, home / "projects" / "way-home", home / "projects" / "to-root"):
        assert refused(home, name, roots=("~", "~/projects")) == "dangerous_root"
    assert refused(home, home / "projects" / "app" / ".." / "..") == "dangerous_root"


@pytest.mark.parametrize("name", [".ssh", ".claude/projects", ".codex", ".local/state/dragoman/workspaces/x"])
def test_keys_logins_and_our_own_state_are_no_place_to_work(home: Path, name: str) -> None:
    (home / name).mkdir(parents=True)
    assert refused(home, home / name, roots=("~",)) == "dangerous_root"


def test_a_link_out_of_an_allow_root_does_not_count_as_inside(home: Path) -> None:
    (home / "elsewhere").mkdir()
    (home / "projects" / "link").symlink_to(home / "elsewhere")
    assert refused(home, home / "projects" / "link") == "cwd_not_allowed"
    assert refused(home, home / "elsewhere") == "cwd_not_allowed"


def test_a_person_is_not_bound_by_allow_roots_unless_the_config_says_so(home: Path) -> None:
    (home / "elsewhere").mkdir()
    asked = {"allow_roots": ["~/projects"], "home": home}
    assert roots_for("person", cli_roots=False, **asked) is None
    assert roots_for("person", cli_roots=True, **asked) == (home / "projects",)
    assert roots_for("connection", cli_roots=False, **asked) == (home / "projects",)
    assert check_cwd(home / "elsewhere", home=home, allow_roots=None) == home / "elsewhere"


def test_a_connections_own_roots_replace_the_configured_ones() -> None:
    own = {"CODEX_CLAUDE_ALLOW_ROOTS": f"/a{os.pathsep} /b,/c"}
    assert connection_roots(own, ["~/projects"]) == ("/a", "/b", "/c")
    assert connection_roots({}, ["~/projects"]) == ("~/projects",)


def test_missing_files_and_strange_names_are_told(home: Path) -> None:
    (home / "projects" / "file").touch()
    assert refused(home, home / "projects" / "nowhere") == "cwd_not_found"
    assert refused(home, home / "projects" / "file") == "cwd_not_found"
    assert refused(home, "projects/app") == "invalid_input"
    assert refused(home, "/x\x1b[2J\0y") == "invalid_input"
    assert refused(home, "/" + "a" * 5000) == "limit_exceeded"
    loop = home / "projects" / "loop"
    loop.symlink_to(loop)
    assert refused(home, loop) == "cwd_not_found"


def test_a_task_of_a_megabyte_or_with_control_characters_is_refused() -> None:
    check_task("Fix it.\n\tPlease: räksmörgås 🦐\r\n")
    check_task("x" * MAX_TASK_BYTES)
    for task, code in (
        ("x" * 1_048_576, "limit_exceeded"),
        ("ü" * (MAX_TASK_BYTES // 2 + 1), "limit_exceeded"),
        ("a\0b", "invalid_input"),
        ("a\x1b]0;title\x07", "invalid_input"),
        ("a\udc80", "invalid_input"),
    ):
        with pytest.raises(Refused) as caught:
            check_task(task)
        one_sentence(caught.value)
        assert caught.value.code == code


def test_paths_are_kept_inside_even_where_they_do_not_exist_yet(home: Path) -> None:
    app = home / "projects" / "app"
    (app / "out").symlink_to(home)
    (app / "src").mkdir()
    asked = ["a.txt", "./src/", "new/räksmörgås.md", "src/**", f"{app}/b c.txt", "a.txt"]
    assert check_paths(asked, app) == ("a.txt", "src/", "new/räksmörgås.md", "src/**", "b c.txt")
    for name in ("../x", "src/../../x", "/etc/passwd", "~/x", "out/x/y.txt", "out/**", "", f"{app}/../x"):
        with pytest.raises(Refused) as caught:
            check_paths([name], app)
        one_sentence(caught.value)
        assert caught.value.code == "file_escapes_cwd"


def test_ten_thousand_paths_are_one_sentence(home: Path) -> None:
    with pytest.raises(Refused, match="10,000 files") as caught:
        check_paths([f"f{number}" for number in range(10_000)], home)
    one_sentence(caught.value)
    assert caught.value.code == "limit_exceeded"


def test_context_roots_stand_apart_from_the_repository_and_each_other(home: Path) -> None:
    for name in ("lib", "lib/inner", "docs"):
        (home / "projects" / name).mkdir()
    app, allow = home / "projects" / "app", (home / "projects",)

    def check(*names: str) -> tuple[Path, ...]:
        roots = [str(home / "projects" / name) for name in names]
        return check_context_roots(roots, app, home=home, allow_roots=allow)

    assert check("lib", "docs") == (home / "projects" / "lib", home / "projects" / "docs")
    for names in (("lib", "lib/inner"), ("app",), ("lib",) * 6, ("../elsewhere",)):
        with pytest.raises(Refused) as caught:
            check(*names)
        one_sentence(caught.value)


def test_a_worker_cannot_delegate_again() -> None:
    for env in ({}, {"BRIDGE_DEPTH": "0"}, {"BRIDGE_DEPTH": " 1 "}):
        check_depth(env)
    for text in ("2", "3", "99999", "-1", "two", "²"):
        with pytest.raises(Refused) as caught:
            check_depth({"BRIDGE_DEPTH": text})
        assert caught.value.code == "recursion_refused"
    assert depth(worker_depth()) == 2


@given(st.lists(st.sampled_from(["..", ".", "a", "link", "sub", "*", "~"]), max_size=6).map("/".join))
def test_no_spelling_of_a_path_gets_out(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = (tmp_path_factory.getbasetemp() / "guarded").resolve()
    (root / "sub").mkdir(parents=True, exist_ok=True)
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("/")
    try:
        (found,) = check_paths([name], root)
    except Refused:
        return
    assert "*" in found or (root / found).resolve().is_relative_to(root)


def test_variables_named_like_secrets_are_not_passed_on() -> None:
    asked = ["NODE_ENV", "MY_API_KEY", "database_url", "CI", "GH_TOKEN", "ssh_auth_sock", "CI"]
    assert passable(asked) == (
        ("NODE_ENV", "CI"),
        ("MY_API_KEY", "database_url", "GH_TOKEN", "ssh_auth_sock"),
    )

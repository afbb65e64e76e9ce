"""What the user's programs need is found by looking, and no more of the home than that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dragoman.sandbox.confinement import Base
from dragoman.sandbox.secrets import denied_paths, is_secret_name, secret_files
from dragoman.sandbox.toolchain import Toolchain, find_program, find_toolchain

BASE = Base((Path("/usr"), Path("/etc/hosts")))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "home"
    folder.mkdir()
    return folder


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def find(home: Path, *folders: Path, read: tuple[str, ...] = (), **env: str) -> Toolchain:
    path = ":".join(map(str, folders))
    return find_toolchain({"PATH": path, **env}, home, base=BASE, read=read)


def test_a_bin_folder_opens_its_prefix(home: Path) -> None:
    program(home / ".nvm" / "versions" / "node" / "v20" / "bin" / "node")
    found = find(home, home / ".nvm/versions/node/v20/bin", NVM_DIR=str(home / ".nvm/versions"))
    assert found.readable == (home / ".nvm" / "versions",)


def test_a_shared_folder_is_never_opened_whole(home: Path) -> None:
    tool = program(home / ".local" / "share" / "tools" / "lint" / "bin" / "lint")
    (home / ".local" / "bin").mkdir()
    (home / ".local" / "bin" / "lint").symlink_to(tool)
    program(home / "bin" / "mine")
    found = find(home, home / ".local" / "bin", home / "bin", home)
    assert found.readable == (home / "bin", home / ".local" / "bin", tool.parent.parent)


def test_a_virtual_environment_opens_the_interpreter_it_was_made_from(home: Path) -> None:
    program(home / ".pyenv" / "versions" / "3.12" / "bin" / "python3")
    env = home / ".virtualenvs" / "app"
    (env / "bin").mkdir(parents=True)
    (env / "bin" / "python").symlink_to(home / ".pyenv" / "versions" / "3.12" / "bin" / "python3")
    (env / "pyvenv.cfg").write_text(f"home = {home}/.pyenv/versions/3.12/bin\nversion = 3.12\n")
    found = find(home, VIRTUAL_ENV=str(env), PYENV_ROOT="/elsewhere")
    assert set(found.readable) == {env, home / ".pyenv" / "versions" / "3.12"}


def test_links_on_the_way_are_kept_so_that_names_work_inside(home: Path) -> None:
    program(home / "disk" / "tools" / "go" / "bin" / "go")
    (home / "sdk").symlink_to("disk/tools")
    found = find(home, home / "sdk" / "go" / "bin")
    assert found.readable == (home / "disk" / "tools" / "go",)
    assert found.links == ((home / "sdk", "disk/tools"),)


def test_tools_found_through_home_get_their_variable(home: Path) -> None:
    (home / ".cargo" / "bin").mkdir(parents=True)
    found = find(home)
    assert found.environment == {"CARGO_HOME": str(home / ".cargo")}
    assert found.readable == (home / ".cargo",)
    assert find(home, CARGO_HOME="/usr/cargo").environment == {}


def test_a_program_in_a_closed_folder_opens_only_its_own(home: Path) -> None:
    client = program(home / ".claude" / "local" / "claude")
    assert find_program(client, home, base=BASE).readable == (home / ".claude" / "local",)
    single = program(home / "claude")
    assert find_program(single, home, base=BASE).readable == (single,)


def test_configured_folders_are_opened_whole(home: Path) -> None:
    (home / "projects" / "shared").mkdir(parents=True)
    found = find(home, read=("~/projects", "relative", "/missing/folder"))
    assert found.readable == (home / "projects",)


def test_loops_and_missing_folders_are_left_out(home: Path) -> None:
    (home / "loop").symlink_to("loop")
    assert find(home, home / "loop", home / "missing" / "bin", Path("/usr/bin")).readable == ()


def test_what_we_may_not_read_ourselves_is_left_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "others"):
        program(home / name / "bin" / "tool")
    monkeypatch.setattr(os, "access", lambda path, mode: "others" not in str(path))
    found = find(home, home / "mine" / "bin", home / "others" / "bin")
    assert found.readable == (home / "mine",)


@pytest.mark.parametrize("name", [".env", ".env.local", ".env.production", ".envrc", "id_rsa", ".netrc"])
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", [".env.example", ".env.test", "env.py", ".environment", "id_rsa.pub"])
def test_names_that_are_harmless(name: str) -> None:
    assert not is_secret_name(name)


def test_secrets_of_a_tree_are_found_but_for_those_brought_along(home: Path) -> None:
    for name in (".env", "sub/.env", "sub/.env.example", "node_modules/x/.env", ".git/.env"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")
    (home / "link").symlink_to("sub")
    assert secret_files(home, spared=["sub/.env"]) == (home / ".env",)


def test_denied_are_names_that_grow_and_folders_of_our_own_by_both_names(home: Path) -> None:
    (home / ".claude-worker").mkdir()
    (home / "real").mkdir()
    (home / "state").symlink_to("real")
    denied = denied_paths(home, [home / "state"])
    assert {home / ".ssh", home / ".claude-worker", home / "state", home / "real"} <= set(denied)

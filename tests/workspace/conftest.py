"""A user with a repository, a state folder and an account of their own."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dragoman.workspace import (
    ApplyResult,
    Preview,
    Repository,
    Workspace,
    apply,
    create_workspace,
    open_repository,
    preview,
)

State = dict[str, tuple[str, bytes]]


@dataclass
class User:
    """A user's repository at `root` and their state folder at `store`."""

    root: Path
    store: Path

    def git(self, *args: str | bytes, cwd: Path | None = None, stdin: bytes | None = None) -> str:
        """Run git as the user would."""
        done = subprocess.run(
            ["git", *args], cwd=cwd or self.root, input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")

    def write(
        self, name: str | bytes, content: str | bytes = "", *, at: Path | None = None, x: bool = False
    ) -> None:
        """Write a file, with the folders above it."""
        path = (at or self.root) / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if x:
            path.chmod(0o755)

    def read(self, name: str) -> str:
        """Read a file of the user's."""
        return (self.root / name).read_text()

    def commit(self, message: str = "more") -> str:
        """Commit everything there is."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def repository(self) -> Repository:
        """Open the repository."""
        return open_repository(self.root)

    def workspace(self, id: str = "w", **how: Any) -> Workspace:
        """Make a workspace; from HEAD if nothing else is asked for."""
        return create_workspace(self.repository(), self.store, id=id, **{"dirty": "committed", **how})

    def apply(self, workspace: Workspace, **how: Any) -> ApplyResult:
        """Preview and confirm."""
        options = {key: value for key, value in how.items() if key not in ("cleanup", "checkpoint")}
        return apply(workspace, token=preview(workspace, **options).token, **how)

    def preview(self, workspace: Workspace, **how: Any) -> Preview:
        """Preview."""
        return preview(workspace, **how)

    def everything(self) -> State:
        """Every file of the repository, `.git` included: mode and content."""
        return state_of(self.root)

    def files(self) -> State:
        """Every file of the work tree."""
        return state_of(self.root, without=".git")


def state_of(top: Path, *, without: str = "") -> State:
    """Every file below a folder: mode and content; empty folders count, one at the top may be left out."""
    found: State = {}
    for folder, folders, names in os.walk(top):
        if Path(folder) == top and without in folders:
            folders.remove(without)
        for name in [*names, *(f for f in folders if (Path(folder) / f).is_symlink())]:
            path = Path(folder) / name
            details = path.lstat()
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(top))] = (oct(details.st_mode), content)
        if not names and not folders and Path(folder) != top:
            found[str(Path(folder).relative_to(top)) + "/"] = ("", b"")
    return found


@pytest.fixture(name="state_of")
def _state_of() -> Callable[[Path], State]:
    return state_of


@pytest.fixture(autouse=True)
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder and global configuration of the test's own; nothing of the machine's is read."""
    home = tmp_path / "account"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (home / ".gitconfig").write_text(
        "[user]\n\tname = U\n\temail = u@localhost\n[init]\n\tdefaultBranch = main\n"
        '[protocol "file"]\n\tallow = always\n[core]\n\tfsync = none\n'
    )
    return home


@pytest.fixture
def new_user(tmp_path: Path) -> Callable[..., User]:
    """Make further users: `new_user(name, files)` with a first commit of these files."""

    def make(name: str = "repo", files: dict[str, str] | None = None) -> User:
        root = tmp_path / name
        root.mkdir(parents=True)
        user = User(root, tmp_path / "state")
        user.git("init", "-q")
        for path, content in (files or {}).items():
            user.write(path, content)
        if files:
            user.commit("first")
        return user

    return make


@pytest.fixture
def user(new_user: Callable[..., User]) -> User:
    """A user with a small repository."""
    return new_user(
        files={
            "a.txt": "".join(f"line {n}\n" for n in range(1, 21)),
            "b.txt": "b\n",
            "sub/c.txt": "c\n",
            ".gitignore": "*.log\nbuild/\n",
        }
    )


def mode_of(path: Path) -> int:
    """Permissions of a file."""
    return stat.S_IMODE(path.lstat().st_mode)

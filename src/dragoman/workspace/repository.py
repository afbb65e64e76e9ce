"""The user's repository: found, checked, and read without running anything it configures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import NotARepository, UnsupportedRepository
from .git import Git, Output
from .settings import GUARD, Settings, parse_list, plan_settings

_QUESTIONS = (
    "--is-bare-repository",
    "--is-inside-work-tree",
    "--show-object-format",
    "--is-shallow-repository",
)


@dataclass(frozen=True)
class Repository:
    """A work tree with its git folder. Nothing here is ever written, except by `apply` and `export`.

    Attributes:
        root: top of the work tree, resolved.
        git_dir: this work tree's own git folder (index, HEAD, locks).
        common_dir: the git folder shared by linked work trees (refs, objects, configuration).
        object_stores: the object store, then those it borrows from.
        prefix: the folder the repository was opened from, relative to `root`; empty at the top.
        object_format: `sha1` or `sha256`.
        shallow: whether history is cut off.
        settings: what our own git folders repeat of its configuration.
    """

    git: Git
    root: Path
    git_dir: Path
    common_dir: Path
    object_stores: tuple[Path, ...]
    prefix: str
    object_format: str
    shallow: bool
    settings: Settings

    @property
    def index(self) -> Path:
        """The user's index file. It is copied, never given to git."""
        return self.git_dir / "index"

    def read(self, *args: str, ok: tuple[int, ...] = (0,)) -> Output:
        """Run a command that only reads refs and objects on the user's git folder."""
        return self.git.run([*GUARD, "--git-dir", os.fspath(self.git_dir), *args], cwd=self.root, ok=ok)

    def head(self) -> str | None:
        """The commit HEAD stands on, or None before the first one."""
        return self.read("rev-parse", "--quiet", "--verify", "HEAD^{commit}", ok=(0, 1, 128)).text or None

    def branch(self) -> str | None:
        """The branch HEAD names, without `refs/heads/`; None when detached."""
        said = self.read("symbolic-ref", "--quiet", "HEAD", ok=(0, 1, 128)).text
        return said.removeprefix("refs/heads/") or None


def open_repository(
    path: Path,
    *,
    git: Git | None = None,
    environ: Mapping[str, str] | None = None,
    trusted_filters: frozenset[str] = frozenset(),
) -> Repository:
    """Find the repository a folder belongs to.

    Args:
        path: the work tree's top or any folder in it.
        git: a git program already found; else it is looked up in `environ`.
        environ: the caller's environment; the process's own by default.
        trusted_filters: names of filters in the repository's own configuration that may run.

    Raises:
        NotARepository: not an existing folder, or outside any work tree.
        UnsupportedRepository: bare, or its configuration moves the work tree away from the folder holding
            `.git`.
        GitMissing, GitTooOld, GitFailed: see `Git.find` and `Git.run`.
    """
    git = git or Git.find(environ)
    here = Path(os.path.realpath(path))
    if not here.is_dir():
        raise NotARepository(f"{path} is not a folder", hint="name the top of a git work tree")
    said = git.run(
        [*GUARD, "rev-parse", *_QUESTIONS],
        cwd=here,
        ok=(0, 128),
    )
    if said.status:
        if b"dubious ownership" in said.err:
            raise NotARepository(
                f"git does not trust {here}: it belongs to another user",
                hint=f"git config --global --add safe.directory {here}",
            )
        raise NotARepository(f"{here} is not inside a git repository", hint="git init, then commit something")
    bare, inside, object_format, shallow = said.text.split("\n")
    if bare == "true" and inside != "true":
        raise UnsupportedRepository(
            f"{here} is a bare repository and has no files to work on", hint="name a clone with a work tree"
        )
    if inside != "true":
        raise UnsupportedRepository(f"{here} is inside a git folder", hint="name the top of the work tree")

    root, git_dir, common_dir, objects = _ask_places(git, here)
    holder = next((p for p in (here, *here.parents) if os.path.lexists(p / ".git")), None)
    if holder != root:
        # core.worktree of a repository that came in an archive could name any folder of the user's.
        raise UnsupportedRepository(
            f"the repository at {holder or here} says its work tree is {root}",
            hint="remove core.worktree from its configuration",
        )
    listed = git.run([*GUARD, "config", "--list", "-z", "--show-scope"], cwd=here).out
    return Repository(
        git=git,
        root=root,
        git_dir=git_dir,
        common_dir=common_dir,
        object_stores=tuple(_stores(objects)),
        prefix="" if here == root else here.relative_to(root).as_posix(),
        object_format=object_format,
        shallow=shallow == "true",
        settings=plan_settings(parse_list(listed), trusted_filters),
    )


def _ask_places(git: Git, here: Path) -> list[Path]:
    """Ask for the work tree's top, its git folder, the shared one and the object store."""
    questions = (("--show-toplevel",), ("--git-dir",), ("--git-common-dir",), ("--git-path", "objects"))
    ask = (*GUARD, "rev-parse", "--path-format=absolute")
    answers = git.run([*ask, *(word for words in questions for word in words)], cwd=here).text.split("\n")
    if len(answers) != len(questions):  # a name with a line break in it
        answers = [git.run([*ask, *words], cwd=here).text for words in questions]
    return [Path(os.path.realpath(answer)) for answer in answers]


def _stores(first: Path) -> list[Path]:
    """Follow `info/alternates` as git does: five levels, relative names below the store that holds them."""
    found, level = [first], [first]
    for _ in range(5):
        below: list[Path] = []
        for store in level:
            file = store / "info" / "alternates"
            if file.is_file():
                names = [os.fsdecode(line) for line in file.read_bytes().split(b"\n")]
                below += [
                    Path(os.path.realpath(store / name))
                    for name in names
                    if name and not name.startswith(("#", '"'))
                ]
        level = [store for store in below if store not in found]
        found += level
    return found

"""The keep: a git folder of our own beside each worker's tree.

It holds the objects of snapshots and results, with the user's store as alternate, and the index the tree was
checked out with. The worker never writes to it, so neither its configuration nor its objects can be forged.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .git import Git, Output
from .repository import Repository
from .settings import OURS, render

_MESSAGE_DATE = "2000-01-01T00:00:00Z"


@dataclass(frozen=True)
class Keep:
    """Our git folder for one workspace.

    Attributes:
        git: the program.
        dir: the folder.
    """

    git: Git
    dir: Path

    @property
    def objects(self) -> Path:
        """Objects of our own: snapshots, results, merges."""
        return self.dir / "objects"

    @property
    def index(self) -> Path:
        """The index the worker's tree was checked out with; its stat data makes later looks cheap."""
        return self.dir / "index"

    def run(
        self,
        *args: str | bytes,
        work_tree: Path | None = None,
        index: Path | None = None,
        stdin: bytes = b"",
        ok: Sequence[int] = (0,),
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Output:
        """Run a git command on this folder, on the given files and index."""
        more = {"GIT_DIR": os.fspath(self.dir), **(env or {})}
        if work_tree is not None:
            more["GIT_WORK_TREE"] = os.fspath(work_tree)
        if index is not None:
            more["GIT_INDEX_FILE"] = os.fspath(index)
        cwd = work_tree if work_tree is not None else self.dir
        return self.git.run(args, cwd=cwd, env=more, stdin=stdin, ok=ok, pass_fds=pass_fds)

    def tree_of(self, commit: str) -> str:
        """The tree of a commit."""
        return self.run("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}").text

    def has(self, name: str) -> bool:
        """Tell whether an object can be read."""
        return self.run("cat-file", "-e", name, ok=(0, 1, 128)).status == 0

    def commit(self, tree: str, parents: Iterable[str], message: str) -> str:
        """Make a commit object that depends on nothing but its tree and parents."""
        words = [word for parent in parents for word in ("-p", parent)]
        dates = {"GIT_AUTHOR_DATE": _MESSAGE_DATE, "GIT_COMMITTER_DATE": _MESSAGE_DATE}
        return self.run("commit-tree", tree, *words, "-m", message, env=dates).text


def make_keep(repository: Repository, folder: Path) -> Keep:
    """Create a keep for a repository.

    Args:
        repository: whose objects are read and whose plain settings are repeated.
        folder: where to make it; must not exist.
    """
    git = repository.git
    git.run(
        [
            "init",
            "--quiet",
            "--bare",
            "--template=",
            f"--object-format={repository.object_format}",
            str(folder),
        ]
    )
    keep = Keep(git, folder)
    chosen = repository.settings.plain + repository.settings.filters + OURS
    with (folder / "config").open("a", encoding="utf-8", errors="surrogateescape") as config:
        config.write(render(chosen))
    write_alternates(keep.objects, repository.object_stores)
    copy_surroundings(repository, folder)
    return keep


def write_alternates(objects: Path, stores: Iterable[Path]) -> None:
    """Name the object stores a store reads beside itself; paths git would misread are quoted."""
    info = objects / "info"
    info.mkdir(parents=True, exist_ok=True)
    lines: list[bytes] = []
    for store in stores:
        raw = os.fsencode(store)
        if b"\n" in raw or raw.startswith(b'"'):
            raw = b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
        lines.append(raw)
    (info / "alternates").write_bytes(b"\n".join(lines) + b"\n")


def copy_surroundings(repository: Repository, git_dir: Path) -> None:
    """Copy the files that say what is ignored, how bytes are read and where history ends."""
    (git_dir / "info").mkdir(exist_ok=True)
    for name in ("info/exclude", "info/attributes", "shallow"):
        source = repository.common_dir / name
        if source.is_file():
            shutil.copyfile(source, git_dir / name)

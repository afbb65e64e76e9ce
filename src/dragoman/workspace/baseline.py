"""A throw-away second clone at a workspace's base, to try things as they were before the worker."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

from .create import check_out, make_clone
from .git import Git
from .keep import make_keep, write_alternates
from .repository import open_repository
from .store import Workspace


@contextlib.contextmanager
def baseline(workspace: Workspace, *, git: Git | None = None) -> Generator[Path]:
    """Check out the base of a workspace beside it, for as long as the block runs.

    It is a clone like the worker's, on a git folder of its own, with the same folders checked out and the
    same ignored files copied in, as far as the user still has them unchanged.

    Args:
        workspace: whose base.
        git: the program; looked up when not given.

    Yields:
        Top of the clone's tree.

    Raises:
        WorkspaceDamaged, GitFailed: the base's objects are gone.
    """
    git = git or Git.find()
    repository = open_repository(workspace.repository, git=git)
    folder = Path(tempfile.mkdtemp(prefix="before-", dir=workspace.folder))
    try:
        keep = make_keep(repository, folder / "keep.git")
        write_alternates(keep.objects, workspace.object_stores)
        patterns = workspace.keep_dir / "info" / "sparse-checkout"
        wanted = patterns.read_text(encoding="utf-8", errors="surrogateescape") if patterns.is_file() else ""
        cone = bool(workspace.sparse) or repository.settings.sparse_cone
        tree = folder / "tree"
        check_out(keep, workspace.base, tree, wanted, cone=cone)
        make_clone(
            repository,
            keep,
            tree,
            workspace.base,
            workspace.branch,
            patterns=wanted,
            cone=cone,
            stores=[keep.objects, *workspace.object_stores],
        )
        for name, _ in workspace.included:
            source = workspace.repository / name
            if source.is_file() and not source.is_symlink():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, tree / name, follow_symlinks=False)
        yield tree
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder even where a test run took permissions away."""

    def retry(function: object, path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            stuck = Path(path)
            stuck.parent.chmod(0o700)
            if stuck.is_dir() and not stuck.is_symlink():
                stuck.chmod(0o700)
                shutil.rmtree(stuck, ignore_errors=True)
            else:
                stuck.unlink()

    shutil.rmtree(folder, onerror=retry)

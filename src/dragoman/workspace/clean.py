"""Whether a repository has uncommitted work, asked before anything is made for a job."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .create import take_base
from .errors import NoCommits
from .keep import make_keep
from .repository import Repository


def check_clean(repository: Repository) -> None:
    """Refuse a repository with uncommitted work, exactly as a workspace with the policy `ask` would.

    Args:
        repository: only read; a git folder of our own in the temp dir does the comparing.

    Raises:
        DirtyRepository: with the names, at most a few dozen, and their number.
        NoCommits: there is no commit to start from.
    """
    head = repository.head()
    if head is None:
        raise NoCommits(
            f"{repository.root} has no commit yet, so there is nothing to compare the work with",
            hint="git add -A && git commit",
        )
    with tempfile.TemporaryDirectory(prefix="dragoman-") as folder:
        take_base(repository, make_keep(repository, Path(folder) / "keep.git"), head, "ask")

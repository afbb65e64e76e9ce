"""What a run's dead runner left alive, found by who it was, by its marks, and ended."""

from __future__ import annotations

from dragoman.jobs.folder import RunFolder
from dragoman.process.identity import ProcessIdentity
from dragoman.process.table import ProcessTable
from dragoman.process.tree import end_tree, find_tree, run_marker


def find_orphans(folder: RunFolder, *, table: ProcessTable | None = None) -> list[ProcessIdentity]:
    """Processes of a run, whether its runner lives or not; the runner itself is none of them.

    Two traces lead to them: the worker's identity in the run folder (with its group, session and
    children), and the mark that everything a run starts has in its environment.
    """
    return find_tree(folder.worker(), marker=run_marker(folder.path.name), table=table)


def end_orphans(
    folder: RunFolder, *, grace_s: float = 1.0, table: ProcessTable | None = None
) -> tuple[ProcessIdentity, ...]:
    """End them: SIGTERM, then SIGKILL after `grace_s`. Only for a run whose runner is dead.

    With them goes the run's lock, which they inherited. Blocks.

    Returns:
        Those still running a second later; normally none.
    """
    return end_tree(folder.worker(), grace_s=grace_s, marker=run_marker(folder.path.name), table=table).left

"""Finishing or taking back applies that were interrupted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .errors import RecoveryNeeded, RepositoryBusy, WorkspaceError
from .journal import clear_journal, read_journal, write_journal
from .locks import repository_lock
from .store import note_applied, open_workspace, saved_folder
from .writer import roll_back


@dataclass(frozen=True)
class Recovered:
    """What was done about one interrupted apply.

    Attributes:
        workspace: id of its workspace.
        repository: top of the user's work tree.
        outcome: `untouched` it had written nothing, `rolled_back` everything was taken back, `completed` it
            was done but for its traces, `gone` the repository does not exist any more.
        saved: files that could not go back because something else has taken their place: display name, and
            where the file is now.
    """

    workspace: str
    repository: Path
    outcome: Literal["untouched", "rolled_back", "completed", "gone"]
    saved: tuple[tuple[str, str], ...] = ()


def recover(store: Path) -> list[Recovered]:
    """Deal with every interrupted apply in a store. To be called when a process starts.

    Applies that are still running are left alone, as their lock tells.

    Args:
        store: the state folder.
    """
    done: list[Recovered] = []
    for file in sorted((store / "journal").glob("*.json")):
        try:
            journal = read_journal(file)
            with repository_lock(store, journal.root, wait_s=0.0):
                if file.exists():
                    done.append(recover_one(store, file))
        except (RepositoryBusy, RecoveryNeeded, OSError, ValueError):
            continue  # what stands in the way is told when its repository is worked with
    return done


def recover_one(store: Path, file: Path) -> Recovered:
    """Deal with one journal. The caller holds the repository's lock."""
    try:
        journal = read_journal(file)
    except ValueError:
        raise RecoveryNeeded(
            "an apply was interrupted, and its journal cannot be read by this version",
            saved=(),
            hint=f"compare your files with {file}, then remove it",
        ) from None
    outcome: Literal["untouched", "rolled_back", "completed", "gone"]
    saved: list[tuple[str, str]] = []
    if not journal.root.is_dir():
        file.unlink(missing_ok=True)
        return Recovered(journal.workspace, journal.root, "gone")
    match journal.phase:
        case "locking":
            outcome = "untouched"
        case "writing":
            try:
                saved = roll_back(journal, saved_folder(store, journal.lock_content))
            except OSError as problem:
                raise RecoveryNeeded(
                    f"an interrupted apply in {journal.root} could not be taken back: {problem.strerror}",
                    saved=(),
                    hint="remove the obstacle, then try again; nothing is lost meanwhile",
                ) from None
            # From here on there is nothing to take back, whatever becomes of the files.
            write_journal(file, replace(journal, phase="locking", steps=()))
            outcome = "rolled_back"
        case "done":
            outcome = "completed"
            if journal.entry is not None:
                try:
                    note_applied(open_workspace(store, journal.workspace), journal.entry)
                except WorkspaceError:
                    outcome = "completed"
    clear_journal(file, journal)
    return Recovered(journal.workspace, journal.root, outcome, tuple(saved))

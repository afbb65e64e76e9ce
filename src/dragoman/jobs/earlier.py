"""The run a resumed one goes on from: its session, and its workspace while its work is not applied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError
from dragoman.jobs.folder import RunFolder, RunFolderInvalid
from dragoman.workspace import Workspace, open_workspace


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known of an earlier run.

    Attributes:
        folder: its folder.
        session_id: its worker's last session, None when it never had one.
        workspace_id: where it worked.
    """

    folder: RunFolder
    session_id: str | None
    workspace_id: str | None


def find_earlier(runs: Path, run_id: str) -> Earlier:
    """Look an earlier run up, ended well, badly or without a word.

    Parameters:
        runs: the folder of all runs.
        run_id: which.

    Raises:
        RunFolderInvalid: there is no such run.
    """
    folder = RunFolder(runs / run_id)
    if Path(run_id).name != run_id or not folder.request_file.exists():
        raise RunFolderInvalid(f"there is no run {run_id} to go on with", hint="dragoman jobs list")
    session_id = workspace_id = None
    for _, event in folder.events():
        match event.get("kind"):
            case "worker_started":
                session_id = event.get("session") or session_id
            case "workspace":
                workspace_id = event.get("id") or workspace_id
            case _:
                pass
    worker: dict[str, Any] = (folder.result() or {}).get("worker") or {}
    return Earlier(folder, worker.get("session_id") or session_id, workspace_id)


def reusable_workspace(earlier: Earlier, state: Path, repository: Path) -> Workspace | None:
    """The earlier run's workspace, if it is there, of this repository, and nothing of it was applied."""
    if earlier.workspace_id is None:
        return None
    try:
        workspace = open_workspace(state, earlier.workspace_id)
    except DragomanError:
        return None
    fits = workspace.repository == repository and not workspace.applied and workspace.discarded_at is None
    return workspace if fits else None

"""Run logs: what a run folder holds, told without its packet."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from dragoman.config.paths import Home
from dragoman.jobs.folder import RunFolder, RunFolderInvalid
from dragoman.process.locks import is_locked

# Private or large, and nobody's business who looks at a run.
_NOT_LISTED = ("worker", "inheritance")
_MAX_FILES = 200


class RunBrief(msgspec.Struct, frozen=True, kw_only=True):
    """One run in a list.

    Attributes:
        run_id, job_id: its names; a run of the demo has no job.
        kind: what the worker was; null follows the packet.
        repository: absolute path, as it was asked for.
        model, worker: who worked.
        status: `running`, or what its result states; `unknown` when it ended without one.
        error_code: why it did not succeed.
        started_at: seconds since the epoch.
        changed_files: how many.
    """

    run_id: str
    job_id: str | None
    kind: str | None
    repository: str
    model: str
    worker: str
    status: str
    error_code: str | None
    started_at: float
    changed_files: int


def list_runs(home: Home, *, limit: int = 20, status: str | None = None) -> list[RunBrief]:
    """Runs of a home, the newest first.

    Args:
        home: whose.
        limit: how many at most.
        status: only these.
    """
    folders: list[tuple[float, Path]] = []
    for path in home.runs.glob("*/request.json"):
        try:
            folders.append((path.stat().st_mtime, path.parent))
        except FileNotFoundError:
            continue
    found: list[RunBrief] = []
    for _, path in sorted(folders, reverse=True):
        try:
            brief = brief_run(RunFolder(path))
        except RunFolderInvalid:
            continue
        if status is None or brief.status == status:
            found.append(brief)
            if len(found) >= limit:
                break
    return found


def brief_run(folder: RunFolder) -> RunBrief:
    """A run in short.

    Raises:
        RunFolderInvalid: there is no such run.
    """
    request = folder.request()
    running = is_locked(folder.lock_file)
    result = folder.result()
    changed = 0
    match result:
        case {"delta": {"files": [*files]}}:
            changed = len(files)
        case _:
            pass
    status = "running" if result is None and running else str((result or {}).get("status") or "unknown")
    return RunBrief(
        run_id=request.run_id,
        job_id=request.job_id,
        kind=request.kind,
        repository=request.repository,
        model=request.model,
        worker=request.worker,
        status=status,
        error_code=(result or {}).get("error_code"),
        started_at=folder.request_file.stat().st_mtime,
        changed_files=changed,
    )


def inspect_run(home: Home, run_id: str) -> dict[str, Any]:
    """A run whole: what was asked (the packet by its size and sha256), its files, its result.

    Raises:
        RunFolderInvalid: there is no such run.
    """
    if not run_id or "/" in run_id or run_id.startswith("."):
        raise RunFolderInvalid(f"there is no run {run_id[:64]!r}", hint="dragoman jobs list")
    folder = RunFolder(home.runs / run_id)
    asked: dict[str, Any] = msgspec.to_builtins(folder.request())
    packet = str(asked.pop("packet")).encode()
    asked |= {"packet_bytes": len(packet), "packet_sha256": hashlib.sha256(packet).hexdigest()}
    return {
        "run": brief_run(folder),
        "request": asked,
        "folder": str(folder.path),
        "files": _files(folder.path),
        "result": folder.result(),
    }


def _files(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if inside.parts[0] in _NOT_LISTED or not file.is_file() or file.is_symlink():
            continue
        found.append({"path": inside.as_posix(), "bytes": file.stat().st_size})
        if len(found) >= _MAX_FILES:
            break
    return found

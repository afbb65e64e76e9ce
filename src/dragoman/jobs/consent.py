"""What of a run's work may be offered to the user at all: nothing that was never allowed.

A worker that left its scope may still have done good work inside it, so the part inside can be applied by
name. One that reached out of its isolation is not trusted with any of it. Several runs may have worked in one
workspace, each going on from the last: the word of every one counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

from dragoman.errors import DragomanError, ExitCode
from dragoman.jobs.folder import RunFolder
from dragoman.jobs.packet import parse_packet
from dragoman.jobs.scope import outside_scope, plan_scope
from dragoman.process.locks import is_locked
from dragoman.workspace import delta, open_workspace

_SHOWN = 3


class NotApplicable(DragomanError):
    """The work must not be applied as it is; `code` says why."""

    code = "scope_exceeded"
    http_status = 409
    exit_code = ExitCode.CONFLICT


def check_applicable(folder: RunFolder, paths: Sequence[str] = ()) -> None:
    """Refuse work that went too far, as a whole or in the part that is asked for.

    Args:
        folder: of the run that made the workspace; a workspace of no run passes. Runs that went on in it are
            looked up beside it.
        paths: the files or folders that shall be applied; empty for all.

    Raises:
        NotApplicable: `busy` while the run is at work, `isolation_violation`, `scope_exceeded`, or
            `limit_exceeded` where more was changed than the task allowed.
    """
    for run in (folder, *_gone_on(folder)):
        _check_run(run, folder.path.name, paths)


def _gone_on(first: RunFolder) -> list[RunFolder]:
    """The runs that went on from a run and from those, in its workspace; oldest first."""
    after: dict[str, list[RunFolder]] = {}
    for path in sorted(first.path.parent.glob("*/request.json")):
        run = RunFolder(path.parent)
        try:
            request = run.request()
        except (DragomanError, OSError):
            continue
        if request.resume_run is not None and not request.fork_session:
            after.setdefault(request.resume_run, []).append(run)
    found: list[RunFolder] = []
    waiting = after.pop(first.path.name, [])
    while waiting:
        run = waiting.pop(0)
        place = _object(run.result() or {}, "workspace").get("id", first.path.name)
        if place == first.path.name:
            found.append(run)
            waiting += after.pop(run.path.name, [])
    return found


def _check_run(run: RunFolder, name: str, paths: Sequence[str]) -> None:
    """Refuse what one run did in the workspace `name`; see `check_applicable`."""
    if is_locked(run.lock_file):
        raise NotApplicable(
            f"{run.path.name} is still at work",
            code="busy",
            hint=f"dragoman jobs wait {run.path.name.replace('run-', 'job-', 1)}",
        )
    result = run.result()
    if result is None:
        return
    look = f"dragoman workspace show {name} --patch"
    if reached := _names(result, "isolation_violations"):
        raise NotApplicable(
            f"the worker of {name} reached outside its workspace ({_some(reached)}); nothing is applied",
            code="isolation_violation",
            hint=look,
        )
    if result.get("error_code") == "isolation_violation":
        said = str(result.get("error"))
        raise NotApplicable(f"{said}: nothing of {name} is applied", code="isolation_violation", hint=look)
    outside = _names(_object(result, "scope"), "out_of_scope") if "scope" in result else _strayed(run, name)
    asked_for = [path for path in outside if _is_wanted(path, paths)]
    if asked_for:
        raise NotApplicable(
            f"the worker changed what the task does not allow: {_some(asked_for)}",
            hint=f"dragoman apply {name} --paths …, naming what is inside the scope; {look}",
        )
    if result.get("error_code") == "limit_exceeded" and not paths:
        said = str(result.get("error"))
        raise NotApplicable(
            said, code="limit_exceeded", hint=f"dragoman apply {name} --paths …, naming what shall be applied"
        )


def _strayed(run: RunFolder, name: str) -> list[str]:
    """What a run changed outside its scope, worked out here because it ended before it could be."""
    try:
        request = run.request()
        packet = parse_packet(request.packet)
        workspace = open_workspace(Path(request.state), name)
    except DragomanError:
        return []  # never got as far as a workspace
    kind = request.kind or packet.role
    patterns = (request.allowed_files or packet.allowed_files or ("**",)) if kind == "implement" else ()
    allowed = plan_scope(patterns, workspace.path, workspace.prefix)
    return list(outside_scope(delta(workspace).changes, allowed))


def _is_wanted(path: str, paths: Sequence[str]) -> bool:
    if not paths:
        return True
    name = PurePosixPath(path)
    return any(name.is_relative_to(PurePosixPath(wanted.removeprefix("./"))) for wanted in paths)


def _names(source: Mapping[str, Any], name: str) -> list[str]:
    found: object = source.get(name)
    return [str(one) for one in cast("list[object]", found)] if isinstance(found, list) else []


def _object(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: object = source.get(name)
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

"""`claude_task`, `claude_job_wait`, `claude_result`: work asked for, waited for, read."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError
from dragoman.jobs.guards import check_context_roots, check_paths, check_task
from dragoman.jobs.packet import named_roots
from dragoman.jobs.polling import PollAdvice
from dragoman.jobs.request import Asker, JobRequest
from dragoman.jobs.service import Submitted
from dragoman.jobs.states import JobKind, JobStatus, Staleness
from dragoman.jobs.view import JobView
from dragoman.mcp.caller import Caller
from dragoman.mcp.inputs import DEFAULT_WAIT_S, InvalidInput, JobWaitInput, ResultInput, TaskInput
from dragoman.mcp.modes import Mode, ModeInference, infer_mode
from dragoman.mcp.place import Desk
from dragoman.mcp.replies import Reply, next_action
from dragoman.mcp.result_view import result_view
from dragoman.workspace import check_clean, open_repository
from dragoman.workspace.errors import DirtyRepository

_KINDS: dict[Mode, JobKind] = {"read": "query", "review": "review", "write": "implement"}
_MODES: dict[JobKind, Mode] = {kind: mode for mode, kind in _KINDS.items()}
# A worker's session is gone on with only while the lead can still mean it, as the seed has it.
_RESUME_WITHIN_S = 20 * 60.0
_TELL_PROGRESS_EVERY_S = 2.0


async def claude_task(desk: Desk, caller: Caller, asked: TaskInput) -> Reply:
    """Start a job, or say how the one named is doing.

    Raises:
        DragomanError: refused; nothing was started.
    """
    cwd = await asyncio.to_thread(desk.place, caller, asked.cwd)
    if asked.job_id is not None:
        waited = asked.wait_timeout_sec if asked.wait_timeout_sec is not None else DEFAULT_WAIT_S
        view = await _wait(desk, caller, asked.job_id, waited if asked.blocks else 0)
        return {"reuse_decision": "job_id", **_job_reply(desk, view)}
    if asked.task is None or not asked.task.strip():
        raise InvalidInput("claude_task needs a task, or the job_id of one it was given before")
    found = infer_mode(
        asked.mode,
        asked.task,
        has_diff=bool(asked.diff),
        has_constraints=bool(asked.constraints),
        has_files=bool(asked.allowed_files or asked.files),
    )
    try:
        request = await asyncio.to_thread(_request, desk, caller, asked, cwd, found)
    except DirtyRepository as error:
        return _ask_about_dirty(error, found)
    done = await asyncio.to_thread(desk.jobs.submit, request)
    reply = _submitted(found, done)
    reply["warnings"] = _unheeded(asked)
    view = done.job
    if done.decision != "busy_existing" and asked.blocks:
        waited = asked.wait_timeout_sec if asked.wait_timeout_sec is not None else DEFAULT_WAIT_S
        view = await _wait(desk, caller, view.job_id, waited)
        reply["completed_inline"] = view.ended or None
    return {**reply, **_job_reply(desk, view)}


async def claude_job_wait(desk: Desk, caller: Caller, asked: JobWaitInput) -> Reply:
    """Wait for a job, or ask after it politely.

    Raises:
        JobNotFound: there is none of this id.
    """
    await asyncio.to_thread(desk.place, caller, asked.cwd)
    if asked.wait_timeout_sec > 0:
        return _job_reply(desk, await _wait(desk, caller, asked.job_id, asked.wait_timeout_sec))
    view, advice = await asyncio.to_thread(desk.jobs.poll, asked.job_id)
    return _job_reply(desk, view, advice)


async def claude_result(desk: Desk, caller: Caller, asked: ResultInput) -> Reply:
    """The result of a job.

    Raises:
        JobNotFound: there is none that fits.
    """
    cwd = await asyncio.to_thread(desk.place, caller, asked.cwd)
    if asked.job_id is not None and asked.run_id is not None:
        raise InvalidInput("claude_result takes job_id or run_id, not both")
    view = await asyncio.to_thread(_choose, desk, cwd, asked)
    return _job_reply(desk, view)


async def _wait(desk: Desk, caller: Caller, job_id: str, timeout_s: float) -> JobView:
    """Wait, telling the client the phase meanwhile when it asked to be told."""
    started = time.monotonic()
    while True:
        left_s = timeout_s - (time.monotonic() - started)
        view = await desk.jobs.wait(job_id, max(0.0, min(left_s, _TELL_PROGRESS_EVERY_S)))
        if view.ended or left_s <= 0:
            return view
        await caller.progress(time.monotonic() - started, f"{view.status}: {view.phase or 'waiting'}")


def _request(desk: Desk, caller: Caller, asked: TaskInput, cwd: Path, found: ModeInference) -> JobRequest:
    """Check everything a job needs, and put it together."""
    assert asked.task is not None
    check_task(asked.task)
    constraints = (asked.constraints,) if isinstance(asked.constraints, str) else asked.constraints or ()
    for text in (*constraints, asked.diff or "", *asked.verification_commands):
        check_task(text)
    repository = open_repository(cwd)
    writes = found.delegated_mode == "write"
    allowed = asked.allowed_files if asked.allowed_files is not None else asked.files if writes else ()
    seen = () if writes and asked.allowed_files is None else asked.files
    if writes and asked.dirty_policy == "ask":
        check_clean(repository)
    roots = check_context_roots(
        [*(root.cwd for root in asked.context_roots), *named_roots(asked.task, cwd, home=desk.user_home)],
        repository.root,
        home=desk.user_home,
        allow_roots=desk.allow_roots(caller),
        private=(desk.state,),
    )
    if roots and writes:
        raise InvalidInput("context_roots are for reading and reviewing; a write stays in one repository")
    return JobRequest(
        task=asked.task,
        cwd=str(cwd),
        kind=_KINDS[found.delegated_mode],
        allowed_files=_below(repository.prefix, check_paths(allowed, cwd, what="allowed file")),
        files=_below(repository.prefix, check_paths(seen, cwd)),
        instruction_files=_below(
            repository.prefix, check_paths(asked.instruction_files, cwd, what="instruction file")
        ),
        constraints=constraints,
        diff=asked.diff,
        context_roots=tuple(str(root) for root in roots),
        model=asked.model,
        dirty_policy="committed" if asked.dirty_policy == "committed" else "snapshot",
        timeout_s=asked.timeout_sec,
        max_changed_files=asked.max_changed_files,
        verification_commands=asked.verification_commands,
        resume_job=_latest_session(desk, cwd) if asked.resume_latest else None,
        security_profile=asked.security_profile,
        goal_item_id=asked.goal_item_id,
        supersedes_run_id=asked.supersedes_run_id,
        asker=Asker(client=caller.client or None, thread=caller.thread or None),
    )


def _below(prefix: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names relative to the working folder as names relative to the repository's top."""
    return tuple(f"{prefix.rstrip('/')}/{name}" for name in names) if prefix else names


def _latest_session(desk: Desk, cwd: Path) -> str | None:
    """The newest write here that ended a short while ago."""
    now = desk.jobs.wall()
    for view in desk.jobs.find(kind="implement", cwd=str(cwd), limit=10):
        if view.ended_at is not None and now - view.ended_at < _RESUME_WITHIN_S:
            return view.job_id
    return None


def _choose(desk: Desk, cwd: Path, asked: ResultInput) -> JobView:
    if asked.job_id is not None:
        return desk.jobs.show(asked.job_id)
    kind: JobKind | None = None
    if asked.run_id is None:
        match asked.prefer:
            case "latest-implement":
                kind = "implement"
            case "latest-review":
                kind = "review"
            case "latest-job" | "latest-run":
                kind = None
    for view in desk.jobs.find(kind=kind, cwd=str(cwd), limit=1 if asked.run_id is None else 200):
        if asked.run_id in (None, view.run_id):
            return view
    what = f"run {asked.run_id[:64]}" if asked.run_id else asked.prefer.replace("latest-", "")
    raise DragomanError(
        f"there is no {what} of this repository", code="job_not_found", http_status=404, hint="claude_task"
    )


def _unheeded(asked: TaskInput) -> list[str]:
    """Inputs of the seed that are taken and change nothing here: said, never passed over."""
    given = {
        "reviewed_run_id": asked.reviewed_run_id,
        "reviewed_worktree_path": asked.reviewed_worktree_path,
        "sensitive_file_policy": None
        if asked.sensitive_file_policy == "default"
        else asked.sensitive_file_policy,
    }
    why = {"sensitive_file_policy": "secrets are always masked"}
    return [
        f"{name} changed nothing: {why.get(name, 'there is no review gate to tell')}"
        for name, value in given.items()
        if value is not None
    ]


def _ask_about_dirty(error: DirtyRepository, found: ModeInference) -> Reply:
    """Nothing was started: the user says what the worker shall see."""
    return {
        "status": "needs_user",
        "delegated_mode": found.delegated_mode,
        "summary": error.message,
        "error_code": error.code,
        "dirty_files": list(error.paths[:10]),
        "dirty_total": error.total,
        "next_actions": [
            next_action("claude_task", "start from the files as they are", dirty_policy="snapshot"),
            next_action("claude_task", "start from HEAD, without them", dirty_policy="committed"),
        ],
        "interaction": {"state": "needs_user", "headline": "Uncommitted work: nothing was started."},
    }


def _submitted(found: ModeInference, done: Submitted) -> Reply:
    reply: Reply = {"delegated_mode": _MODES[done.job.type], "reuse_decision": done.decision}
    if found.reason != "explicit":
        reply["mode_inference"] = {
            "requested_mode": found.requested_mode,
            "reason": found.reason,
            "confidence": found.confidence,
            "matched_hints": list(found.matched_hints),
        }
    if done.decision == "deduped":
        reply["deduped"] = True
    return reply


def _job_reply(desk: Desk, view: JobView, advice: PollAdvice | None = None) -> Reply:
    """How a job stands, with its result once there is one, and what to do next."""
    job: Reply = {
        "job_id": view.job_id,
        "run_id": view.run_id,
        "type": view.type,
        "status": view.status.value,
        "phase": view.phase,
        "age_s": round(view.age_ms / 1000),
        "queued_behind": view.queued_behind,
        "stale_state": None if view.stale_state is Staleness.FRESH else view.stale_state.value,
        "heartbeat_age_ms": view.heartbeat_age_ms,
    }
    if not view.ended:
        return {"status": "running", "job": job, **_waiting(view, advice)}
    result = result_view(desk.jobs.result(view.job_id))
    status = _top_status(view, result)
    return {
        "status": status,
        "summary": view.summary,
        "job": job,
        "result": result,
        "next_actions": _after(view, result),
        "interaction": {"state": _state(status), "headline": _headline(view, status, result)},
    }


def _waiting(view: JobView, advice: PollAdvice | None) -> Reply:
    """What somebody who waits is told."""
    too_soon = advice is not None and advice.poll_too_soon
    wait: Reply = {"waiting": True, "do_not_start_duplicate_job": True}
    if advice is not None:
        wait |= {
            "poll_too_soon": too_soon or None,
            "recommended_delay_ms": advice.recommended_delay_ms,
            "remaining_delay_ms": advice.remaining_delay_ms,
            "next_allowed_poll_at": None
            if advice.next_allowed_poll_at is None
            else datetime.fromtimestamp(advice.next_allowed_poll_at, UTC).isoformat(timespec="seconds"),
        }
    if view.stale_state is Staleness.STALE:
        return {
            "wait": wait,
            "next_actions": [next_action("claude_result", "it gives no sign of life", job_id=view.job_id)],
            "interaction": {"state": "needs_attention", "headline": "The job gives no sign of life."},
        }
    return {
        "wait": wait,
        "next_actions": [next_action("claude_job_wait", "wait for its end", job_id=view.job_id)],
        "interaction": {
            "state": "poll_too_soon" if too_soon else "waiting",
            "headline": f"The job is {view.phase or view.status.value}; wait for it.",
        },
    }


def _top_status(view: JobView, result: Reply) -> str:
    match view.status:
        case JobStatus.CANCELLED:
            return "cancelled"
        case JobStatus.CRASHED:
            return "failed"
        case _:
            return str(result.get("result_status") or "failed")


def _state(status: str) -> str:
    match status:
        case "success":
            return "result_ready"
        case "needs_user" | "failed":
            return status
        case "partial":
            return "needs_attention"
        case _:
            return "completed"


def _after(view: JobView, result: Reply) -> list[Any]:
    worktree = result.get("worktree_path")
    if worktree is None:
        return []
    return [
        next_action("claude_apply", "see what would be applied", worktree_path=worktree, preview=True),
    ]


def _headline(view: JobView, status: str, result: Reply) -> str:
    changed = (result.get("server_observed") or {}).get("diff_stat")
    match status:
        case "success" if changed:
            return f"Done: {changed}. Nothing is applied yet."
        case "success":
            return "Done, without a change to any file." if view.type == "implement" else "Done."
        case "partial":
            return f"Done in part: {result.get('error') or 'see server_verified'}."
        case "cancelled":
            return "Cancelled."
        case _:
            return f"Not done: {result.get('error') or view.error or status}."

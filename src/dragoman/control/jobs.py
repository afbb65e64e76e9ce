"""`/api/v1/jobs`: ask for work, follow it, end it, read what it brought."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dragoman.config.schema import Delegation
from dragoman.control.answers import JsonResponse
from dragoman.control.bodies import BadRequest, read_body
from dragoman.control.events import last_known
from dragoman.control.streaming import frame, server_sent
from dragoman.jobs.guards import check_context_roots, check_cwd, check_task, roots_for
from dragoman.jobs.packet import named_roots
from dragoman.jobs.request import JobRequest
from dragoman.jobs.result_summary import summarize_result
from dragoman.jobs.service import JobService, Submitted
from dragoman.jobs.states import JobKind, JobStatus

# A packet may bring a diff; what is larger belongs into a file of the repository.
MAX_REQUEST_BYTES = 8 << 20
_LONGEST_WAIT_S = 60.0
_FOLLOW_EVERY_S = 0.2


class CleanupBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which jobs to remove.

    Attributes:
        older_than_hours: ended so long ago at least.
        execute: false only says what would be removed.
        limit: how many at most.
    """

    older_than_hours: float = 24.0
    execute: bool = False
    limit: int = 200


def job_routes(
    jobs: JobService,
    closing: asyncio.Event,
    *,
    settings: Callable[[], Delegation] = Delegation,
    user_home: Callable[[], Path] = Path.home,
) -> list[Route]:
    """The routes of jobs.

    Args:
        jobs: the jobs of this home.
        closing: set when this process is leaving.
        settings: `[delegation]` as it stands now.
        user_home: what `~` stands for.
    """

    async def submit(request: Request) -> Response:
        """Ask for a job: it is started, queued, or found to be under way already."""
        asked = await read_body(request, JobRequest, max_bytes=MAX_REQUEST_BYTES)
        done = await asyncio.to_thread(_submit, jobs, asked, settings(), user_home())
        return JsonResponse(describe_submitted(done), status_code=201 if done.decision == "created" else 200)

    async def show_all(request: Request) -> Response:
        """Jobs, the newest first."""
        jobs.expect_work()
        query = request.query_params
        found = await asyncio.to_thread(
            jobs.find,
            status=_one_of(query.get("status"), JobStatus, "status"),
            kind=_kind(query.get("type")),
            cwd=query.get("cwd"),
            limit=number_in_query(request, "limit", 20, 200),
        )
        return JsonResponse({"jobs": found})

    async def show(request: Request) -> Response:
        """A job; with `wait_s` the answer comes when it is over, or after so many seconds."""
        wait_s = request.query_params.get("wait_s")
        job_id = request.path_params["id"]
        if wait_s is None:
            return JsonResponse({"job": await asyncio.to_thread(jobs.show, job_id)})
        seconds = _seconds(wait_s)
        view = await _unless(closing, jobs.wait(job_id, seconds))
        if view is None:  # this process is leaving; its successor can be asked
            view = await asyncio.to_thread(jobs.show, job_id)
        return JsonResponse({"job": view, "timed_out": not view.ended})

    async def poll(request: Request) -> Response:
        """A job as it is now, and when to ask again."""
        view, advice = await asyncio.to_thread(jobs.poll, request.path_params["id"])
        return JsonResponse({"job": view, "poll": advice})

    async def cancel(request: Request) -> Response:
        """End a job; it is `cancelled` once all of it is dead."""
        view = await asyncio.to_thread(jobs.cancel, request.path_params["id"])
        return JsonResponse({"job": view}, status_code=202)

    async def events(request: Request) -> Response:
        """What a job's run told, after event number `after`; server-sent when that is accepted."""
        job_id, after = request.path_params["id"], last_known(request) or 0
        await asyncio.to_thread(jobs.show, job_id)
        if "text/event-stream" in request.headers.get("accept", ""):
            return server_sent(_follow(jobs, job_id, after), closing)
        limit = number_in_query(request, "limit", 1000, 1000)
        view = await asyncio.to_thread(jobs.show, job_id)
        found = await asyncio.to_thread(jobs.events, job_id, after=after, limit=limit)
        last = found[-1].get("n", after) if found else after
        return JsonResponse({"events": found, "last": last, "ended": view.ended and len(found) < limit})

    async def result(request: Request) -> Response:
        """A job's result, whole; with `form=summary` the part a lead reads, at most 8 KB."""
        found = await asyncio.to_thread(jobs.result, request.path_params["id"])
        if request.query_params.get("form") == "summary":
            found = summarize_result(found)
        return JsonResponse({"result": found})

    async def clean_up(request: Request) -> Response:
        """Remove jobs that ended long ago, with their run folders; never a workspace."""
        body = await read_body(request, CleanupBody)
        if body.older_than_hours < 0 or not 0 < body.limit <= 1000:
            raise BadRequest("older_than_hours is 0 or more, limit 1 to 1000")
        found = await asyncio.to_thread(
            jobs.cleanup, older_than_s=body.older_than_hours * 3600, execute=body.execute, limit=body.limit
        )
        return JsonResponse({"executed": body.execute, "jobs": found})

    return [
        Route("/api/v1/jobs", submit, methods=["POST"]),
        Route("/api/v1/jobs", show_all, methods=["GET"]),
        Route("/api/v1/jobs/cleanup", clean_up, methods=["POST"]),
        Route("/api/v1/jobs/{id}", show, methods=["GET"]),
        Route("/api/v1/jobs/{id}/poll", poll, methods=["POST"]),
        Route("/api/v1/jobs/{id}/cancel", cancel, methods=["POST"]),
        Route("/api/v1/jobs/{id}/events", events, methods=["GET"]),
        Route("/api/v1/jobs/{id}/result", result, methods=["GET"]),
    ]


def describe_submitted(done: Submitted) -> dict[str, Any]:
    """What became of a request, as JSON."""
    return {
        "job": done.job,
        "reuse_decision": done.decision,
        "deduped": done.decision == "deduped",
        "queued_behind": done.queued_behind,
    }


def number_in_query(request: Request, name: str, default: int, most: int) -> int:
    """A count from the query.

    Raises:
        BadRequest: it is none, or out of bounds.
    """
    said = request.query_params.get(name)
    if said is None:
        return default
    if not said.isdigit() or len(said) > 9 or not 0 < int(said) <= most:
        raise BadRequest(f"{name} is a number from 1 to {most}")
    return int(said)


def _submit(jobs: JobService, asked: JobRequest, settings: Delegation, user_home: Path) -> Submitted:
    check_task(asked.task, limit_bytes=MAX_REQUEST_BYTES)
    who = "person" if asked.asker.client == "cli" else "connection"
    roots = roots_for(who, allow_roots=settings.allow_roots, cli_roots=settings.cli_roots, home=user_home)
    private = (jobs.home.state,)
    cwd = check_cwd(asked.cwd, home=user_home, allow_roots=roots, private=private)
    named = (*asked.context_roots, *named_roots(asked.task, cwd, home=user_home))
    beside = check_context_roots(
        tuple(dict.fromkeys(named)), cwd, home=user_home, allow_roots=roots, private=private
    )
    real = msgspec.structs.replace(asked, cwd=str(cwd), context_roots=tuple(str(root) for root in beside))
    return jobs.submit(real)


async def _follow(jobs: JobService, job_id: str, after: int) -> AsyncIterator[bytes]:
    while True:
        # Looked at first: what was told before the end is then surely read below.
        view = await asyncio.to_thread(jobs.show, job_id)
        while found := await asyncio.to_thread(jobs.events, job_id, after=after):
            for event in found:
                after = event.get("n", after)
                yield frame(str(event.get("kind", "event")), event, id=after)
        if view.ended:
            yield frame("end", {"job": view})
            return
        await asyncio.sleep(_FOLLOW_EVERY_S)


async def _unless(closing: asyncio.Event, waited: Any) -> Any:
    """What is waited for, or None when this process is told to leave first."""
    waiting, leaving = asyncio.ensure_future(waited), asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
        leaving.cancel()


def _seconds(said: str) -> float:
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_WAIT_S:
        raise BadRequest(f"wait_s is a number of seconds from 0 to {_LONGEST_WAIT_S:.0f}")
    return seconds


def _one_of(said: str | None, kind: type[JobStatus], name: str) -> JobStatus | None:
    if said is None:
        return None
    try:
        return kind(said)
    except ValueError:
        raise BadRequest(f"{name} is one of {', '.join(kind)}") from None


def _kind(said: str | None) -> JobKind | None:
    match said:
        case None | "query" | "review" | "implement":
            return said
        case _:
            raise BadRequest(f"type is one of {', '.join(get_args(JobKind))}")

"""`jobs`: list, show, wait for, follow, end and clean up delegated work."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.render import show_json
from dragoman.config.paths import resolve_home
from dragoman.errors import ExitCode

if TYPE_CHECKING:
    from dragoman.cli.control_client import ControlClient

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_STATUSES = ("queued", "running", "succeeded", "failed", "cancelled", "crashed")
# One long question; shorter than what the client waits for an answer.
_ASK_S = 15.0
_FOLLOW_EVERY_S = 0.3
# A cancel has everything dead within ten seconds of grace and one more.
_CANCEL_S = 15.0


def _control() -> ControlClient:
    from dragoman.cli.control_client import ControlClient
    from dragoman.daemon.connect import ensure_daemon

    home = resolve_home(os.environ)
    return ControlClient(home, ensure_daemon(home).url)


def _id(said: str) -> str:
    """A job is also found by the id of its run, which is its workspace's too."""
    return f"job-{said[4:]}" if said.startswith("run-") else said


@click.group(invoke_without_command=True)
@AS_JSON
@click.pass_context
def jobs(context: click.Context, as_json: bool) -> None:
    """Delegated work: what is under way, and what it brought."""
    if context.invoked_subcommand is None:
        context.invoke(list_jobs, as_json=as_json)


@jobs.command("list")
@click.option("--status", type=click.Choice(_STATUSES), help="Only these.")
@click.option("--type", "kind", type=click.Choice(["query", "review", "implement"]), help="Only these.")
@click.option("--here", is_flag=True, help="Only those of the repository of this folder.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many at most.")
@AS_JSON
def list_jobs(
    status: str | None = None,
    kind: str | None = None,
    here: bool = False,
    limit: int = 20,
    as_json: bool = False,
) -> None:
    """List jobs, the newest first."""
    query = {"limit": str(limit)}
    if status:
        query["status"] = status
    if kind:
        query["type"] = kind
    if here:
        query["cwd"] = os.getcwd()  # noqa: PTH109 - the name the user sees
    with _control() as control:
        found = control.get("/jobs", **query)
    if as_json:
        show_json(found)
        return
    for job in found["jobs"]:
        click.echo(_line(job))
    if not found["jobs"]:
        click.echo("none", err=True)


@jobs.command("show")
@click.argument("id")
@AS_JSON
def show_job(id: str, as_json: bool) -> None:
    """Say how a job stands."""
    with _control() as control:
        found = control.get(f"/jobs/{_id(id)}")
    if as_json:
        show_json(found)
    else:
        _print_job(found["job"])


@jobs.command("wait")
@click.argument("id")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Wait no longer than so; for ever when left out.",
)
@AS_JSON
@click.pass_context
def wait_for_job(context: click.Context, id: str, timeout_s: float | None, as_json: bool) -> None:
    """Wait for a job's end; exits 0 when it succeeded, 3 when it needs you, 124 when time is up."""
    with _control() as control:
        job = _wait(control, _id(id), timeout_s)
    if as_json:
        show_json({"job": job, "timed_out": _goes_on(job)})
    else:
        _print_job(job)
    context.exit(_exit_code(job))


@jobs.command("events")
@click.argument("id")
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="N", help="Only later ones than number N."
)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@AS_JSON
def show_events(id: str, after: int, follow: bool, as_json: bool) -> None:
    """Show what a job's run told; with --json and --follow one object a line."""
    from dragoman.cli.progress import RunProgress, make_console

    progress = RunProgress(make_console())
    told: list[dict[str, Any]] = []
    with _control() as control:
        while True:
            found = control.get(f"/jobs/{_id(id)}/events", after=str(after))
            for event in found["events"]:
                if as_json and follow:
                    click.echo(_one_line(event))
                elif as_json:
                    told.append(event)
                else:
                    progress.show(event)
            after = found["last"]
            if found["ended"] or (not follow and not found["events"]):
                break
            if not found["events"]:
                time.sleep(_FOLLOW_EVERY_S)
    if as_json and not follow:
        show_json({"events": told, "last": after})


@jobs.command("result")
@click.argument("id")
@click.option("--summary", is_flag=True, help="Only the part a lead reads, at most 8 KB.")
@AS_JSON
def show_result(id: str, summary: bool, as_json: bool) -> None:
    """Show what a job brought."""
    query = {"form": "summary"} if summary else {}
    with _control() as control:
        result = control.get(f"/jobs/{_id(id)}/result", **query)["result"]
    if as_json:
        show_json(result)
        return
    _field("status", result.get("status") or "not yet")
    _field("error", result.get("error"))
    report = result.get("report")
    _field("report", report.get("text") if isinstance(report, dict) else None)
    delta = result.get("delta")
    for file in delta.get("files", ()) if isinstance(delta, dict) else ():
        _field("changed", file.get("path") if isinstance(file, dict) else file)
    for warning in result.get("warnings") or ():
        _field("warning", warning)
    _field("next", result.get("next"))


@jobs.command("cancel")
@click.argument("id")
@click.option("--no-wait", is_flag=True, help="Do not wait until all of it is dead.")
@AS_JSON
@click.pass_context
def cancel_job(context: click.Context, id: str, no_wait: bool, as_json: bool) -> None:
    """End a job; a queued one never starts."""
    with _control() as control:
        job = control.post(f"/jobs/{_id(id)}/cancel", {})["job"]
        if not no_wait and _goes_on(job):
            job = _wait(control, job["job_id"], _CANCEL_S)
    if as_json:
        show_json({"job": job})
    else:
        click.echo(_line(job))
    context.exit(ExitCode.TIMEOUT if not no_wait and _goes_on(job) else ExitCode.OK)


@jobs.command("cleanup")
@click.option(
    "--older-than",
    "hours",
    type=click.FloatRange(0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Only jobs that ended so long ago.",
)
@click.option("--execute", is_flag=True, help="Do it; without this it is only said.")
@AS_JSON
def clean_up_jobs(hours: float, execute: bool, as_json: bool) -> None:
    """Remove jobs that ended long ago and their run folders, never a workspace."""
    with _control() as control:
        found = control.post("/jobs/cleanup", {"older_than_hours": hours, "execute": execute})
    if as_json:
        show_json(found)
        return
    verb = "removed" if execute else "would remove"
    for entry in found["jobs"]:
        told = f"kept: {entry['kept']}" if entry["kept"] else f"{verb} {entry['bytes']} bytes"
        click.echo(f"{entry['job_id']}  {told}")
    if not found["jobs"]:
        click.echo("nothing is old enough", err=True)
    elif not execute:
        click.echo("nothing was removed; --execute does it", err=True)


def _wait(control: ControlClient, job_id: str, timeout_s: float | None) -> dict[str, Any]:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_s = _ASK_S if deadline is None else min(_ASK_S, max(0.0, deadline - time.monotonic()))
        job = control.get(f"/jobs/{job_id}", wait_s=f"{left_s:.3f}")["job"]
        if not _goes_on(job) or (deadline is not None and time.monotonic() >= deadline):
            return job


def _goes_on(job: dict[str, Any]) -> bool:
    return job["status"] in ("queued", "running")


def _exit_code(job: dict[str, Any]) -> int:
    match job["status"], job["result_status"]:
        case "succeeded", "needs_user":
            return ExitCode.NEEDS_USER
        case "succeeded", _:
            return ExitCode.OK
        case "queued" | "running", _:
            return ExitCode.TIMEOUT
        case "cancelled", _:
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.FAILED


def _line(job: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(job["created_at"]))
    state = job["phase"] or job["result_status"] or ""
    state = "" if state == job["status"] else state
    return f"{job['job_id']}  {since}  {job['status']:<9}  {state:<11}  {job['type']:<9}  {job['repository']}"


def _print_job(job: dict[str, Any]) -> None:
    click.echo(_line(job))
    _field("summary", job["summary"])
    if job["error"] and job["error"] not in (job["summary"] or ""):
        _field("error", job["error"])
    _field("behind", job["queued_behind"])
    if job["stale_state"] != "fresh":
        _field("silent", f"{(job['heartbeat_age_ms'] or 0) // 1000} s")
    if job["status"] == "succeeded" and job["type"] == "implement":
        _field("next", f"dragoman apply {job['run_id']} --preview")


def _field(name: str, value: Any) -> None:
    if value not in (None, ""):
        click.echo(f"  {name:<8} {value}")


def _one_line(event: dict[str, Any]) -> str:
    import json

    return json.dumps(event, ensure_ascii=True)

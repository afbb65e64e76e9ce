"""`delegate` and `review`: a task handed to a worker, followed live, proved, ready to be applied."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.render import show_json
from dragoman.config.paths import resolve_home
from dragoman.errors import DragomanError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from dragoman.cli.control_client import ControlClient
    from dragoman.cli.progress import RunProgress

_FOLLOW_EVERY_S = 0.2
_CANCEL_S = 15.0


class NothingToDo(DragomanError):
    """No task was given."""

    code = "invalid_input"
    exit_code = ExitCode.USAGE


class AttemptsDiffer(DragomanError):
    """The models named are not as many as the attempts asked for."""

    code = "invalid_input"
    exit_code = ExitCode.USAGE


def _shared(command: Callable[..., int]) -> Callable[..., int]:
    """The options of both commands; names of S0 where S0 has one."""
    for option in reversed(
        (
            click.argument("words", nargs=-1),
            click.option(
                "--prompt-file",
                type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
                help="The packet, as UTF-8; - reads standard input.",
            ),
            click.option("--cwd", type=click.Path(path_type=Path), help="Where to work; here when left out."),
            click.option("--model", help="The model; [delegation] model when left out."),
            click.option("--worker", type=click.Choice(["claude", "codex"]), help="The client that works."),
            click.option("--timeout", type=click.FloatRange(min=1), metavar="SECONDS", help="For the run."),
            click.option("--max-turns", type=click.IntRange(1), help="Model calls allowed."),
            click.option(
                "--max-cost-usd", type=click.FloatRange(min=0, min_open=True), help="Money allowed."
            ),
            click.option("--resume", metavar="JOB", help="Go on with the session of an earlier job."),
            click.option("--fork", is_flag=True, help="With --resume: in a copy of that session."),
            click.option("--context-root", "context_roots", multiple=True, help="A folder to read beside."),
            click.option("--background", is_flag=True, help="Print the job's id and leave."),
            click.option(
                "--result-file",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Write the JSON there too.",
            ),
            click.option(
                "--exit-code-detail",
                is_flag=True,
                help="Exit with 3, 124 or 130 where that says more than 1.",
            ),
            click.option("--json", "as_json", is_flag=True, help="One JSON object; progress goes to stderr."),
        )
    ):
        command = option(command)
    return command


@click.command()
@_shared
@click.option("--role", type=click.Choice(["implement", "review"]), default="implement", show_default=True)
@click.option("--allowed-file", "allowed_files", multiple=True, metavar="P", help="What may be written.")
@click.option(
    "--verify", "verification", multiple=True, metavar="COMMAND", help="Proves the result; run by us."
)
@click.option(
    "--dirty", type=click.Choice(["snapshot", "committed"]), default="snapshot", show_default=True,
    help="Whether the worker sees your uncommitted changes.",
)  # fmt: skip
@click.option(
    "--best-of", type=click.IntRange(2, 6), metavar="N", help="N attempts side by side; the best stays."
)
@click.option("--models", metavar="A,B", help="With --best-of: which models, in turn.")
@click.option("--review-model", metavar="M", help="Have a second model judge the change, read-only.")
@click.option(
    "--apply", "apply_it", is_flag=True, help="Apply a success at once, if nothing stands in the way."
)
def delegate(
    words: tuple[str, ...],
    prompt_file: Path | None,
    role: str,
    best_of: int | None,
    models: str | None,
    review_model: str | None,
    apply_it: bool,
    background: bool,
    result_file: Path | None,
    exit_code_detail: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Hand a task to a worker in an isolated copy; nothing of yours is touched until you apply it.

    The task is a packet in Markdown (sections such as Goal, Allowed files, Validation commands) or plain
    words: as arguments, with --prompt-file, or on standard input.
    """
    if models and not best_of:
        raise click.UsageError("--models goes with --best-of N")
    if review_model and (background or role == "review"):
        raise click.UsageError("--review-model goes with neither --background nor --role review")
    request = _request(_task(words, prompt_file), "review" if role == "review" else "implement", options)
    if best_of:
        if background or request.get("resume_job"):
            raise click.UsageError("--best-of goes with neither --background nor --resume")
        from dragoman.cli.attempts import compete

        chosen = _models_of(models, best_of, options.get("model"))
        outcome = compete(_control(), request, chosen)
    else:
        outcome = _run(request, background=background)
    if review_model and outcome.get("worktree_path"):
        outcome["second_opinion"] = _second_opinion(outcome, request, review_model)
    if apply_it and outcome.get("ok") and outcome.get("worktree_path"):
        outcome["applied"] = _apply(outcome["worktree_path"])
    return _finish(outcome, result_file, exit_code_detail=exit_code_detail, as_json=as_json)


@click.command()
@_shared
@click.option(
    "--diff", "diff_file", type=click.File("r", encoding="utf-8"), help="A patch to review; - is stdin."
)
@click.option("--read", is_flag=True, help="Answer a question instead of judging.")
def review(
    words: tuple[str, ...],
    prompt_file: Path | None,
    diff_file: Any,
    read: bool,
    background: bool,
    result_file: Path | None,
    exit_code_detail: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Have a worker look at the repository, read-only, and say what it finds."""
    request = _request(_task(words, prompt_file), "query" if read else "review", options)
    if diff_file is not None:
        request["diff"] = diff_file.read()
    outcome = _run(request, background=background)
    return _finish(outcome, result_file, exit_code_detail=exit_code_detail, as_json=as_json)


def _task(words: tuple[str, ...], prompt_file: Path | None) -> str:
    """The packet, from wherever it was given.

    Raises:
        NothingToDo: from nowhere, or it is empty.
    """
    if prompt_file is not None and words:
        raise click.UsageError("give the task as words or with --prompt-file, not both")
    if prompt_file is not None and str(prompt_file) != "-":
        text = prompt_file.read_text(encoding="utf-8", errors="replace")
    elif words and words != ("-",):
        text = " ".join(words)
    elif not sys.stdin.isatty():
        text = sys.stdin.read()
    else:
        text = ""
    if not text.strip():
        raise NothingToDo("no task was given", hint='dragoman delegate "…", or --prompt-file packet.md')
    return text


def _request(task: str, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """The body of a job, with what was said and nothing else."""
    cwd = (options.get("cwd") or Path.cwd()).absolute()
    said = {
        "task": task,
        "cwd": str(cwd),
        "kind": kind,
        "model": options.get("model"),
        "worker": options.get("worker"),
        "timeout_s": options.get("timeout"),
        "max_turns": options.get("max_turns"),
        "max_cost_usd": options.get("max_cost_usd"),
        "resume_job": _job_id(options.get("resume")),
        "fork_session": options.get("fork") or None,
        "context_roots": [str(Path(root).absolute()) for root in options.get("context_roots") or ()],
        "allowed_files": list(options.get("allowed_files") or ()),
        "verification_commands": list(options.get("verification") or ()),
        "dirty_policy": options.get("dirty"),
        "asker": {"client": "cli"},
    }
    if said["fork_session"] and not said["resume_job"]:
        raise click.UsageError("--fork goes with --resume")
    return {name: value for name, value in said.items() if value not in (None, [])}


def _job_id(said: str | None) -> str | None:
    return f"job-{said[4:]}" if said is not None and said.startswith("run-") else said


def _models_of(models: str | None, count: int, model: str | None) -> list[str | None]:
    """One model for each attempt, in turn."""
    named: list[str | None] = [name.strip() for name in (models or "").split(",") if name.strip()]
    if len(named) > count:
        raise AttemptsDiffer(
            f"{len(named)} models are named for {count} attempts", hint=f"--best-of {len(named)}"
        )
    named = named or [model]
    return [named[number % len(named)] for number in range(count)]


def _control() -> ControlClient:
    from dragoman.cli.control_client import ControlClient
    from dragoman.daemon.connect import ensure_daemon

    home = resolve_home(os.environ)
    return ControlClient(home, ensure_daemon(home).url)


def _run(request: dict[str, Any], *, background: bool) -> dict[str, Any]:
    """One job from the request to its end, its progress shown."""
    from dragoman.cli.progress import RunProgress, make_console
    from dragoman.jobs.delegate_result import delegate_result

    console = make_console(stderr=True)
    with _control() as control:
        done = control.post("/jobs", request)
        job = done["job"]
        if background:
            return {"ok": True, **done}
        try:
            if done["deduped"]:
                console.print(f"the same task is under way as {job['job_id']}: joining it")
            elif done["queued_behind"]:
                console.print(f"waiting for {done['queued_behind']}, which writes in this repository")
            follow(control, job["job_id"], RunProgress(console))
        except KeyboardInterrupt:
            if done["deduped"]:
                click.echo(f"{job['job_id']} goes on: somebody else asked for it too", err=True)
            else:
                _cancel(control, job["job_id"])
            raise
        job = control.get(f"/jobs/{job['job_id']}")["job"]
        result = control.get(f"/jobs/{job['job_id']}/result")["result"]
    return delegate_result(job, result)


def _second_opinion(outcome: dict[str, Any], request: dict[str, Any], model: str) -> dict[str, Any]:
    """Have another model judge a change against its task; it stands beside the result and decides nothing."""
    from dragoman.cli.progress import make_console
    from dragoman.workspace import open_workspace, patch

    whole = patch(open_workspace(resolve_home(os.environ).state, outcome["worktree_path"]))
    make_console(stderr=True).print(f"a second opinion, by {model}")
    # Quoted, so that its commands and files are read and not taken for the review's own.
    quoted = "\n".join(f"> {line}" for line in request["task"].splitlines())
    words = f"Judge whether the diff does what was asked, and look for mistakes in it. Asked was:\n\n{quoted}"
    asked = {
        "task": words,
        "cwd": request["cwd"],
        "kind": "review",
        "model": model,
        "diff": whole.decode("utf-8", "replace"),
        "asker": request["asker"],
    }
    try:
        judged = _run(asked, background=False)
    except DragomanError as error:
        judged = {"status": "failed", "error": error.message}
    return {"model": model, **{name: judged.get(name) for name in ("status", "job_id", "result", "error")}}


def follow(control: ControlClient, job_id: str, progress: RunProgress) -> None:
    """Show a job's events until it is over."""
    after = 0
    while True:
        found = control.get(f"/jobs/{job_id}/events", after=str(after))
        for event in found["events"]:
            progress.show(event)
        after = found["last"]
        if found["ended"]:
            return
        if not found["events"]:
            time.sleep(_FOLLOW_EVERY_S)


def _cancel(control: ControlClient, job_id: str) -> None:
    """The user gave up: everything of the job is dead before we are gone."""
    click.echo(f"cancelling {job_id}", err=True)
    control.post(f"/jobs/{job_id}/cancel", {})
    job = control.get(f"/jobs/{job_id}", wait_s=str(_CANCEL_S))["job"]
    click.echo(f"{job_id} is {job['status']}; what it did: dragoman jobs result {job_id}", err=True)


def _apply(worktree: str) -> dict[str, Any]:
    """Preview and apply in one go; the flag was the consent."""
    from dragoman.jobs.consent import check_applicable
    from dragoman.jobs.folder import RunFolder
    from dragoman.workspace import apply, open_workspace, preview
    from dragoman.workspace.describe import describe_preview, describe_result

    home = resolve_home(os.environ)
    opened = open_workspace(home.state, worktree)
    check_applicable(RunFolder(home.runs / opened.id))
    seen = preview(opened)
    if seen.conflicts:
        return describe_preview(seen)
    return describe_result(apply(opened, token=seen.token))


def _finish(
    outcome: dict[str, Any], result_file: Path | None, *, exit_code_detail: bool, as_json: bool
) -> int:
    if result_file is not None:
        _write(result_file, outcome)
    if as_json:
        show_json(outcome)
    elif "job" in outcome:
        click.echo(outcome["job"]["job_id"])
    else:
        _print(outcome)
    conflicts = bool((outcome.get("applied") or {}).get("conflicts"))
    if outcome.get("ok") and not conflicts:
        return ExitCode.OK
    return _detailed(outcome, conflicts=conflicts) if exit_code_detail else ExitCode.FAILED


def _detailed(outcome: dict[str, Any], *, conflicts: bool) -> int:
    if conflicts:
        return ExitCode.CONFLICT
    match outcome.get("status"), outcome.get("error_code"):
        case "needs_user", _:
            return ExitCode.NEEDS_USER
        case _, "worker_timeout":
            return ExitCode.TIMEOUT
        case _, "worker_cancelled":
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.FAILED


def _write(file: Path, outcome: dict[str, Any]) -> None:
    """Whole or not at all: a reader never takes half of it, or an older one, for this result."""
    import json
    import tempfile

    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as draft:
        draft.write(json.dumps(outcome, indent=2, ensure_ascii=False) + "\n")
    Path(draft.name).replace(file)


def _print(outcome: dict[str, Any]) -> None:
    click.echo(f"{outcome['status']}  {outcome['job_id']}")
    if outcome.get("error"):
        click.echo(f"  error    {outcome['error']}")
    if report := outcome.get("result"):
        for line in str(report).strip().splitlines()[:20]:
            click.echo(f"  {line}")
    for attempt in outcome.get("attempts_ranked") or ():
        click.echo(f"  {attempt['rank']}. {attempt['model'] or 'default'}: {attempt['reason']}")
    if judged := outcome.get("second_opinion"):
        click.echo(f"  {judged['model']} on the change: {judged.get('error') or judged['status']}")
        for line in str(judged.get("result") or "").strip().splitlines()[:20]:
            click.echo(f"    {line}")
    for warning in outcome.get("warnings") or ():
        click.echo(f"  warning  {warning}")
    applied = outcome.get("applied")
    if applied and applied.get("conflicts"):
        click.echo(f"  not applied: {'; '.join(applied['conflicts'][:3])}")
    elif applied:
        click.echo(f"  applied  {', '.join(applied['applied_files'])}")
    elif outcome.get("worktree_path"):
        click.echo(f"  next     dragoman apply {outcome['worktree_path']}")
    elif outcome.get("next"):
        click.echo(f"  next     {outcome['next']}")

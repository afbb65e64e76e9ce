"""Best of N: the same task several times side by side, ranked by evidence, all but the best to the trash."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from dragoman.cli.progress import make_console
from dragoman.jobs.best_of import rank
from dragoman.jobs.delegate_result import delegate_result

if TYPE_CHECKING:
    from dragoman.cli.control_client import ControlClient

_ASK_S = 15.0


def compete(control: ControlClient, request: dict[str, Any], models: list[str | None]) -> dict[str, Any]:
    """Run one attempt a model and keep the best.

    Args:
        control: the daemon's control API.
        request: the job's body, without its model.
        models: one a attempt; None is the configuration's.

    Returns:
        The best attempt's outcome with `attempts_ranked`, the best first.
    """
    console = make_console(stderr=True)
    competition = secrets.token_hex(4)
    with control:
        asked: list[str] = []
        try:
            for number, model in enumerate(models):
                # Equal attempts are meant to be several; the nonce keeps them from being taken for one.
                body = {**request, "side_by_side": True, "nonce": f"{competition}-{number}"}
                if model is not None:
                    body["model"] = model
                asked.append(control.post("/jobs", body)["job"]["job_id"])
                console.print(f"  attempt {number + 1}: {model or 'the default model'}, {asked[-1]}")
            jobs = [_ended(control, job_id) for job_id in asked]
        except BaseException:
            for job_id in asked:
                control.post(f"/jobs/{job_id}/cancel", {})
            raise
        results = [control.get(f"/jobs/{job_id}/result")["result"] for job_id in asked]
        standings = rank(results)
        best = standings[0]
        ranked: list[dict[str, Any]] = []
        for standing in standings:
            outcome = delegate_result(jobs[standing.attempt], results[standing.attempt])
            loser = standing is not best
            ranked.append(
                {
                    "rank": standing.rank,
                    "model": models[standing.attempt],
                    "job_id": outcome["job_id"],
                    "status": outcome["status"],
                    "reason": standing.reason,
                    "worktree_path": outcome["worktree_path"],
                    "discarded": loser and _discard(results[standing.attempt]),
                }
            )
    return delegate_result(jobs[best.attempt], results[best.attempt]) | {"attempts_ranked": ranked}


def _ended(control: ControlClient, job_id: str) -> dict[str, Any]:
    while True:
        job = control.get(f"/jobs/{job_id}", wait_s=str(_ASK_S))["job"]
        if job["status"] not in ("queued", "running"):
            return job


def _discard(result: dict[str, Any]) -> bool:
    """Move a loser's workspace to the trash, from where it can be brought back."""
    import os

    from dragoman.config.paths import resolve_home
    from dragoman.errors import DragomanError
    from dragoman.workspace import discard, open_workspace

    name = (result.get("workspace") or {}).get("id")
    if name is None:
        return False
    try:
        discard(open_workspace(resolve_home(os.environ).state, name))
    except DragomanError:
        return False  # it stays, and cleanup names it
    return True

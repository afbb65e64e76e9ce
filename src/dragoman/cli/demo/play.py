"""One play of the demo: a packet is delegated, proved, previewed and applied to a scratch repository."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from dragoman.cli.control_client import ControlClient, ControlRefused
from dragoman.cli.demo.stage import DemoFailed, Stage, scratch_packet
from dragoman.cli.progress import RunProgress
from dragoman.gateway.spool import FLUSH_AFTER_S
from dragoman.jobs.evidence import Observation, observe
from dragoman.jobs.packet import parse_packet
from dragoman.workspace import apply, open_workspace, preview

_RUN_TIMEOUT_S = 300.0
_LOOK_EVERY_S = 0.1
# A daemon that died is back within seconds, and its control process a moment later.
_SILENCE_S = 30.0


@dataclass(frozen=True)
class PlayOutcome:
    """What one play showed.

    Attributes:
        wire: the wire the provider speaks.
        result: the run's result as `result.json` has it.
        patch: the delta as a patch.
        applied: paths written to the scratch repository.
        proof: the validation command run once more in the repository itself, after apply.
        usage: the ledger's summary of this run.
        wall_s: from the packet to the proof.
    """

    wire: str
    result: dict[str, Any]
    patch: str
    applied: list[str]
    proof: Observation
    usage: dict[str, Any]
    wall_s: float


def play(stage: Stage, wire: str, console: Console) -> PlayOutcome:
    """Play the demo once over an upstream of one wire.

    Raises:
        DemoFailed: the run did not succeed, or the test does not pass at the end.
    """
    started = time.monotonic()
    progress = RunProgress(console)
    repository = stage.lay_scratch(f"scratch-{wire}")
    packet = scratch_packet()
    result = _delegate(stage, wire, repository, packet, progress)
    ended = time.monotonic()
    workspace = open_workspace(stage.home.state, result["workspace"]["id"])
    seen = preview(workspace, with_patch=True)
    if seen.conflicts:
        raise DemoFailed(f"the preview has conflicts: {', '.join(c.path for c in seen.conflicts)}")
    progress.line("preview", "three-way merge, nothing written yet")
    patch = seen.patch.decode("utf-8", "replace")
    progress.diff(patch)
    done = apply(workspace, token=seen.token, cleanup=True)
    applied = [change.path for change in done.changes]
    progress.line("apply", f"[green]✓[/] {escape(', '.join(applied))}, all or nothing")
    proof = _prove(stage, repository, packet)
    progress.show({"kind": "evidence", "moment": "proof", "observation": _plain(proof)})
    _check_integrity(repository)
    _wait_for_rows(ended)
    with stage.control() as control:
        usage = control.usage(run=result["run_id"])
    return PlayOutcome(
        wire=wire,
        result=result,
        patch=patch,
        applied=applied,
        proof=proof,
        usage=usage,
        wall_s=time.monotonic() - started,
    )


def _delegate(
    stage: Stage, wire: str, repository: Path, packet: str, progress: RunProgress
) -> dict[str, Any]:
    request = {
        "task": packet,
        "cwd": str(repository),
        "kind": "implement",
        "model": f"rehearsal-{wire}",
        "worker": "claude",
        "dirty_policy": "committed",
        "timeout_s": _RUN_TIMEOUT_S,
        "asker": {"client": "cli"},
    }
    with stage.control() as control:
        job = stage.start_job(control, request)
        for event in _follow(stage, control, job["job_id"], progress):
            progress.show(event)
        result: dict[str, Any] = control.get(f"/jobs/{job['job_id']}/result")["result"]
    if result["status"] != "success":
        raise DemoFailed(
            f"the run over {wire} ended as {result['status']}: {result.get('error') or 'no reason given'}",
            hint=result.get("next") or "run the demo again, or dragoman doctor to look at this machine",
        )
    return result


def _follow(
    stage: Stage, control: ControlClient, job_id: str, progress: RunProgress
) -> Iterator[dict[str, Any]]:
    """Yield a job's events until it is over, and keep up what it needs meanwhile."""
    after, heard_at = 0, time.monotonic()
    while True:
        stage.check_model()
        if stage.keep_daemon():
            progress.line("daemon", "[yellow]it died; started again on the same port[/]")
        try:
            found = control.get(f"/jobs/{job_id}/events", after=str(after))
        except ControlRefused:
            if time.monotonic() - heard_at > _SILENCE_S:
                raise
            time.sleep(_LOOK_EVERY_S)
            continue
        heard_at = time.monotonic()
        yield from found["events"]
        after = found["last"]
        if found["ended"]:
            return
        if not found["events"]:
            time.sleep(_LOOK_EVERY_S)


def _wait_for_rows(ended: float) -> None:
    """Until every usage row of a run that ended then is on disk: the spool's own promise."""
    time.sleep(max(0.0, ended + FLUSH_AFTER_S - time.monotonic()))


def _prove(stage: Stage, repository: Path, packet: str) -> Observation:
    command = parse_packet(packet).validation[0]
    proof = asyncio.run(
        observe(
            command,
            cwd=repository,
            environment={**stage.env, "PYTHONDONTWRITEBYTECODE": "1"},
            evidence=stage.folder / "proof",
            name=repository.name,
        )
    )
    if proof.status != "passed":
        raise DemoFailed(f"after apply, `{command}` {proof.status}", hint="run the demo again")
    return proof


def _check_integrity(repository: Path) -> None:
    checked = subprocess.run(
        ("git", "-C", str(repository), "fsck", "--strict", "--no-progress"), capture_output=True, text=True
    )
    if checked.returncode or checked.stderr.strip():
        raise DemoFailed(f"git fsck on the scratch repository: {checked.stderr.strip() or checked.stdout}")


def _plain(observation: Observation) -> dict[str, Any]:
    import msgspec

    return msgspec.to_builtins(observation)

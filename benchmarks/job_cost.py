"""What a whole delegated job costs over a bare `claude -p` on the same paced task, evidence told apart.

The demo's task is played by the embedded model, slowed down so that the bare client needs about as long as
asked for. Bare: the real Claude Code straight at the model, in a plain copy of the repository. Job: snapshot,
clone, sandbox, the same client through the gateway, delta, result. Rounds alternate, medians count.

    python benchmarks/job_cost.py [--seconds 30] [--rounds 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from importlib import resources
from pathlib import Path
from typing import Any

from dragoman.cli.control_client import ControlClient
from dragoman.cli.demo.stage import Stage, scratch_packet, set_stage
from dragoman.cli.interruptions import Interruptions
from dragoman.clients.claude_code import find_claude_code

LIMIT = 0.15
# The demo's task takes the model so many answers, and the client about so long besides.
ANSWERS = 5
CLIENT_S = 3.0
TOOLS = "Read,Edit,Write,Bash"
_PACE = "first_byte_s = 0.1"


def main(argv: list[str]) -> int:
    """Measure and print; 0 when the job costs no more than it may."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="dgm-cost-") as name:
        env = {**os.environ, "DRAGOMAN_HOME": str(Path(name) / "home")}
        scenario = Path(name) / "paced.toml"
        scenario.write_text(paced(asked.seconds), "utf-8")
        with set_stage(env, Interruptions(), scenario=str(scenario)) as stage:
            pairs = [(bare(stage), job(stage)) for _ in range(asked.rounds)]
    found = summary([one for one, _ in pairs], [one for _, one in pairs])
    if asked.json:
        print(json.dumps(found))
    else:
        tell(found)
    return 0 if found["over"] <= LIMIT else 1


def paced(seconds: float) -> str:
    """The demo's scenario, as slow as asked for."""
    text = (resources.files("dragoman.rehearsal") / "scenarios" / "demo.toml").read_text("utf-8")
    assert _PACE in text
    return text.replace(_PACE, f"first_byte_s = {max(0.1, (seconds - CLIENT_S) / ANSWERS):.2f}")


def bare(stage: Stage) -> float:
    """Seconds a bare client needs, from its start to its end."""
    repository = stage.lay_scratch(f"bare-{uuid.uuid4().hex[:6]}")
    private = stage.folder / f"private-{repository.name}"
    private.mkdir()
    env = {
        "PATH": stage.env["PATH"],
        "HOME": str(private),
        "CLAUDE_CONFIG_DIR": str(private),
        "ANTHROPIC_BASE_URL": stage.provider_url,
        "ANTHROPIC_AUTH_TOKEN": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    client = find_claude_code(None, stage.env)
    words = (
        "-p",
        "--output-format=json",
        "--model=rehearsal",
        f"--tools={TOOLS}",
        "--permission-mode=dontAsk",
    )
    rules = ("--allowedTools", "Read", f"Edit(/{repository}/**)", "Bash(python3 -m unittest -q)")
    started = time.monotonic()
    done = subprocess.run(
        [str(client.path), *words, *rules],
        input=scratch_packet(),
        env=env,
        cwd=repository,
        capture_output=True,
        text=True,
    )
    took_s = time.monotonic() - started
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
    changed = subprocess.run(
        ["git", "-C", str(repository), "status", "--short"], capture_output=True, text=True
    )
    assert "pricing.py" in changed.stdout, "the bare client did not do the task"
    return took_s


def job(stage: Stage) -> dict[str, Any]:
    """The parts of a whole job, in seconds."""
    repository = stage.lay_scratch(f"job-{uuid.uuid4().hex[:6]}")
    body = {"task": scratch_packet(), "cwd": str(repository), "model": "rehearsal-messages"}
    with ControlClient(stage.home, stage.daemon.url) as control:
        control.get("/jobs")  # a client that may delegate has been here: the engine is warm
        started = time.monotonic()
        asked = control.post("/jobs", {**body, "asker": {"client": "cli"}})["job"]
        while asked["status"] in ("queued", "running"):
            asked = control.get(f"/jobs/{asked['job_id']}", wait_s="15")["job"]
        took_s = time.monotonic() - started
        result = control.get(f"/jobs/{asked['job_id']}/result")["result"]
    assert result["status"] == "success", result["error"]
    parts = result["phases_s"]
    return {"wall_s": took_s, "level": result["isolation"]["level"], **parts}


def summary(bares: list[float], jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, and the ratio that counts."""

    def median(name: str) -> float:
        return round(statistics.median(one.get(name, 0.0) for one in jobs), 3)

    bare_s = round(statistics.median(bares), 3)
    evidence_s = round(median("observing_before") + median("observing_after"), 3)
    wall_s = median("wall_s")
    known = ("preparing", "observing_before", "working", "delta", "observing_after")
    return {
        "bare_s": bare_s,
        "job_s": wall_s,
        "evidence_s": evidence_s,
        "over": round((wall_s - evidence_s) / bare_s - 1, 4),
        "over_s": round(wall_s - evidence_s - bare_s, 3),
        "parts_s": {name: median(name) for name in known}
        | {"start_and_end": round(wall_s - sum(median(name) for name in known), 3)},
        "isolation": jobs[0]["level"],
        "rounds": len(jobs),
    }


def tell(found: dict[str, Any]) -> None:
    """For people."""
    print(f"bare claude -p   {found['bare_s']:8.2f} s")
    print(f"whole job        {found['job_s']:8.2f} s  ({found['isolation']})")
    print(f"  evidence       {found['evidence_s']:8.2f} s, told apart")
    print(f"  over the bare  {found['over_s']:8.2f} s = {found['over']:+.1%} (at most {LIMIT:.0%})")
    for name, seconds in found["parts_s"].items():
        print(f"    {name:<18}{seconds:6.2f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the daemon's processes carry, and that they carry nothing more later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).parents[1] / "fixtures" / "daemon" / "watch_imports.py"

HEAVY = {
    "click",
    "dbos",
    "httpx",
    "mcp",
    "platformdirs",
    "psutil",
    "pydantic",
    "rich",
    "sqlalchemy",
    "starlette",
    "structlog",
}
ROOMS = {"store", "ledger", "clients", "workers", "workspace", "jobs", "bridge", "mcp", "console", "cli"}


def imported_by(module: str) -> set[str]:
    """Names of what is loaded once `module` is."""
    source = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_parent_is_standard_library_only():
    loaded = imported_by("dragoman.daemon.parent")
    packages = {name.split(".")[0] for name in loaded}
    assert (
        packages & (HEAVY | {"asyncio", "ssl", "msgspec", "uvicorn", "httptools", "uvloop", "logging"})
        == set()
    )
    ours = {name for name in loaded if name.startswith("dragoman.")}
    assert {name.split(".")[1] for name in ours} <= {"daemon", "process"}


def test_a_gateway_is_lean():
    loaded = imported_by("dragoman.daemon.gateway_process")
    packages = {name.split(".")[0] for name in loaded}
    # uvicorn imports click for its own command line.
    assert packages & (HEAVY - {"click"}) == set()
    ours = {name.split(".")[1] for name in loaded if name.startswith("dragoman.")}
    assert ours & (ROOMS | {"rehearsal", "control"}) == set()


@pytest.mark.parametrize("module", ["dragoman.daemon.starting", "dragoman.daemon.connect"])
def test_starting_and_finding_a_daemon_is_light(module: str):
    packages = {name.split(".")[0] for name in imported_by(module)}
    assert packages & (HEAVY | {"asyncio", "uvicorn", "uvloop"}) == set()


def test_a_gateway_imports_nothing_once_it_is_ready(homestead):
    """An upgrade in place must not mix two versions in one process."""
    done = subprocess.run(
        [sys.executable, "-P", str(HARNESS)], env=homestead.env, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["failed"] == {}
    assert len(told["statuses"]) >= 10
    assert told["reloaded"] == {"type": "reloaded", "error": None}
    assert told["imported_later"] == []

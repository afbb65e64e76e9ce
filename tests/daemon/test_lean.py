"""What the daemon's processes carry, and that they carry nothing more later."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
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
PARENT_DOES_WITHOUT = {
    "asyncio",
    "dataclasses",
    "httptools",
    "logging",
    "msgspec",
    "ssl",
    "subprocess",
    "uvicorn",
    "uvloop",
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
    assert packages & (HEAVY | PARENT_DOES_WITHOUT) == set()
    ours = {name for name in loaded if name.startswith("dragoman.")}
    assert {name.split(".")[1] for name in ours} <= {"daemon", "process"}


def test_a_gateway_is_lean():
    loaded = imported_by("dragoman.daemon.gateway_process")
    packages = {name.split(".")[0] for name in loaded}
    unused = {"typing_extensions", "configparser", "multiprocessing", "tempfile"}
    assert packages & (HEAVY | unused) == set()
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


def test_an_idle_daemon_is_small(homestead, until):
    """What it costs to have it run all day; control comes when it is first needed."""
    daemon = homestead.serve().wait_up()
    until(lambda: daemon.call("/health").status == 200)
    processes = {pid: psutil.Process(pid) for pid in homestead.processes()}
    assert set(processes) == {daemon.process.pid, *daemon.pids("gateway")}
    rss_mib = {pid: process.memory_info().rss / (1 << 20) for pid, process in processes.items()}
    assert sum(rss_mib.values()) <= 45, rss_mib
    assert rss_mib[daemon.process.pid] <= 14, rss_mib


def test_an_idle_daemon_uses_next_to_no_cpu(homestead):
    daemon = homestead.serve("--workers", "2").wait_up()
    assert daemon.call("/health").status == 200
    processes = [psutil.Process(pid) for pid in homestead.processes()]

    def used_s() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    used, began = used_s(), time.monotonic()
    # The clock of the kernel ticks a hundred times a second; one percent of four seconds is four ticks.
    time.sleep(4)
    assert used_s() - used <= 0.01 * (time.monotonic() - began) + 0.01

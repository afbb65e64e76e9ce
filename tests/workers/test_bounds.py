"""What one worker may cost its supervisor, and that its end is sure on systems that are not Linux."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dragoman.process import identity as identity_module
from dragoman.process import tree as tree_module
from dragoman.process.table import PsutilTable
from dragoman.workers.testing import FakeClaude

if TYPE_CHECKING:
    from tests.workers.conftest import Stage

_DRIVE = """
import asyncio, json, os, resource, sys
from pathlib import Path
from dragoman.workers.base import WorkerTask
from dragoman.workers.claude import ClaudeWorker
from dragoman.workers.testing import FakeClaude

client = FakeClaude(Path(sys.argv[1])).client
folder = Path(sys.argv[2])
def play(behaviour):
    task = WorkerTask(prompt="x", cwd=folder, model="m", gateway_url="http://127.0.0.1:9", token="t",
                      run_id=f"bounds-{os.getpid()}-{behaviour}", config_folder=folder / behaviour,
                      timeout_s=100, environment={"FAKE_CLAUDE": behaviour})
    heard = [0]
    def on_event(event): heard[0] += len(getattr(event, "text", ""))
    outcome = asyncio.run(ClaudeWorker(client, os.environ).run(task, on_event=on_event, stop=asyncio.Event()))
    return outcome.status, outcome.text, heard[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([play("normal"), play("floods_200_mb")]))
"""


def test_c12_200_mb_of_output_leave_memory_bounded_and_the_end_is_heard(
    fake_worker: FakeClaude, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DRIVE, str(fake_worker.path), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    (_, _, _, before), (status, text, heard, after) = json.loads(done.stdout)
    assert (status, text) == ("finished", "All done.")
    assert heard > 30_000_000  # 2000 texts, each cut to 16 KB
    unit = 1 if sys.platform == "darwin" else 1024
    assert (after - before) * unit < 40_000_000


def test_elsewhere_a_worker_that_ignores_everything_is_ended_too(
    stage: Stage, is_running: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /proc, without pidfd and without a subreaper: psutil, kill and the marker."""
    elsewhere = PsutilTable()
    for module in (identity_module, tree_module):
        monkeypatch.setattr(module, "process_table", lambda: elsewhere)
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    play = stage.play("ignores_everything", stop_when=lambda _: (stage.notes / "ready").exists())
    assert (play.outcome.status, play.outcome.survivors) == ("stopped", 0)
    assert not is_running(int(play.noted("ready")))
    assert not is_running(int(play.noted("grandchild")))


def test_an_adopted_orphan_without_marker_is_ended_where_we_are_a_subreaper(
    fake_worker: FakeClaude, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux has subreapers")
    script = f"""
import asyncio, os, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
from dragoman.process.identity import identify
from dragoman.process.tree import become_subreaper
from dragoman.workers.base import WorkerTask
from dragoman.workers.child import Reach
from dragoman.workers.claude import ClaudeWorker
from dragoman.workers.testing import FakeClaude
assert become_subreaper()
spared = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
folder = Path({str(tmp_path)!r})
escape = folder / "escape.py"
escape.write_text('''
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], {{}})
    os._exit(0)
''')
client = FakeClaude(Path({str(fake_worker.path)!r})).client
wrapper = folder / "wrapper"
first = f"{{sys.executable}} {{escape}} {{folder / 'pid'}}"
wrapper.write_text(f"#!/bin/sh\\n{{first}}\\nexec {{client.path}} \\"$@\\"\\n")
wrapper.chmod(0o755)
task = WorkerTask(prompt="x", cwd=folder, model="m", gateway_url="http://127.0.0.1:9", token="t",
                  run_id=f"adopt-{{os.getpid()}}", config_folder=folder / "private", timeout_s=60)
worker = ClaudeWorker(replace(client, path=wrapper), os.environ,
                      reach=Reach(os.getpid(), lambda: (spared.pid,)))
outcome = asyncio.run(worker.run(task, on_event=lambda event: None, stop=asyncio.Event()))
pid = int((folder / "pid").read_text())
print(outcome.status, outcome.survivors, identify(pid) is None, identify(spared.pid) is not None)
spared.kill(); spared.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["finished", "0", "True", "True"], done.stderr

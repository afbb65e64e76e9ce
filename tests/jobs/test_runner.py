"""The detached runner with a fake worker: real processes, real ends, and a folder that tells the truth."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dragoman.config.tokens import list_tokens
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.orphans import end_orphans, find_orphans
from dragoman.process.identity import identify, is_alive, send_signal
from dragoman.process.locks import is_locked

if TYPE_CHECKING:
    from tests.jobs.conftest import Place

Until = Callable[[Callable[[], object]], object]

# Ten seconds of grace and one more: what a cancel or a time limit promises.
PROMISE_S = 11.0


def test_a_run_leaves_a_result_its_marks_and_no_token(place: Place) -> None:
    run = place.start("write code_under_test.py 'def double(x):\\n    return 2 * x\\n'")
    result = place.result(run)
    assert (result["status"], result["error_code"]) == ("success", None)
    assert [file["path"] for file in result["delta"]["files"]] == ["code_under_test.py"]
    assert run.folder.started_file.exists()
    assert list_tokens(place.home) == []
    assert not is_locked(run.folder.lock_file)
    assert run.folder.report_file.read_text() == "All done."
    assert place.processes(run) == []


def test_a_run_is_taken_up_before_most_of_its_runner_is_imported() -> None:
    told = "import sys, dragoman.jobs.runner; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "dragoman.jobs.folder" in loaded
    heavy = {"asyncio", "psutil", "subprocess", "dragoman.config", "dragoman.workspace", "dragoman.workers"}
    assert loaded & heavy == set()


def test_a_runner_that_cannot_be_loaded_leaves_a_result(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "asyncio.py").write_text("import a_module_that_is_not_there\n")
    folder = RunFolder(tmp_path / "run-broken")
    folder.create(
        RunRequest(
            run_id="run-broken",
            packet="Goal: x",
            repository=str(tmp_path),
            state=str(tmp_path),
            model="m",
            gateway_url="http://127.0.0.1:9",
        )
    )
    runner = [sys.executable, "-m", "dragoman.jobs.runner", str(folder.path)]
    subprocess.run(runner, env={**os.environ, "PYTHONPATH": str(broken)}, check=True)
    result = folder.result()
    assert result is not None
    assert (result["status"], result["error_code"]) == ("failed", "internal")
    assert "a_module_that_is_not_there" in result["error"]


def test_a_second_runner_of_a_run_is_refused_and_nothing_happens_twice(place: Place, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    run = place.start(f"append {tally} 'once\\n'", "note ready", f"wait {tmp_path / 'go'}")
    place.note(run, "ready")
    place.run_again(run)
    assert "a run happens once" in run.folder.log_file.read_text()
    (tmp_path / "go").touch()
    assert place.result(run)["status"] == "success"
    place.run_again(run)
    assert tally.read_text() == "once\n"


def test_c06_cancel_ends_a_worker_that_ignores_term_and_its_grandchild_in_time(place: Place) -> None:
    run = place.start("write made.txt x", behaviour="ignores_everything")
    pids = [int(place.note(run, name)) for name in ("ready", "grandchild")]
    since = time.monotonic()
    run.folder.cancel()
    place.until(lambda: all(identify(pid) is None for pid in pids))
    assert time.monotonic() - since <= PROMISE_S
    result = place.result(run)
    assert (result["status"], result["error_code"]) == ("failed", "worker_cancelled")
    assert place.processes(run) == []
    assert place.changed(run.folder.path.name) == ["made.txt"]
    # A late runner changes nothing about it.
    place.run_again(run)
    assert run.folder.result() == result


def test_a_runner_told_to_end_says_cancelled_and_leaves_nothing(place: Place) -> None:
    run = place.start(behaviour="hangs")
    place.note(run, "ready")
    send_signal(run.runner, signal.SIGTERM)
    result = place.result(run)
    assert (result["status"], result["error_code"]) == ("failed", "worker_cancelled")
    assert place.note(run, "interrupted") == "yes"
    assert place.processes(run) == []
    assert list_tokens(place.home) == []


def test_a_run_cancelled_before_its_runner_comes_starts_no_worker(place: Place, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    run = place.start(f"append {tally} once", cancelled=True)
    assert place.result(run)["error_code"] == "worker_cancelled"
    assert not tally.exists()


def test_c07_a_time_limit_ends_all_and_shows_what_was_changed(place: Place) -> None:
    run = place.start("write made.txt x", behaviour="ignores_everything", timeout_s=2.0)
    pids = [int(place.note(run, name)) for name in ("ready", "grandchild")]
    result = place.result(run)
    assert (result["status"], result["error_code"], result["timed_out"]) == ("failed", "worker_timeout", True)
    assert result["wall_s"] <= 2.0 + PROMISE_S
    assert [file["path"] for file in result["delta"]["files"]] == ["made.txt"]
    assert place.changed(run.folder.path.name) == ["made.txt"]
    assert not any(identify(pid) for pid in pids)


def test_c08_a_worker_that_exits_143_without_a_word_when_cancelled_is_cancelled(place: Place) -> None:
    run = place.start("write made.txt x", behaviour="hangs_deaf")
    place.note(run, "ready")
    run.folder.cancel()
    result = place.result(run)
    assert (result["error_code"], result["worker"]["exit_code"]) == ("worker_cancelled", 143)
    assert place.changed(run.folder.path.name) == ["made.txt"]


def test_the_lock_outlives_a_killed_runner_and_goes_with_its_orphan(place: Place, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    run = place.start(f"append {tally} 'once\\n'", "write made.txt x", behaviour="ignores_everything")
    pid = int(place.note(run, "ready"))
    send_signal(run.runner, signal.SIGKILL)
    place.until(lambda: not is_alive(run.runner))
    assert is_locked(run.folder.lock_file)
    worker = run.folder.worker()
    assert worker is not None
    assert worker.pid == pid
    assert worker in find_orphans(run.folder)
    # While it lives nobody can run it again.
    place.run_again(run)
    assert run.folder.result() is None
    assert end_orphans(run.folder, grace_s=0.2) == ()
    assert not is_locked(run.folder.lock_file)
    assert place.processes(run) == []
    # A runner that comes now owns up to the crash and starts no worker a second time.
    place.run_again(run)
    result = run.folder.result()
    assert result is not None
    assert (result["status"], result["error_code"], result["retryable"]) == ("failed", "runner_crashed", True)
    assert tally.read_text() == "once\n"
    assert place.changed(run.folder.path.name) == ["made.txt"]


def test_an_orphan_without_its_mark_is_found_by_who_it_was(place: Place) -> None:
    run = place.start(behaviour="hangs_deaf")
    place.note(run, "ready")
    worker = run.folder.worker()
    send_signal(run.runner, signal.SIGKILL)
    place.until(lambda: not is_alive(run.runner))

    class Blind:
        """A process table that sees no environment, as another system's may not."""

        def __init__(self) -> None:
            from dragoman.process.table import PsutilTable

            self._table = PsutilTable()
            self.entry, self.entries = self._table.entry, self._table.entries

        def has_environment(self, pid: int, name: str, value: str) -> bool:
            return False

    # Start times read one way never equal those read another, so the note is made the same way.
    assert worker is not None
    seen = identify(worker.pid, table=Blind())
    assert seen is not None
    run.folder.note_worker(seen)
    assert seen in find_orphans(run.folder, table=Blind())
    assert end_orphans(run.folder, grace_s=2.0, table=Blind()) == ()
    assert not is_locked(run.folder.lock_file)


def test_what_a_validation_command_leaves_behind_ends_with_the_run(place: Place, tmp_path: Path) -> None:
    (place.repository / "test_it.py").write_text(
        "import subprocess, sys, unittest\n"
        "class T(unittest.TestCase):\n"
        "    def test_it(self):\n"
        "        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],\n"
        "                                 start_new_session=True)\n"
        f"        open({str(tmp_path / 'left')!r}, 'a').write(f'{{child.pid}}\\n')\n"
    )
    packet = place.fake.task() + "Validation commands:\n- `python3 -m unittest -q`\n"
    run = place.start(packet=packet)
    assert place.result(run)["evidence"]["verdict"] == "proved"
    left = [int(line) for line in (tmp_path / "left").read_text().split()]
    assert len(left) == 2
    assert not any(identify(pid) for pid in left)


def test_the_run_folder_is_its_owners_alone_and_holds_no_token(place: Place) -> None:
    run = place.start(behaviour="api_error")
    result = place.result(run)
    assert result["error_code"] == "provider_error"
    secret = place.tokens[run.folder.path.name]
    for path in run.folder.path.rglob("*"):
        if run.folder.worker_config in path.parents or path.is_dir():
            continue  # that is the client's own; the folder around it is closed
        assert path.stat().st_mode & 0o077 == 0, path
        assert secret not in path.read_text("utf-8", "replace"), path
    assert run.folder.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("behaviour", ["floods", "wants_permission_again_and_again"])
def test_an_endless_worker_does_not_fill_the_disk_nor_run_for_ever(place: Place, behaviour: str) -> None:
    run = place.start(behaviour=behaviour, timeout_s=3.0)
    result = place.result(run)
    assert result["status"] == ("failed" if behaviour == "floods" else "needs_user")
    assert run.folder.events_file.stat().st_size < 70_000_000


def test_a_runner_told_to_end_at_any_moment_of_its_start_leaves_a_result(place: Place) -> None:
    for delay_s in (0.0, 0.2, 0.4, 0.7):
        run = place.start(behaviour="hangs")
        place.until(run.folder.lock_file.exists)
        time.sleep(delay_s)  # not waiting for anything: any moment will do
        send_signal(run.runner, signal.SIGTERM)
        assert place.result(run)["error_code"] == "worker_cancelled"


def test_codex_has_no_login_of_its_own_to_work_with(place: Place) -> None:
    run = place.start(worker="codex", worker_login="own")
    result = place.result(run)
    assert (result["status"], result["error_code"]) == ("failed", "config_invalid")
    assert "own login" in result["error"]
    assert result["next"]

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from dragoman.process.identity import identify, is_alive, send_signal, wait_gone
from dragoman.process.table import ProcessTable, ProcTable, PsutilTable
from dragoman.process.tree import Marker, end_tree, find_tree

TABLES: list[ProcessTable] = [PsutilTable()]
if sys.platform == "linux":
    TABLES.append(ProcTable())

# Prints the pids of: itself, a child, a child that left the session, an orphan that did both.
WANDERERS = """
import os, signal, sys
def child(*, session, orphan):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        if orphan and os.fork():
            os._exit(0)
        if session:
            os.setsid()
        os.write(w, f"{os.getpid()}\\n".encode())
        signal.pause()
        os._exit(0)
    if orphan:
        os.waitpid(pid, 0)
    return os.read(r, 20).decode().strip()
pids = [str(os.getpid()), child(session=False, orphan=False), child(session=True, orphan=False),
        child(session=True, orphan=True)]
print(*pids, flush=True)
signal.pause()
"""

# Also throws its environment away, so that neither parent, session nor marker remains.
FORGETFUL = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        sleeper = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
        os.execve(sys.executable, [sys.executable, "-S", "-c", sleeper], {})
    os._exit(0)
signal.pause()
"""

DEAF = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("table", TABLES)
def test_every_descendant_is_found_wherever_it_went(table, run_script, marker: Marker):
    script = run_script(WANDERERS)
    pids = {int(pid) for pid in script.line().split()}
    assert {one.pid for one in find_tree(script.identity, marker=marker, table=table)} == pids


@pytest.mark.parametrize("table", TABLES)
def test_ending_a_tree_leaves_nothing_of_it(table, run_script, marker: Marker):
    script = run_script(WANDERERS)
    identities = [identify(int(pid), table=table) for pid in script.line().split()]
    end = end_tree(script.identity, grace_s=5, marker=marker, table=table)
    assert set(end.ended) == set(identities)
    assert (end.left, end.killed) == ((), False)
    assert not any(one and is_alive(one, table=table) for one in identities)


def test_the_marker_finds_what_outlived_its_root(run_script, marker: Marker):
    script = run_script(WANDERERS)
    pids = [int(pid) for pid in script.line().split()]
    send_signal(script.identity, signal.SIGKILL)
    assert wait_gone(script.identity, timeout_s=10)
    script.process.wait()
    end = end_tree(script.identity, grace_s=5, marker=marker)
    assert {one.pid for one in end.ended} == set(pids[1:])
    assert find_tree(None, marker=marker) == []


def test_a_process_deaf_to_term_is_killed_after_the_grace(run_script, marker: Marker):
    script = run_script(DEAF)
    assert script.line() == str(script.identity.pid)
    end = end_tree(script.identity, grace_s=0.2, marker=marker)
    assert (end.ended, end.left, end.killed) == ((script.identity,), (), True)


def test_a_stopped_process_is_woken_to_hear_its_term(run_script, marker: Marker):
    script = run_script("import signal; print('up', flush=True); signal.pause()")
    assert script.line() == "up"
    send_signal(script.identity, signal.SIGSTOP)
    assert not end_tree(script.identity, grace_s=10, marker=marker).killed


def test_no_grace_kills_at_once(run_script, marker: Marker):
    script = run_script("import signal; print('up', flush=True); signal.pause()")
    end = end_tree(script.identity, grace_s=0, marker=marker)
    assert (end.ended, end.killed) == ((script.identity,), True)


def test_ending_what_is_gone_already_does_nothing(run_script, marker: Marker, until: Callable):
    script = run_script("pass")
    until(lambda: not is_alive(script.identity))
    end = end_tree(script.identity, grace_s=5, marker=marker)
    assert (end.ended, end.left, end.killed) == ((), (), False)


def test_a_stranger_is_never_touched_even_with_the_pid_of_the_root(run_script, marker: Marker):
    script = run_script("import signal; print('up', flush=True); signal.pause()")
    stale = type(script.identity)(script.identity.pid, "an earlier life")
    assert end_tree(stale, grace_s=0).ended == ()
    assert is_alive(script.identity)


def test_spared_processes_stay(run_script, marker: Marker):
    one, other = (run_script("import signal; signal.pause()") for _ in range(2))
    end_tree(None, grace_s=0, marker=marker, spare=[other.identity.pid])
    assert not is_alive(one.identity)
    assert is_alive(other.identity)


def test_the_caller_and_its_ancestors_are_never_part_of_a_tree(marker: Marker):
    source = (
        "import os; from dragoman.process.identity import own_identity;"
        "from dragoman.process.tree import Marker, end_tree;"
        f"end = end_tree(own_identity(), grace_s=0, marker=Marker({marker.name!r}, {marker.value!r}));"
        "print(len(end.ended))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, marker.name: marker.value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers exist on Linux alone")
def test_a_subreaper_finds_an_orphan_that_forgot_everything(tmp_path):
    source = f"""
import os, subprocess, sys
from dragoman.process.identity import identify
from dragoman.process.tree import become_subreaper, end_tree, reap_adopted
assert become_subreaper()
def start(program):
    argv = [sys.executable, "-S", "-c", program]
    return subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
own = start("import sys; sys.stdin.read()")
worker = start({FORGETFUL!r})
orphan = int(worker.stdout.readline())
end = end_tree(identify(worker.pid), grace_s=5, adopted_by=os.getpid(), spare=[own.pid])
assert {{one.pid for one in end.ended}} == {{worker.pid, orphan}}, end
assert reap_adopted(spare=[own.pid, worker.pid]) == 2  # the orphan and its parent that nobody reaped
assert worker.wait() == -15
assert own.poll() is None
own.kill()
assert own.wait() == -9
"""
    # `own` ends with our end of its standard input, whatever happens.
    caller = [sys.executable, "-c", source]
    with subprocess.Popen(caller, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as done:
        assert done.stderr is not None
        assert done.stderr.read() == ""
    assert done.returncode == 0


def test_elsewhere_there_is_no_subreaper():
    from dragoman.process.tree import become_subreaper

    assert become_subreaper(platform="darwin") is False


def test_a_child_born_during_the_grace_is_met_too(run_script, marker: Marker):
    script = run_script("""
import os, signal
def late(*_):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        signal.pause()
    os._exit(0)
signal.signal(signal.SIGTERM, late)
print('up', flush=True)
signal.pause()
""")
    assert script.line() == "up"
    end = end_tree(script.identity, grace_s=5, marker=marker)
    assert len(end.ended) == 2
    assert find_tree(None, marker=marker) == []

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.process.identity import (
    ProcessIdentity,
    identify,
    is_alive,
    own_identity,
    send_signal,
    wait_gone,
)
from dragoman.process.table import ProcTable, PsutilTable, process_table

FOREVER = "import signal; print('up', flush=True); signal.pause()"


def test_a_process_is_alive_under_its_own_identity_until_it_ends(run_script):
    script = run_script(FOREVER)
    assert is_alive(script.identity)
    assert send_signal(script.identity, signal.SIGKILL)
    assert wait_gone(script.identity, timeout_s=10)
    assert not is_alive(script.identity)


def test_another_process_with_the_same_pid_is_neither_alive_nor_signalled(run_script):
    script = run_script(FOREVER)
    earlier = ProcessIdentity(script.identity.pid, "an earlier life")
    assert not is_alive(earlier)
    assert not send_signal(earlier, signal.SIGKILL)
    assert is_alive(script.identity)


def test_without_pidfd_a_signal_still_goes_by_identity(run_script, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    script = run_script(FOREVER)
    assert not send_signal(ProcessIdentity(script.identity.pid, "an earlier life"), signal.SIGKILL)
    assert send_signal(script.identity, signal.SIGKILL)
    assert wait_gone(script.identity, timeout_s=10)
    assert not send_signal(script.identity, signal.SIGKILL)


def test_a_zombie_counts_as_gone(run_script, until: Callable):
    script = run_script("print('bye')")
    until(lambda: not is_alive(script.identity))  # nobody has reaped it yet
    assert script.process.returncode is None
    assert identify(script.identity.pid) is None


def test_the_two_tables_agree_on_every_field_but_the_spelling_of_time():
    ours, theirs = ProcTable().entry(os.getpid()), PsutilTable().entry(os.getpid())
    assert ours is not None
    assert theirs is not None
    assert (ours.pid, ours.ppid, ours.pgid, ours.sid, ours.uid) == (
        theirs.pid, theirs.ppid, theirs.pgid, theirs.sid, theirs.uid,
    )  # fmt: skip
    assert os.getpid() in {entry.pid for entry in PsutilTable().entries()}
    assert os.getpid() in {entry.pid for entry in process_table().entries()}


def test_platforms_without_proc_use_psutil():
    assert isinstance(process_table("darwin"), PsutilTable)
    if sys.platform == "linux":
        assert isinstance(process_table("linux"), ProcTable)


@pytest.mark.parametrize("table", [ProcTable(), PsutilTable()])
def test_both_tables_tell_a_marked_environment(table, run_script, marker):
    script = run_script(FOREVER)
    assert script.line() == "up"
    assert table.has_environment(script.identity.pid, marker.name, marker.value)
    assert not table.has_environment(script.identity.pid, marker.name, marker.value[:-1])
    assert not table.has_environment(2**22 + 1, marker.name, marker.value)
    assert table.entry(2**22 + 1) is None


def test_a_command_name_full_of_parentheses_does_not_confuse_the_reader(tmp_path: Path):
    folder = tmp_path / "77"
    folder.mkdir()
    (folder / "stat").write_text("77 (a) R (1 2) S 5 6 7 " + " ".join(str(n) for n in range(8, 60)))
    (tmp_path / "78").mkdir()
    (tmp_path / "78" / "stat").write_text("78 (dead) Z 5 6 7 " + " ".join(str(n) for n in range(8, 60)))
    (tmp_path / "79").mkdir()
    table = ProcTable(tmp_path)
    entry = table.entry(77)
    assert entry is not None
    assert (entry.ppid, entry.pgid, entry.sid, entry.started_at) == (5, 6, 7, "boot.23")
    assert [one.pid for one in table.entries()] == [77]


def test_own_identity_is_alive():
    assert own_identity().pid == os.getpid()
    assert is_alive(own_identity())

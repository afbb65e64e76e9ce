from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from dragoman.process.identity import own_identity, send_signal, wait_gone
from dragoman.process.locks import FileLock, LockHeld, is_locked, live_holder, read_holder


def test_a_second_taker_is_told_who_holds_the_lock(lock_path: Path):
    with FileLock(lock_path, note="daemon"):
        with pytest.raises(LockHeld) as caught:
            FileLock(lock_path).acquire()
        assert caught.value.holder is not None
        assert caught.value.holder.identity == own_identity()
        assert caught.value.holder.note == "daemon"
        assert str(os.getpid()) in caught.value.message
        assert live_holder(lock_path) == caught.value.holder
    assert not is_locked(lock_path)
    assert live_holder(lock_path) is None
    FileLock(lock_path).acquire()


def test_the_lock_file_is_private_and_stays(lock_path: Path):
    with FileLock(lock_path):
        assert stat.S_IMODE(lock_path.stat().st_mode) == 0o600
    assert lock_path.exists()


def test_a_symlink_is_not_followed(lock_path: Path):
    lock_path.symlink_to(lock_path.with_name("elsewhere"))
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(lock_path).acquire()


def test_kill_nine_frees_the_lock_and_its_holder_is_no_longer_live(lock_path: Path, run_script):
    script = run_script(
        f"import fcntl, os, signal; fd = os.open({str(lock_path)!r}, os.O_RDWR | os.O_CREAT);"
        "fcntl.flock(fd, fcntl.LOCK_EX); print('locked', flush=True); signal.pause()"
    )
    assert script.line() == "locked"
    assert is_locked(lock_path)
    send_signal(script.identity, signal.SIGKILL)
    assert wait_gone(script.identity, timeout_s=10)
    assert not is_locked(lock_path)
    with FileLock(lock_path):
        assert is_locked(lock_path)


def test_a_child_that_inherits_the_descriptor_keeps_the_lock(lock_path: Path, run_script):
    lock = FileLock(lock_path, note="runner")
    lock.acquire()
    script = run_script("import signal; print('up', flush=True); signal.pause()", pass_fds=(lock.fileno(),))
    assert script.line() == "up"
    lock.hand_over()
    assert not lock.held
    assert is_locked(lock_path)
    with pytest.raises(LockHeld):
        FileLock(lock_path).acquire()
    send_signal(script.identity, signal.SIGKILL)
    FileLock(lock_path).acquire(timeout_s=10)


def test_waiting_takes_the_lock_as_soon_as_it_is_free(lock_path: Path):
    first, second = FileLock(lock_path), FileLock(lock_path)
    first.acquire()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            first.release()

    second.acquire(timeout_s=5, clock=lambda: sum(naps), sleep=nap)
    assert second.held
    assert len(naps) == 3


def test_waiting_ends_at_its_deadline(lock_path: Path):
    naps: list[float] = []
    with FileLock(lock_path), pytest.raises(LockHeld):
        FileLock(lock_path).acquire(timeout_s=1, clock=lambda: sum(naps), sleep=naps.append)
    assert 1 <= sum(naps) < 1.1


def test_a_probe_that_happens_to_look_does_not_make_a_taker_fail(lock_path: Path):
    import fcntl

    lock_path.touch()
    probe = os.open(lock_path, os.O_RDONLY)
    fcntl.flock(probe, fcntl.LOCK_SH)
    lock = FileLock(lock_path)
    lock.acquire(sleep=lambda _: fcntl.flock(probe, fcntl.LOCK_UN))
    assert lock.held
    os.close(probe)


def test_using_a_lock_in_the_wrong_order_is_refused(lock_path: Path):
    lock = FileLock(lock_path)
    lock.release()
    with pytest.raises(ValueError, match="not held"):
        lock.fileno()
    lock.acquire()
    with pytest.raises(ValueError, match="already"):
        lock.acquire()
    lock.release()
    assert read_holder(lock_path) is None


def test_a_missing_lock_file_is_not_locked(lock_path: Path):
    assert not is_locked(lock_path)
    assert read_holder(lock_path) is None

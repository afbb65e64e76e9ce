"""Which process exactly: a pid alone is reused, a pid with its start time never is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from dragoman.process.table import ProcessTable, process_table


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that can be named on disk and recognised later, even after a reboot.

    Attributes:
        pid: process id.
        started_at: opaque start time (see `ProcessEntry.started_at`); only ever compared for equality.
    """

    pid: int
    started_at: str


def identify(pid: int, *, table: ProcessTable | None = None) -> ProcessIdentity | None:
    """The identity of a running process, or None when it is gone (a zombie is gone)."""
    entry = (table or process_table()).entry(pid)
    return ProcessIdentity(entry.pid, entry.started_at) if entry else None


def own_identity(*, table: ProcessTable | None = None) -> ProcessIdentity:
    """The identity of the calling process."""
    identity = identify(os.getpid(), table=table)
    assert identity is not None, "the calling process is running"
    return identity


def is_alive(identity: ProcessIdentity, *, table: ProcessTable | None = None) -> bool:
    """Whether exactly this process still runs; another one with its pid does not count."""
    return identify(identity.pid, table=table) == identity


def send_signal(
    identity: ProcessIdentity, signal_number: signal.Signals, *, table: ProcessTable | None = None
) -> bool:
    """Signal exactly this process, never a later one with the same pid.

    On Linux a pidfd pins the process between the check and the signal. Elsewhere the check comes right
    before `kill`; the gap is a few microseconds.

    Returns:
        False when the process is gone.

    Raises:
        PermissionError: the process belongs to someone else.
    """
    if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
        try:
            pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return False
        except OSError:
            pidfd = -1  # a kernel or a sandbox without pidfd
        if pidfd >= 0:
            try:
                if not is_alive(identity, table=table):
                    return False
                signal.pidfd_send_signal(pidfd, signal_number)
            except ProcessLookupError:
                return False
            finally:
                os.close(pidfd)
            return True
    if not is_alive(identity, table=table):
        return False
    try:
        os.kill(identity.pid, signal_number)
    except ProcessLookupError:
        return False
    return True


def wait_gone(
    identity: ProcessIdentity,
    *,
    timeout_s: float,
    table: ProcessTable | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the process has ended.

    Returns:
        False when it still runs after `timeout_s`.
    """
    deadline = clock() + timeout_s
    while is_alive(identity, table=table):
        if clock() >= deadline:
            return False
        sleep(0.02)
    return True

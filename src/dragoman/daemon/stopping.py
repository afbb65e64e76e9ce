"""End the daemon of a home, by the identity it wrote down."""

from __future__ import annotations

import signal

from dragoman.config.paths import Home
from dragoman.daemon.where import read_daemon_json
from dragoman.errors import DragomanError, ExitCode
from dragoman.process.identity import ProcessIdentity, send_signal, wait_gone
from dragoman.process.locks import live_holder


class StillRunning(DragomanError):
    """The daemon did not end in time, or is not ours to end."""

    code = "still_running"
    exit_code = ExitCode.TIMEOUT


def stop_daemon(home: Home, *, now: bool = False, timeout_s: float = 40.0) -> int | None:
    """Ask the daemon to end, and wait until it has.

    Args:
        home: whose daemon.
        now: cut open streams instead of letting them finish.
        timeout_s: how long to wait.

    Returns:
        The pid of the daemon that ended, or None when none was running.

    Raises:
        StillRunning: it has not ended after `timeout_s`, or belongs to another user.
    """
    daemon = _running(home)
    if daemon is None:
        return None
    try:
        if not send_signal(daemon, signal.SIGTERM):
            return daemon.pid
        if now:
            # Any second signal means at once. A different one, since two equal ones may arrive as one.
            send_signal(daemon, signal.SIGINT)
    except PermissionError:
        raise StillRunning(
            f"the daemon (pid {daemon.pid}) belongs to another user", hint="stop it as that user"
        ) from None
    if not wait_gone(daemon, timeout_s=timeout_s):
        raise StillRunning(
            f"the daemon (pid {daemon.pid}) still has open streams after {timeout_s:.0f} s",
            hint="dragoman stop --now",
        )
    return daemon.pid


def _running(home: Home) -> ProcessIdentity | None:
    """The daemon, even one that is still starting and has told nobody where it is."""
    if note := read_daemon_json(home):
        return note.identity
    holder = live_holder(home.lock_file)
    return holder.identity if holder else None

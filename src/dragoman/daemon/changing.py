"""Have a running daemon read its configuration anew, or become what is installed now; no stream is cut."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from dragoman.config.paths import Home
from dragoman.daemon.supervisor import RELOAD_SIGNAL, RESTART_SIGNAL
from dragoman.daemon.where import Attempts, DaemonNote, read_daemon_json
from dragoman.errors import DragomanError, ExitCode
from dragoman.process.identity import send_signal

_LOOK_EVERY_S = 0.02


class NotRunning(DragomanError):
    """There is no daemon to change."""

    code = "not_running"


class ChangeRefused(DragomanError):
    """The daemon could not take the change; it goes on as it was."""

    code = "change_refused"


class ChangeUnanswered(DragomanError):
    """The daemon did not say in time how it went."""

    code = "change_unanswered"
    exit_code = ExitCode.TIMEOUT


def reload_daemon(home: Home, *, timeout_s: float = 20.0) -> DaemonNote:
    """Take the configuration into use: all gateways have when this returns. Open requests end on the old one.

    Args:
        home: whose daemon.
        timeout_s: how long to wait.

    Raises:
        NotRunning: there is no daemon.
        ChangeRefused: the configuration is wrong; the one in force stays.
        ChangeUnanswered: no answer in time.
    """
    return _change(home, RELOAD_SIGNAL, lambda note: note.reloads, timeout_s)


def restart_daemon(home: Home, *, timeout_s: float = 60.0) -> DaemonNote:
    """Replace every process by one of what is installed now; new ones answer before old ones leave.

    Args:
        home: whose daemon.
        timeout_s: how long to wait until the new gateways answer; old ones may finish streams longer.

    Raises:
        NotRunning: there is no daemon.
        ChangeRefused: the new one cannot start; the old one goes on.
        ChangeUnanswered: no answer in time.
    """
    return _change(home, RESTART_SIGNAL, lambda note: note.restarts, timeout_s)


def _change(
    home: Home, number: signal.Signals, attempts: Callable[[DaemonNote], Attempts], timeout_s: float
) -> DaemonNote:
    before = read_daemon_json(home)
    if before is None or not send_signal(before.identity, number):
        raise NotRunning("dragoman is not running", hint="dragoman serve")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        note = read_daemon_json(home)
        if note is None:
            raise NotRunning("the daemon ended meanwhile", hint="dragoman logs")
        told = attempts(note)
        if told.count > attempts(before).count:
            if told.message is not None:
                raise ChangeRefused(f"nothing was changed: {told.message}", hint=told.hint)
            return note
        time.sleep(_LOOK_EVERY_S)
    raise ChangeUnanswered(f"the daemon did not answer within {timeout_s:.0f} s", hint="dragoman logs")

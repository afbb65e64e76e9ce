"""The parent process: `python -m dragoman.daemon.parent PLAN`.

It has become what it is by `exec`, so the configuration reader that found its sockets is out of memory
again, and its pid and start time are those of the command that started it. It keeps the lock, the sockets
and the children, tells where it is, and takes everything away at the end. To restart it becomes itself again,
which may be of another version, with children and sockets in hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import NoReturn

from dragoman.daemon.channel import Message
from dragoman.daemon.log import JsonLog
from dragoman.daemon.plan import ServePlan
from dragoman.daemon.supervisor import Supervisor
from dragoman.process.prctl import forbid_inspection

_RENEW_S = 15.0


def run_parent(plan: ServePlan) -> int:
    """Run the daemon until it is told to stop.

    Args:
        plan: what to run, with open descriptors.

    Returns:
        The exit code: 0 after a stop, 1 when the data plane never came up.
    """
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - children get the ones they need, and only those
        with contextlib.suppress(OSError):
            os.set_inheritable(int(name), int(name) < 3)
    log = JsonLog(plan.log_file, "parent")
    since = plan.since

    def on_serving() -> None:
        nonlocal since
        since = time.time()
        on_change()
        _report(plan, {"url": plan.url, "pid": os.getpid(), "version": plan.version})
        log.write("info", "serving", url=plan.url, workers=plan.workers, version=plan.version)
        _print(f"listening on {plan.url}")

    def on_change() -> None:
        if since is not None:
            _write_daemon_json(plan, supervisor, since)

    supervisor = Supervisor(
        plan, log=log, on_serving=on_serving, on_change=on_change, renew=lambda: renew_plan(plan)
    )
    outcome = supervisor.run()
    if supervisor.next_plan is not None:
        log.write("info", "restarting", version=supervisor.next_plan.version)
        _become_next(
            supervisor.next_plan._replace(
                ready_fd=None,
                since=since,
                restarts=supervisor.restarts,
                reloads=supervisor.reloads,
                adopted=tuple(child.as_adopted() for child in supervisor.children),
            )
        )
    for path in (plan.daemon_json, plan.config_in_force, *plan.sockets):
        _remove(path)
    if failure := supervisor.failure:
        log.write("error", "not_started", message=failure.get("message"))
        _report(plan, failure)
        _print(f"dragoman: {failure['message']}", file=sys.stderr)
        if hint := failure.get("hint"):
            _print(f"  next: {hint}", file=sys.stderr)
    code = 0 if outcome == "stopped" else 1
    log.write("info", "stopped", exit=code)
    return code


def renew_plan(plan: ServePlan) -> ServePlan | Message:
    """Let what is installed now read the configuration; this process keeps what it has until that works.

    Args:
        plan: what runs.

    Returns:
        What to run next, or why there is nothing to become (`message`, `hint`).
    """
    import subprocess  # a megabyte that only a restart needs

    argv = [sys.executable, "-P", "-m", "dragoman.daemon.starting", "--renew", plan.to_json()]
    code: int | None = None
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_RENEW_S)
        code = done.returncode
        told = json.loads(done.stdout)
        return ServePlan.from_json(told["plan"]) if "plan" in told else told
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        return {"message": f"what is installed now does not start (exit {code})", "hint": "dragoman doctor"}


def _become_next(plan: ServePlan) -> NoReturn:
    for fd in plan.inherited_fds:
        os.set_inheritable(fd, True)
    argv = [sys.executable, "-P", "-m", "dragoman.daemon.parent", plan.to_json()]
    os.execv(sys.executable, argv)  # noqa: S606


def _write_daemon_json(plan: ServePlan, supervisor: Supervisor, since: float) -> None:
    """`url`, `pid` and `version` are promised; the rest is for our own commands."""
    content = {
        "url": plan.url,
        "pid": os.getpid(),
        "version": plan.version,
        "started_at": plan.started_at,
        "since": round(since, 3),
        "children": [
            {"role": child.role, "index": child.index, "pid": child.pid, "state": child.state}
            for child in supervisor.children
        ],
        "restarts": {"count": supervisor.restarts, "error": supervisor.restart_error},
        "reloads": {"count": supervisor.reloads, "error": supervisor.reload_error},
    }
    draft = f"{plan.daemon_json}.{os.getpid()}"
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.write("\n")
        os.replace(draft, plan.daemon_json)  # noqa: PTH105 - the parent does without pathlib
    except OSError:
        _remove(draft)  # a full disk: serving goes on


def _report(plan: ServePlan, message: Message) -> None:
    """One line to whoever started us and waits for it."""
    if plan.ready_fd is None:
        return
    try:
        os.write(plan.ready_fd, json.dumps(message).encode() + b"\n")
        os.close(plan.ready_fd)
    except OSError:
        return


def _print(line: str, *, file: object = None) -> None:
    try:
        print(line, file=file or sys.stdout, flush=True)  # type: ignore[arg-type]
    except OSError:
        return  # the terminal is gone; the daemon is not


def _remove(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108
    except OSError:
        return


def main() -> None:
    """Entry of `python -m dragoman.daemon.parent PLAN`."""
    forbid_inspection()
    sys.exit(run_parent(ServePlan.from_json(sys.argv[1])))


if __name__ == "__main__":
    main()

"""Start a bridge and a lead, keep the bridge alive, and end everything with the lead."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.bridge.mailbox import SESSION_VARIABLE, Mailbox
from dragoman.bridge.session import SessionFolder
from dragoman.bridge.timing import START_LIMIT_S, STOP_GRACE_S
from dragoman.config.files import write_private_file
from dragoman.errors import DragomanError

COMMANDS = ("cc-send", "cc-input", "cc-status")
# A bridge that dies again and again has a fault that a fourth start does not mend.
_MAX_RESTARTS = 3
_POLL_S = 0.05


class BridgeFailed(DragomanError):
    """The bridge or its Claude Code did not start."""

    code = "bridge_failed"


@dataclass(frozen=True, slots=True)
class LeadPlan:
    """The lead to start.

    Attributes:
        argv: Codex and its arguments.
        env: its environment.
        cwd: the supervisor's folder.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


def plan_lead(
    codex: Path, words: Sequence[str], folder: SessionFolder, supervisor_home: Path, env: Mapping[str, str]
) -> LeadPlan:
    """How Codex is started: in the supervisor's folder, the session folder writable in its sandbox.

    Its default sandbox blocks sockets, so the commands it runs use files alone. `--add-dir` adds to the
    writable roots of the user's own configuration. Its shell is no login shell: `/etc/profile` of Debian sets
    PATH anew, and `cc-send` would not be found (Codex 0.163 and 0.169).

    Args:
        codex: the program.
        words: the user's own arguments.
        folder: of the session.
        supervisor_home: where it works.
        env: the user's environment.
    """
    path = env.get("PATH", os.defpath)
    added = {SESSION_VARIABLE: str(folder.path), "PATH": f"{folder.path / 'bin'}{os.pathsep}{path}"}
    ours = ("-c", "allow_login_shell=false", "--add-dir", str(folder.path))
    return LeadPlan((str(codex), *ours, *words), dict(env) | added, supervisor_home)


def write_commands(folder: SessionFolder, python: str) -> None:
    """Put `cc-send`, `cc-input`, `cc-status` into the session's own `bin`, whatever PATH says."""
    binaries = folder.path / "bin"
    binaries.mkdir(mode=0o700, exist_ok=True)
    for name in COMMANDS:
        line = f'exec {shlex.quote(python)} -P -m dragoman.bridge.client {name} "$@"'
        path = binaries / name
        write_private_file(path, f"#!/bin/sh\n{line}\n".encode())
        path.chmod(0o700)


class RunningBridge:
    """A bridge process that is started again when it dies, until it is told to stop.

    Args:
        folder: of the session.
        env: the user's environment, which Claude Code gets.
        say: told when something happens that a person should know.
    """

    def __init__(self, folder: SessionFolder, env: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._folder, self._env, self._say = folder, env, say
        self._stopping = threading.Event()
        self._process = self._start(resume=False)
        self._thread = threading.Thread(target=self._watch, name="bridge-watch", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Process id of the bridge that runs now."""
        return self._process.pid

    def wait_ready(self, *, clock: Callable[[], float] = time.monotonic) -> dict[str, Any]:
        """Wait until Claude Code shows its box, or a question.

        Returns:
            What the bridge says about itself.

        Raises:
            BridgeFailed: it ended, or did not come in time.
        """
        mailbox = Mailbox(self._folder.bridge)
        deadline = clock() + START_LIMIT_S + 10.0
        while clock() < deadline:
            state = mailbox.read_state()
            if state is not None and state.get("status") not in (None, "starting"):
                if state["status"] == "exited":
                    lines = " / ".join(str(line).strip() for line in state.get("last_lines", [])[-3:])
                    raise BridgeFailed(
                        f"Claude Code did not start: {state.get('error')}" + (f" ({lines})" if lines else ""),
                        hint="run `claude` in this folder once and answer what it asks",
                    )
                return state
            if self._process.poll() is not None and self._stopping.is_set():
                break
            time.sleep(_POLL_S)
        raise BridgeFailed(
            "the bridge did not start", hint=f"see {self._folder.bridge / 'bridge.log'} and {self._errors}"
        )

    def stop(self) -> None:
        """Let it end its Claude Code and everything below; then make sure."""
        self._stopping.set()
        process = self._process
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(STOP_GRACE_S + 5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5.0)
        self._thread.join(1.0)

    @property
    def _errors(self) -> Path:
        return self._folder.private / "bridge.err"

    def _start(self, *, resume: bool) -> subprocess.Popen[bytes]:
        argv = [
            sys.executable,
            "-P",
            "-m",
            "dragoman.bridge",
            str(self._folder.path),
            str(self._folder.private),
        ]
        handle = os.open(self._errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            return subprocess.Popen(
                [*argv, "--resume"] if resume else argv,
                env=dict(self._env),
                stdin=subprocess.PIPE,
                stdout=handle,
                stderr=handle,
                start_new_session=True,
            )
        except OSError as error:
            raise BridgeFailed(f"cannot start the bridge: {error.strerror}") from error
        finally:
            os.close(handle)

    def _watch(self) -> None:
        restarts = 0
        while not self._stopping.is_set():
            code = self._process.wait()
            if self._stopping.is_set():
                return
            if self._process.stdin is not None:
                self._process.stdin.close()
            if restarts >= _MAX_RESTARTS:
                self._say(f"the bridge ended again (exit code {code}); it is not started any more")
                self._stopping.set()
                return
            restarts += 1
            self._say(f"the bridge ended (exit code {code}); it takes the conversation up again")
            self._process = self._start(resume=True)


def run_lead(plan: LeadPlan) -> int:
    """Run the lead at this terminal until it ends.

    Ctrl-C belongs to it; a SIGTERM or SIGHUP for us is passed on.

    Returns:
        Its exit code, 128 + n when a signal ended it.
    """
    try:
        process = subprocess.Popen(plan.argv, env=dict(plan.env), cwd=plan.cwd)
    except OSError as error:
        raise BridgeFailed(f"cannot start {plan.argv[0]}: {error.strerror}") from error

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(OSError):
            process.send_signal(number)

    kept = {
        number: signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else pass_on)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        code = process.wait()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code

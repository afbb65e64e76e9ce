"""Evidence: the packet's validation commands, run by us, before and after, without a shell.

A worker's word is a claim. What counts is what we saw: the same commands on a clone of the base (they
should fail where the task is a repair) and on the workspace (they should pass).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from dragoman.process.spawn import SpawnPlan

TAIL_BYTES = 4_000
OUTPUT_LIMIT_BYTES = 8 * 1024 * 1024
_LAST_WORDS_S = 1.0

# What the sandbox itself says when it cannot start a program, alone on one line.
_NOT_STARTED = re.compile(rb"bwrap: execvp [^\n]*: ([^\n:]+)\n|landlock\.py: [^\n]*: (not found)\n")
_NOT_BUILT = re.compile(rb"bwrap: ([^\n]+)\n")

Status = Literal["passed", "failed", "skipped", "timed_out"]
Verdict = Literal["proved", "failed", "unproved"]

_SHELL_WORDS = ("&&", "||", ";", "|", ">", ">>", "<", "<<", "&", "`", "$(")
_NODE_RUNNERS = {"vitest", "jest", "tsc", "eslint"}
_REFUSED_SCRIPTS = {"add", "deploy", "install", "publish", "remove", "serve", "start", "uninstall"}


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One validation command as we saw it run.

    Attributes:
        command: as the packet gives it.
        status: `skipped` is neither pass nor fail; `reason` then says why.
        exit_code: None when it did not run to its end.
        duration_s: wall time.
        tail: the last 4,000 bytes of stdout and stderr together.
        output_sha256: of everything kept in `output_file`.
        output_file: name of the file in the evidence folder with the (bounded) whole output.
    """

    command: str
    status: Status
    exit_code: int | None = None
    duration_s: float = 0.0
    tail: str = ""
    reason: str | None = None
    output_file: str | None = None
    output_sha256: str | None = None


class Confining(Protocol):
    """What wraps a validation command; see `isolation.CommandSandbox`.

    Attributes:
        confine: wraps a process.
        any_command: whether the command need not be a known test runner.
    """

    @property
    def confine(self) -> Callable[[SpawnPlan], SpawnPlan]: ...
    @property
    def any_command(self) -> bool: ...


def plan_command(command: str, *, any_command: bool = False) -> tuple[list[str], str | None]:
    """Turn one command line into arguments, or say why we will not run it.

    Outside a sandbox only well-known test runners are started on our account; anything else is reported as
    skipped, with its reason, and never as a pass or a failure.

    Args:
        command: one command line.
        any_command: it runs where it can do no harm.

    Returns:
        (arguments, None) or ([], reason).
    """
    if not command.isprintable():
        return [], "it has a character in it that cannot be shown"
    if any(word in command for word in _SHELL_WORDS):
        return [], "it needs a shell; validation commands run without one"
    try:
        argv = shlex.split(command)
    except ValueError as error:
        return [], f"it cannot be split into words: {error}"
    if not argv:
        return [], "it is empty"
    if any_command or _is_known_runner(argv):
        return argv, None
    return [], f"'{argv[0][:80]}' is not one of the test runners that may run outside a sandbox"


def _is_known_runner(argv: list[str]) -> bool:
    rest = argv[1:]
    match argv[0]:
        case "pytest" | "tsc" | "eslint":
            return True
        case "python" | "python3":
            return rest[:1] == ["-m"] and rest[1:2] in (["unittest"], ["pytest"])
        case "npm" | "yarn" | "pnpm":
            if rest[:1] == ["test"]:
                return True
            return rest[:1] == ["run"] and len(rest) > 1 and rest[1] not in _REFUSED_SCRIPTS
        case "npx":
            return bool(rest) and rest[0] in _NODE_RUNNERS
        case "go" | "cargo":
            return rest[:1] == ["test"]
        case _:
            return False


async def observe(
    command: str,
    *,
    cwd: Path,
    environment: Mapping[str, str],
    evidence: Path,
    name: str,
    timeout_s: float = 120.0,
    stop: asyncio.Event | None = None,
    sandbox: Confining | None = None,
) -> Observation:
    """Run one validation command and keep what it said.

    Parameters:
        command: one command line of the packet.
        cwd: where it runs.
        environment: its whole environment.
        evidence: folder that receives the output as `NAME.txt`.
        name: unique within the run, such as `before-1`.
        timeout_s: then its whole process group is killed and the status is `timed_out`.
        stop: set it to end the command at once; the status is then `skipped`.
        sandbox: what it runs in; None runs known test runners as they are, and nothing else.
    """
    argv, reason = plan_command(command, any_command=sandbox is not None and sandbox.any_command)
    if reason is not None:
        return Observation(command=command, status="skipped", reason=reason)
    return await run_command(
        command,
        argv,
        cwd=cwd,
        environment=environment,
        evidence=evidence,
        name=name,
        timeout_s=timeout_s,
        stop=stop,
        confine=None if sandbox is None else sandbox.confine,
    )


async def run_command(
    command: str,
    argv: list[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    evidence: Path,
    name: str,
    timeout_s: float,
    stop: asyncio.Event | None = None,
    confine: Callable[[SpawnPlan], SpawnPlan] | None = None,
) -> Observation:
    """Run arguments in a session of their own, bounded in time and output; see `observe`."""
    evidence.mkdir(mode=0o700, exist_ok=True)
    plan = SpawnPlan(argv=tuple(argv), env=environment, cwd=cwd)
    if confine is not None:
        plan = confine(plan)
    started = time.monotonic()
    # A pipe of our own: a process that left the session may hold its end open for ever, and we close ours.
    ours, theirs = os.pipe()
    stream = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(ours, "rb", buffering=0)
    )
    try:
        process = await asyncio.create_subprocess_exec(
            *plan.argv,
            cwd=plan.cwd,
            env=dict(plan.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
    except OSError as error:
        pipe.close()
        return Observation(command=command, status="skipped", reason=f"cannot be started: {error.strerror}")
    finally:
        os.close(theirs)
    output = bytearray()
    reading = asyncio.create_task(_drain(stream, output))
    try:
        exit_code = await _end_of(process, timeout_s, stop)
    finally:
        # Its own session, so the group is ours; whatever a test left running ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        # What is in the pipe by now is all that counts.
        await asyncio.wait([reading], timeout=_LAST_WORDS_S)
        reading.cancel()
        pipe.close()
    status, reason = _status(exit_code, timeout_s, stop)
    kept = bytes(output)
    if confine is not None and exit_code == 1 and (trouble := _sandbox_trouble(kept)):
        return Observation(command=command, status="skipped", reason=trouble)
    output_file = evidence / f"{name}.txt"
    output_file.write_bytes(kept)
    output_file.chmod(0o600)
    return Observation(
        command=command,
        status=status,
        exit_code=exit_code,
        duration_s=round(time.monotonic() - started, 3),
        tail=kept[-TAIL_BYTES:].decode("utf-8", "replace"),
        reason=reason,
        output_file=output_file.name,
        output_sha256=hashlib.sha256(kept).hexdigest(),
    )


def _sandbox_trouble(output: bytes) -> str | None:
    """Why a command was never started, when all that was said is the sandbox's own complaint."""
    if said := _NOT_STARTED.fullmatch(output):
        reason = (said[1] or said[2]).decode("utf-8", "replace")
        return f"it is not there inside the sandbox ({reason}); see [delegation.sandbox] read"
    if said := _NOT_BUILT.fullmatch(output):
        return f"the sandbox could not be built: {said[1].decode('utf-8', 'replace')[:300]}"
    return None


async def _end_of(
    process: asyncio.subprocess.Process, timeout_s: float, stop: asyncio.Event | None
) -> int | None:
    """Wait for a process; its exit code, or None when time was up or it was to stop."""
    waiting = [asyncio.create_task(process.wait())]
    if stop is not None:
        waiting.append(asyncio.create_task(stop.wait()))
    try:
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return waiting[0].result() if waiting[0].done() else None
    finally:
        for task in waiting:
            task.cancel()


def _status(exit_code: int | None, timeout_s: float, stop: asyncio.Event | None) -> tuple[Status, str | None]:
    if exit_code is not None:
        return ("passed" if exit_code == 0 else "failed"), None
    if stop is not None and stop.is_set():
        return "skipped", "the run was stopped"
    return "timed_out", f"no end after {timeout_s:g} s"


async def _drain(stream: asyncio.StreamReader, output: bytearray) -> None:
    """Read to the end; keep at most the limit, so that an endless printer costs no memory."""
    while chunk := await stream.read(65_536):
        room = OUTPUT_LIMIT_BYTES - len(output)
        if room > 0:
            output += chunk[:room]


def verdict(after: list[Observation]) -> Verdict:
    """What the observations after the work prove.

    `proved`: at least one ran, every one passed and none was skipped. `failed`: one failed or did not end.
    `unproved`: nothing ran, or a skipped one leaves a hole.
    """
    if any(seen.status in ("failed", "timed_out") for seen in after):
        return "failed"
    if not after or any(seen.status == "skipped" for seen in after):
        return "unproved"
    return "proved"

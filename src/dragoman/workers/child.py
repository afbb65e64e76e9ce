"""Run one agent process to its end: talk to it line by line, stop it, leave nothing of it behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from asyncio import subprocess as aio_subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from dragoman.process.identity import ProcessIdentity, identify, is_alive
from dragoman.process.spawn import SpawnFailed, SpawnPlan
from dragoman.process.tree import Marker, end_tree
from dragoman.workers.lines import LINE_LIMIT_BYTES, DroppedLine, LineSplitter, Tail

_CHUNK_BYTES = 64 * 1024
_LOOK_EVERY_S = 0.05

# Answers we owe a child that does not read them; beyond this it gets none.
_UNREAD_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ChildPatience:
    """How long each step of an end may take; a stop takes at most their sum but for `linger_s`.

    Attributes:
        interrupt_s: after asking politely (measured: Claude Code 2.1.197 and 2.1.329 answer an interrupt
            in 20 to 226 ms).
        exit_s: after its standard input was closed.
        term_s: between SIGTERM and SIGKILL for everything it started.
        linger_s: after a complete answer, until it is ended although it did nothing wrong.
        orphans_s: between SIGTERM and SIGKILL for what it left behind after it has gone itself.
        mute_s: without a word after its opening, until its standard input ends: a client that reads all of
            it before it answers would wait for ever. A stop is then a signal, and its questions stay without
            an answer, so this is far longer than a start takes (Claude Code 2.1.329: 1 s).
    """

    interrupt_s: float = 2.0
    exit_s: float = 1.0
    term_s: float = 5.0
    linger_s: float = 10.0
    orphans_s: float = 1.0
    mute_s: float = 8.0


@dataclass(frozen=True, slots=True)
class Reach:
    """Which processes are ended with a child besides those that carry its marker.

    Attributes:
        adopted_by: our own pid where we are a subreaper: orphans that came to us are the child's.
        spare: asked for pids that are none of the child's business, although they came to us.
    """

    adopted_by: int | None = None
    spare: Callable[[], Iterable[int]] = tuple[int, ...]


Ending = Literal["own", "stopped", "timed_out"]


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child's life ended.

    Attributes:
        ending: by itself, because we were asked to stop it, or because its time was up.
        exit_code: negative for a signal; None when even SIGKILL did not end it.
        ended_by_us: whether we signalled the child itself.
        stderr: the last kilobytes of its standard error.
        survivors: processes that could not be ended.
        duration_ms: from start until nothing was left.
    """

    ending: Ending
    exit_code: int | None
    ended_by_us: bool
    stderr: str
    survivors: int
    duration_ms: int


class Dialogue(Protocol):
    """What is said to a child and what is made of its answers.

    Attributes:
        one_shot: whether its standard input ends right after the opening.
    """

    one_shot: bool

    def opening(self) -> bytes:
        """What its standard input gets first."""
        ...

    def heard(self, line: bytes | DroppedLine) -> Iterable[bytes]:
        """Take one line of its output; returns what to write back."""
        ...

    def interrupt(self) -> bytes:
        """What asks it to stop politely; empty when there is no such thing."""
        ...

    @property
    def complete(self) -> bool:
        """Whether it has given its answer, so that its standard input can be closed."""
        ...


async def run_child(
    plan: SpawnPlan,
    dialogue: Dialogue,
    *,
    marker: Marker,
    stop: asyncio.Event,
    timeout_s: float,
    patience: ChildPatience | None = None,
    reach: Reach | None = None,
    on_start: Callable[[ProcessIdentity], None] | None = None,
    line_limit_bytes: int = LINE_LIMIT_BYTES,
) -> ChildEnd:
    """Start a child, hold the dialogue until it ends, is stopped or times out, and sweep up after it.

    However this coroutine is left, cancelled included, everything that carries `marker` is ended.

    Args:
        plan: what to start; `log_file` is not used, its output is read here.
        dialogue: what to say and to hear.
        marker: must be in the plan's environment.
        stop: set it to end the child.
        timeout_s: seconds after which it is ended.
        patience: see there.
        reach: see there.
        on_start: told who was started, before anything is said to it.
        line_limit_bytes: longest line of output that is handed on.

    Raises:
        SpawnFailed: it could not be started.
    """
    run = _Run(plan, dialogue, marker, stop, patience or ChildPatience(), reach or Reach(), line_limit_bytes)
    return await run.to_the_end(timeout_s, on_start)


class _Run:
    def __init__(
        self,
        plan: SpawnPlan,
        dialogue: Dialogue,
        marker: Marker,
        stop: asyncio.Event,
        patience: ChildPatience,
        reach: Reach,
        line_limit_bytes: int,
    ) -> None:
        self._plan = plan
        self._dialogue = dialogue
        self._marker = marker
        self._stop = stop
        self._patience = patience
        self._reach = reach
        self._lines = LineSplitter(line_limit_bytes)
        self._stderr = Tail()
        self._complete = asyncio.Event()
        self._spoke = asyncio.Event()
        self._ended_by_us = False

    async def to_the_end(
        self, timeout_s: float, on_start: Callable[[ProcessIdentity], None] | None
    ) -> ChildEnd:
        started = time.monotonic()
        transport, process = await self._start()
        identity = identify(process.pid)
        if on_start is not None and identity is not None:
            try:
                on_start(identity)
            except BaseException:
                await self._end_everything(identity, 0.0)
                transport.close()
                raise
        tasks = [
            asyncio.create_task(self._write_opening(process)),
            output := asyncio.create_task(self._read_output(process)),
            errors := asyncio.create_task(self._read_errors(process)),
            exited := asyncio.create_task(process.wait()),
            stopping := asyncio.create_task(self._stop.wait()),
            completed := asyncio.create_task(self._complete.wait()),
        ]
        survivors = 0
        try:
            ending = await self._until_over(process, identity, output, exited, stopping, completed, timeout_s)
            if ending != "own":
                await self._ask_to_end(process, output, exited, completed)
            elif process.returncode is None:
                await _first_of([exited], self._patience.exit_s)
            self._ended_by_us = process.returncode is None
            grace_s = self._patience.term_s if self._ended_by_us else self._patience.orphans_s
            survivors = await self._end_everything(identity, grace_s)
            # With everything dead both pipes are at their end; a survivor may hold them open.
            await _first_of([output, errors], 1.0, all_of_them=True)
            await _first_of([exited], 1.0)
            if output.done() and not output.cancelled():
                output.result()  # a fault of whoever listens is not swallowed
        except BaseException:
            await self._end_everything(identity, 0.0)
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            transport.close()
        return ChildEnd(
            ending=ending,
            exit_code=process.returncode,
            ended_by_us=self._ended_by_us,
            stderr=self._stderr.text(),
            survivors=survivors,
            duration_ms=round((time.monotonic() - started) * 1000),
        )

    async def _start(self) -> tuple[asyncio.SubprocessTransport, aio_subprocess.Process]:
        loop = asyncio.get_running_loop()
        try:
            # Not create_subprocess_exec: only the transport can be closed when a survivor holds a pipe.
            transport, protocol = await loop.subprocess_exec(
                lambda: aio_subprocess.SubprocessStreamProtocol(limit=_CHUNK_BYTES, loop=loop),
                *self._plan.argv,
                stdin=aio_subprocess.PIPE,
                stdout=aio_subprocess.PIPE,
                stderr=aio_subprocess.PIPE,
                cwd=self._plan.cwd,
                env=dict(self._plan.env),
                start_new_session=True,
                close_fds=True,
                pass_fds=self._plan.pass_fds,
            )
        except OSError as error:
            where = f" in {self._plan.cwd}" if self._plan.cwd else ""
            raise SpawnFailed(f"cannot start {self._plan.argv[0]}{where}: {error.strerror}") from error
        return transport, aio_subprocess.Process(transport, protocol, loop)

    async def _write_opening(self, process: aio_subprocess.Process) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it died before it read everything; its exit tells more
            process.stdin.write(self._dialogue.opening())
            await process.stdin.drain()
        if not self._dialogue.one_shot:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._spoke.wait(), self._patience.mute_s)
                return
        _close_input(process)

    async def _read_output(self, process: aio_subprocess.Process) -> None:
        assert process.stdout is not None
        while chunk := await process.stdout.read(_CHUNK_BYTES):
            self._spoke.set()
            for line in self._lines.feed(chunk):
                self._hear(line, process)
        for line in self._lines.rest():
            self._hear(line, process)

    def _hear(self, line: bytes | DroppedLine, process: aio_subprocess.Process) -> None:
        for answer in self._dialogue.heard(line):
            self._write(process, answer)
        if self._dialogue.complete:
            self._complete.set()

    async def _read_errors(self, process: aio_subprocess.Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(_CHUNK_BYTES):
            self._stderr.feed(chunk)

    async def _until_over(
        self,
        process: aio_subprocess.Process,
        identity: ProcessIdentity | None,
        output: asyncio.Task[None],
        exited: asyncio.Task[int],
        stopping: asyncio.Task[Literal[True]],
        completed: asyncio.Task[Literal[True]],
        timeout_s: float,
    ) -> Ending:
        done = await _first_of([output, exited, stopping, completed], timeout_s)
        if stopping in done and not self._complete.is_set():
            return "stopped"
        if not done:
            return "timed_out"
        if exited in done or output in done:
            # Gone, or closing: whatever it said last is still in the pipe, unless a child of it holds that.
            await _first_of([output, exited], self._patience.exit_s, all_of_them=True)
            return "own"
        _close_input(process)
        # asyncio calls a process gone only when its pipes are closed, and a process it left may hold them.
        gone = asyncio.create_task(_until_gone(identity))
        await _first_of([output, exited, stopping, gone], self._patience.linger_s)
        gone.cancel()
        return "own"

    async def _ask_to_end(
        self,
        process: aio_subprocess.Process,
        output: asyncio.Task[None],
        exited: asyncio.Task[int],
        completed: asyncio.Task[Literal[True]],
    ) -> None:
        assert process.stdin is not None
        if not process.stdin.is_closing() and (interrupt := self._dialogue.interrupt()):
            self._write(process, interrupt)
            await _first_of([output, exited, completed], self._patience.interrupt_s)
        _close_input(process)
        await _first_of([exited], self._patience.exit_s)

    def _write(self, process: aio_subprocess.Process, data: bytes) -> None:
        assert process.stdin is not None
        waiting = process.stdin.transport.get_write_buffer_size()
        if not process.stdin.is_closing() and waiting < _UNREAD_LIMIT_BYTES:
            process.stdin.write(data)

    async def _end_everything(self, identity: ProcessIdentity | None, grace_s: float) -> int:
        ended = asyncio.create_task(
            asyncio.to_thread(
                end_tree,
                identity,
                grace_s=grace_s,
                marker=self._marker,
                adopted_by=self._reach.adopted_by,
                spare=tuple(self._reach.spare()),
            )
        )
        # A cancellation on the way must not leave the sweep half done.
        return len((await asyncio.shield(ended)).left)


async def _until_gone(identity: ProcessIdentity | None) -> None:
    while identity is not None and is_alive(identity):  # noqa: ASYNC110 - its end has no event
        await asyncio.sleep(_LOOK_EVERY_S)


def _close_input(process: aio_subprocess.Process) -> None:
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.close()


async def _first_of(
    tasks: Iterable[asyncio.Task[object]] | list[asyncio.Task[None]] | list[asyncio.Task[int]],
    timeout_s: float,
    *,
    all_of_them: bool = False,
) -> set[asyncio.Task[object]]:
    done, _ = await asyncio.wait(
        tasks,  # pyright: ignore[reportArgumentType] (tasks of several types)
        timeout=timeout_s,
        return_when=asyncio.ALL_COMPLETED if all_of_them else asyncio.FIRST_COMPLETED,
    )
    return done  # pyright: ignore[reportReturnType]

"""A pseudo-terminal with one program in it: bytes in, bytes out, its size, and its whole tree at the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dragoman.errors import DragomanError
from dragoman.process.identity import ProcessIdentity, identify
from dragoman.process.tree import Marker, end_tree

_READ_BYTES = 65_536
# More than this is not written by anybody who still reads.
_MAX_UNSENT_BYTES = 1 << 20


class TerminalFailed(DragomanError):
    """The program could not be started in a terminal."""

    code = "terminal_failed"


class Terminal(Protocol):
    """What the bridge needs of a terminal; tests pass their own."""

    @property
    def exit_code(self) -> int | None:
        """Exit code once the program has ended (negative: signal), else None."""
        ...

    @property
    def pid(self) -> int | None:
        """Process id of the program."""
        ...

    def fileno(self) -> int:
        """Something to wait on; -1 when there is nothing any more."""
        ...

    def read(self) -> bytes:
        """What was printed since the last time, without waiting."""
        ...

    def write(self, data: bytes) -> None:
        """Type; what does not fit now goes out with the next `read`."""
        ...

    def resize(self, cols: int, rows: int) -> None:
        """Tell the program a new size."""
        ...

    def close(self, grace_s: float) -> None:
        """End the program and everything it started."""
        ...


class PtyTerminal:
    """A real one.

    Args:
        argv: program and arguments.
        env: its whole environment.
        cwd: its working directory.
        cols: width.
        rows: height.
        marker: set in `env`; finds what left its parent, its group and its session.

    Raises:
        TerminalFailed: no terminal can be had, or the folder is not there.
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, cols: int, rows: int, marker: Marker
    ) -> None:
        if not cwd.is_dir():
            raise TerminalFailed(f"{cwd} is not a folder")
        self._marker = marker
        self._unsent = bytearray()
        self._exit_code: int | None = None
        arguments, environment = list(argv), dict(env) | {marker.name: marker.value}
        size = struct.pack("HHHH", rows, cols, 0, 0)
        try:
            self._pid, self._fd = pty.fork()
        except OSError as error:
            raise TerminalFailed(f"no pseudo-terminal can be had: {error.strerror}") from error
        if self._pid == 0:
            try:
                # The size must stand before the program's first look at it.
                fcntl.ioctl(0, termios.TIOCSWINSZ, size)
                os.chdir(cwd)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.execve(arguments[0], arguments, environment)  # noqa: S606 - an argument list, no shell
            finally:
                os._exit(127)
        os.set_blocking(self._fd, False)
        self._identity: ProcessIdentity | None = identify(self._pid)

    @property
    def exit_code(self) -> int | None:
        """Exit code once the program has ended (negative: signal), else None."""
        return self._exit_code

    @property
    def pid(self) -> int | None:
        """Process id of the program."""
        return self._pid

    @property
    def identity(self) -> ProcessIdentity | None:
        """Pid and start time of the program."""
        return self._identity

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once it is closed."""
        return self._fd

    def read(self) -> bytes:
        """What was printed since the last time; also sends what could not be typed before."""
        self._flush()
        if self._fd < 0:
            return b""
        data, gone = b"", False
        try:
            data = os.read(self._fd, _READ_BYTES)
            gone = not data
        except BlockingIOError:
            pass
        except OSError:
            gone = True  # Linux: EIO once nobody has the other side open
        if gone or self._exit_code is None:
            self._reap()
        return data

    def write(self, data: bytes) -> None:
        """Type."""
        if len(self._unsent) + len(data) <= _MAX_UNSENT_BYTES:
            self._unsent += data
        self._flush()

    def resize(self, cols: int, rows: int) -> None:
        """Tell the program a new size."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def close(self, grace_s: float) -> None:
        """SIGTERM to the whole tree, then SIGKILL; then close the terminal.

        Claude Code's shell tools run in sessions of their own; 2.1.197 leaves them alive at SIGTERM.
        """
        end_tree(self._identity, grace_s=grace_s, marker=self._marker, adopted_by=os.getpid())
        deadline = time.monotonic() + 1.0
        while self._exit_code is None and time.monotonic() < deadline:
            self._reap()
            if self._exit_code is None:
                time.sleep(0.01)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _flush(self) -> None:
        while self._unsent and self._fd >= 0:
            try:
                sent = os.write(self._fd, self._unsent[:4096])
            except BlockingIOError:
                return
            except OSError:
                self._unsent.clear()
                return
            del self._unsent[:sent]

    def _reap(self) -> None:
        if self._exit_code is not None:
            return
        try:
            done, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            self._exit_code = -1
            return
        if done:
            self._exit_code = os.waitstatus_to_exitcode(status)

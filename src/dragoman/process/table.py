"""What the kernel says about running processes: one interface, two ways to ask.

`ProcTable` reads Linux's `/proc` (exact start times in clock ticks, no third-party import).
`PsutilTable` is the fallback for every other platform; it also works on Linux, which is how it is tested.
"""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# psutil and /proc agree on these letters: zombie, dead.
_GONE_STATES = frozenset({"Z", "X", "x"})


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """One running process.

    Attributes:
        pid: process id.
        ppid: id of the parent; after the parent's death, of whoever adopted it.
        pgid: process group id.
        sid: session id.
        uid: real user id of the owner.
        started_at: opaque start time; two processes that ever shared a pid differ in it.
    """

    pid: int
    ppid: int
    pgid: int
    sid: int
    uid: int
    started_at: str


class ProcessTable(Protocol):
    """How this package looks at processes. Zombies count as gone everywhere: they run nothing."""

    def entry(self, pid: int) -> ProcessEntry | None:
        """The process with this id, or None when it is gone."""
        ...

    def entries(self) -> list[ProcessEntry]:
        """Every process visible to us, in no order."""
        ...

    def has_environment(self, pid: int, name: str, value: str) -> bool:
        """Whether the process was started with `name=value`; False when that cannot be read."""
        ...


class ProcTable:
    """Linux: `/proc/<pid>/stat` and `/proc/<pid>/environ`.

    Args:
        proc: where procfs is mounted.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)

    @functools.cached_property
    def _boot(self) -> str:
        """Start ticks count from boot, so the boot's own id makes them unique on disk too."""
        try:
            return Path(self._proc, "sys/kernel/random/boot_id").read_text("ascii")[:8]
        except OSError:
            return "boot"

    def entry(self, pid: int) -> ProcessEntry | None:
        folder = f"{self._proc}/{pid}"
        try:
            with open(f"{folder}/stat", "rb", buffering=0) as file:  # noqa: PTH123 (hot: every process, many times)
                stat = file.read(4096)
            uid = os.stat(folder).st_uid  # noqa: PTH116
        except (OSError, ValueError):
            return None
        # The command name in parentheses may itself hold spaces and parentheses.
        fields = stat[stat.rfind(b")") + 2 :].decode("ascii", "replace").split()
        if len(fields) < 20 or fields[0] in _GONE_STATES:
            return None
        return ProcessEntry(
            pid=pid,
            ppid=int(fields[1]),
            pgid=int(fields[2]),
            sid=int(fields[3]),
            uid=uid,
            started_at=f"{self._boot}.{fields[19]}",
        )

    def entries(self) -> list[ProcessEntry]:
        found = (self.entry(int(name)) for name in os.listdir(self._proc) if name.isdigit())  # noqa: PTH208
        return [entry for entry in found if entry is not None]

    def has_environment(self, pid: int, name: str, value: str) -> bool:
        wanted = os.fsencode(f"{name}={value}")
        try:
            with open(f"{self._proc}/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123
                block = file.readall()
        except OSError:
            return False
        return wanted in block.split(b"\0")


class PsutilTable:
    """Any platform psutil knows. Its start times are seconds since the epoch with six decimals."""

    def entry(self, pid: int) -> ProcessEntry | None:
        import psutil

        try:
            return self._entry(psutil.Process(pid))
        except (psutil.Error, OSError, ValueError):
            return None

    def entries(self) -> list[ProcessEntry]:
        import psutil

        found: list[ProcessEntry] = []
        for process in psutil.process_iter():
            try:
                entry = self._entry(process)
            except (psutil.Error, OSError, ValueError):
                continue
            if entry is not None:
                found.append(entry)
        return found

    def has_environment(self, pid: int, name: str, value: str) -> bool:
        import psutil

        try:
            return psutil.Process(pid).environ().get(name) == value
        except (psutil.Error, OSError, ValueError):
            return False

    @staticmethod
    def _entry(process: object) -> ProcessEntry | None:
        import psutil

        assert isinstance(process, psutil.Process)
        with process.oneshot():
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return None
            return ProcessEntry(
                pid=process.pid,
                ppid=process.ppid(),
                pgid=os.getpgid(process.pid),
                sid=os.getsid(process.pid),
                uid=process.uids().real,
                started_at=f"{process.create_time():.6f}",
            )


@functools.cache
def process_table(platform: str = sys.platform) -> ProcessTable:
    """The table for a platform: `/proc` on Linux, psutil elsewhere.

    Args:
        platform: a `sys.platform` value.
    """
    if platform == "linux" and Path("/proc/self/stat").exists():
        return ProcTable()
    return PsutilTable()

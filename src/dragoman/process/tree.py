"""End a worker and everything it ever started, however far it has wandered.

A process can leave its parent (double fork), its group and its session (`setsid`). Four traces find it:
the parent chain, the group and session of the root, the environment marker every descendant inherits,
and, on Linux, its adoption by the caller when that is a subreaper. The fallback for subreaper on other
platforms is the marker, read through psutil; a process that changes its session *and* clears its
environment there is out of reach.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dragoman.process.identity import ProcessIdentity, send_signal
from dragoman.process.prctl import set_child_subreaper
from dragoman.process.table import ProcessEntry, ProcessTable, process_table

# A look at the table costs a few milliseconds with some hundred processes.
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class Marker:
    """An environment variable set for a root and so for everything it starts.

    Attributes:
        name: variable name.
        value: unique to this run.
    """

    name: str
    value: str


RUN_MARKER = "DRAGOMAN_RUN"


def run_marker(run_id: str) -> Marker:
    """The marker of a worker's run; put it into the worker's environment."""
    return Marker(RUN_MARKER, run_id)


@dataclass(frozen=True, slots=True)
class TreeEnd:
    """How ending a tree went.

    Attributes:
        ended: every process that was found and is gone now.
        left: those still running at the deadline (normally none).
        killed: whether SIGKILL was needed.
    """

    ended: tuple[ProcessIdentity, ...]
    left: tuple[ProcessIdentity, ...]
    killed: bool


def become_subreaper(*, platform: str = sys.platform) -> bool:
    """Let orphaned descendants come to the caller instead of to init.

    Call it in a process that starts workers, before the first one. The caller must then reap what it
    adopts (`reap_adopted`), or zombies pile up.

    Returns:
        False where the platform has no such thing; the marker alone finds orphans there.
    """
    return set_child_subreaper(platform=platform)


def reap_adopted(*, spare: Iterable[int] = ()) -> int:
    """Reap dead children that were adopted, without stealing the exit codes of our own.

    Args:
        spare: pids of children somebody here waits for.

    Returns:
        How many were reaped.
    """
    reaped = 0
    kept = frozenset(spare)
    for pid in _child_pids():
        if pid in kept:
            continue
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue
        reaped += done != 0
    return reaped


def _child_pids() -> list[int]:
    """Children of the calling process, zombies included (which `ProcessTable` leaves out)."""
    me = str(os.getpid())
    children: list[int] = []
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    except OSError:
        return children
    for name in names:
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:  # noqa: PTH123
                stat = file.read(4096)
        except OSError:
            continue
        fields = stat[stat.rfind(b")") + 2 :].decode("ascii", "replace").split()
        if len(fields) > 1 and fields[1] == me:
            children.append(int(name))
    return children


def find_tree(
    root: ProcessIdentity | None,
    *,
    marker: Marker | None = None,
    adopted_by: int | None = None,
    spare: Iterable[int] = (),
    table: ProcessTable | None = None,
) -> list[ProcessIdentity]:
    """Every running process that belongs to `root` or carries `marker`.

    The caller and its own ancestors are never part of it.

    Args:
        root: the process started first; it may be gone already. None looks for the marker alone.
        marker: what every descendant has in its environment.
        adopted_by: pid of a subreaper; its children outside its own session count as adopted orphans.
        spare: pids that are somebody else's, with all their children.
        table: where to look.

    Returns:
        Identities, children before their parents as far as the parent chain tells.
    """
    table = table or process_table()
    entries = {entry.pid: entry for entry in table.entries()}
    kept = set(spare) | _with_ancestors(os.getpid(), entries)
    found: dict[int, ProcessEntry] = {}

    def add(entry: ProcessEntry) -> None:
        if entry.pid not in kept and entry.pid not in found:
            found[entry.pid] = entry

    root_entry = entries.get(root.pid) if root else None
    if root is not None:
        if root_entry is not None and root_entry.started_at == root.started_at:
            add(root_entry)
        if root_entry is None or root_entry.started_at == root.started_at:
            # A group or session outlives its leader, and its number cannot be a new pid meanwhile.
            own_groups = {os.getpgid(0), os.getsid(0)}
            if root.pid not in own_groups:
                for entry in entries.values():
                    if root.pid in (entry.pgid, entry.sid):
                        add(entry)
    if adopted_by is not None and adopted_by in entries:
        session = entries[adopted_by].sid
        for entry in entries.values():
            if entry.ppid == adopted_by and entry.sid != session:
                add(entry)
    if marker is not None:
        uid = os.getuid()
        for entry in entries.values():
            if entry.pid in kept or entry.pid in found or uid not in (0, entry.uid):
                continue
            if table.has_environment(entry.pid, marker.name, marker.value):
                add(entry)

    children: dict[int, list[ProcessEntry]] = {}
    for entry in entries.values():
        children.setdefault(entry.ppid, []).append(entry)
    queue = list(found)
    while queue:
        for child in children.get(queue.pop(), ()):
            if child.pid not in kept and child.pid not in found:
                found[child.pid] = child
                queue.append(child.pid)
    return [ProcessIdentity(entry.pid, entry.started_at) for entry in reversed(found.values())]


def end_tree(
    root: ProcessIdentity | None,
    *,
    grace_s: float,
    marker: Marker | None = None,
    adopted_by: int | None = None,
    spare: Iterable[int] = (),
    kill_wait_s: float = 1.0,
    table: ProcessTable | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> TreeEnd:
    """SIGTERM to all, then after `grace_s` SIGKILL to what is left; blocks until they are gone.

    Looks again all the time, so children born meanwhile are met too. Call it in a thread from async code.

    Args:
        root: the process started first, or None when only the marker is known.
        grace_s: how long processes may take to end by themselves; 0 kills at once.
        marker: what every descendant has in its environment.
        adopted_by: see `find_tree`.
        spare: see `find_tree`.
        kill_wait_s: how long to wait for the kernel after SIGKILL.
        table: where to look.
        clock: seconds, monotonic.
        sleep: waits seconds.

    Returns:
        What was found, and what is left at the end.
    """
    table = table or process_table()
    seen: dict[ProcessIdentity, signal.Signals | None] = {}
    grace_ends = clock() + grace_s
    deadline = grace_ends + kill_wait_s
    spared = tuple(spare)
    killed = False
    while True:
        tree = find_tree(root, marker=marker, adopted_by=adopted_by, spare=spared, table=table)
        # What lost its marker and its parent since we saw it is still known by identity.
        known = set(tree)
        tree += [old for old in seen if old not in known and _runs(old, table)]
        now = clock()
        if not tree or now >= deadline:
            left = tuple(tree)
            return TreeEnd(tuple(one for one in seen if one not in tree), left, killed)
        wanted = signal.SIGTERM if now < grace_ends else signal.SIGKILL
        for one in tree:
            if seen.get(one) != wanted:
                killed = killed or wanted == signal.SIGKILL
                _signal(one, wanted, table)
                seen[one] = wanted
        sleep(_LOOK_EVERY_S)


def _signal(identity: ProcessIdentity, wanted: signal.Signals, table: ProcessTable) -> None:
    try:
        send_signal(identity, wanted, table=table)
        if wanted == signal.SIGTERM:
            # A stopped process only gets its SIGTERM once it runs again.
            send_signal(identity, signal.SIGCONT, table=table)
    except PermissionError:
        return  # it has become another user's (setuid); it stays in `left`


def _runs(identity: ProcessIdentity, table: ProcessTable) -> bool:
    entry = table.entry(identity.pid)
    return entry is not None and entry.started_at == identity.started_at


def _with_ancestors(pid: int, entries: dict[int, ProcessEntry]) -> set[int]:
    """`pid` and the chain of its parents, which ending a tree must never reach."""
    chain: set[int] = set()
    while pid > 0 and pid not in chain:
        chain.add(pid)
        entry = entries.get(pid)
        if entry is None:
            break
        pid = entry.ppid
    return chain

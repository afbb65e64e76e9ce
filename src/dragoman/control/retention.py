"""`/api/v1/gc`: what can go by `[retention]`, with its size; a room's own function says what and why.

Nothing here decides what is safe to remove: work that was not applied, a run that lives and rows that are not
in the ledger yet are kept by the rooms they belong to.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from dragoman.bridge.retention import plan_session_retention, run_session_retention
from dragoman.config.paths import Home
from dragoman.config.schema import Config, Retention
from dragoman.control.answers import JsonResponse
from dragoman.control.bookkeeping import Books
from dragoman.errors import DragomanError
from dragoman.gateway.capture_file import sweep_captures
from dragoman.gateway.capture_order import captures_folder
from dragoman.jobs.folder import RunFolder
from dragoman.jobs.retention import measure, sweep_runs
from dragoman.ledger.retention import fold
from dragoman.process.locks import is_locked
from dragoman.workspace import cleanup
from dragoman.workspace.store import trash_folder, workspace_folder


class Item(msgspec.Struct, frozen=True):
    """One thing that goes, or stays in spite of its age.

    Attributes:
        id: what it is called.
        bytes: what it takes on disk; for what stays, too.
        reason: why.
        kept: whether it stays.
    """

    id: str
    bytes: int
    reason: str
    kept: bool = False


class Sweep(msgspec.Struct, kw_only=True):
    """What one room has to say.

    Attributes:
        what: ledger, runs, workspaces, trash, sessions, captures, logs.
        rule: what `[retention]` says about it, in words.
        items: single things, those that stay in spite of their age among them.
        bytes: what goes.
        error: why it could not be looked at; the others were.
    """

    what: str
    rule: str
    items: list[Item] = []
    bytes: int = 0
    error: str | None = None


Sweeper = Callable[[Retention, bool], Sweep]
"""Looks by the rules; the second value says whether to do it."""


class Retainer:
    """Runs every room's sweep, one call at a time.

    Args:
        read_config: the configuration as it is now.
        sweepers: by what they look at, in the order they run.
    """

    def __init__(self, read_config: Callable[[], Config], sweepers: dict[str, Sweeper]) -> None:
        self._read_config = read_config
        self._sweepers = sweepers
        self._one_at_a_time = threading.Lock()

    def sweep(self, *, execute: bool) -> list[Sweep]:
        """What goes, or would go; blocks.

        Raises:
            ConfigError: the configuration cannot be read.
        """
        rules = self._read_config().retention
        found: list[Sweep] = []
        with self._one_at_a_time:
            for what, sweeper in self._sweepers.items():
                try:
                    found.append(sweeper(rules, execute))
                except DragomanError as error:
                    found.append(Sweep(what=what, rule="", error=error.message))
                except OSError as error:
                    found.append(Sweep(what=what, rule="", error=error.strerror or type(error).__name__))
        return found


def retention_routes(retainer: Retainer) -> list[Route]:
    """GET says what would go, POST does it."""

    async def look(request: Request) -> JsonResponse:
        """What would go by the rules of `[retention]`, with sizes."""
        return await answer(execute=False)

    async def carry_out(request: Request) -> JsonResponse:
        """Let go what is older than the rules of `[retention]` keep."""
        return await answer(execute=True)

    async def answer(*, execute: bool) -> JsonResponse:
        found = await asyncio.to_thread(retainer.sweep, execute=execute)
        total = sum(sweep.bytes for sweep in found)
        return JsonResponse({"dry_run": not execute, "bytes": total, "sweeps": found})

    return [
        Route("/api/v1/gc", look, methods=["GET"]),
        Route("/api/v1/gc", carry_out, methods=["POST"]),
    ]


def room_sweepers(home: Home, books: Books, *, wall: Callable[[], float] = time.time) -> dict[str, Sweeper]:
    """The sweeps of every room.

    Args:
        home: whose state.
        books: its ledger.
        wall: Unix seconds.
    """
    return {
        "ledger": lambda rules, execute: _ledger(books, rules, execute, wall),
        "runs": lambda rules, execute: _runs(home, rules, execute, wall),
        "workspaces": lambda rules, execute: _workspaces(home, rules, execute, wall),
        "trash": lambda rules, execute: _trash(home, rules, execute, wall),
        "sessions": lambda rules, execute: _sessions(home, rules, execute),
        "captures": lambda rules, execute: _captures(home, rules, execute, wall),
        "logs": lambda rules, execute: _logs(home, rules, execute),
    }


def _ledger(books: Books, rules: Retention, execute: bool, wall: Callable[[], float]) -> Sweep:
    books.take_in()
    folded = fold(books.database, rules.usage_days, execute=execute, wall=wall)
    sweep = Sweep(what="ledger", rule=_days(rules.usage_days, "row by row, then as daily sums"))
    if folded.rows:
        reason = f"{folded.rows} rows of {folded.days} days before {folded.before} become daily sums"
        sweep.items.append(Item("usage", folded.bytes, reason))
        sweep.bytes = folded.bytes
    return sweep


def _runs(home: Home, rules: Retention, execute: bool, wall: Callable[[], float]) -> Sweep:
    def has_work(id: str) -> bool:
        return workspace_folder(home.state, id).exists()

    old = sweep_runs(home.runs, rules.runs_days, has_work=has_work, execute=execute, wall=wall)
    return _swept(
        "runs",
        _days(rules.runs_days, "after their last sign of life"),
        (Item(run.id, run.bytes, run.kept_because or "old", run.kept_because is not None) for run in old),
    )


def _workspaces(home: Home, rules: Retention, execute: bool, wall: Callable[[], float]) -> Sweep:
    rule = _days(rules.workspaces_days, "then to the trash; work that was not applied stays")
    if not rules.workspaces_days:
        return Sweep(what="workspaces", rule=rule)
    entries = cleanup(
        home.state,
        older_than=timedelta(days=rules.workspaces_days),
        execute=execute,
        # A run and its workspace share one name; the runner holds the run's lock while anything of it lives.
        in_use=lambda id: is_locked(RunFolder(home.runs / id).lock_file),
        now=datetime.fromtimestamp(wall(), UTC),
    )
    items = [
        Item(entry.id, 0, "; ".join(entry.reasons), entry.action == "keep")
        for entry in entries
        if entry.action == "discard" or entry.reasons != ("too recent",)
    ]
    return Sweep(what="workspaces", rule=rule, items=items)  # the trash gives their bytes back


def _trash(home: Home, rules: Retention, execute: bool, wall: Callable[[], float]) -> Sweep:
    rule = _days(rules.trash_days, "then gone for good")
    if not rules.trash_days:
        return Sweep(what="trash", rule=rule)
    sizes = {folder.name: measure(folder)[0] for folder in _folders(home.trash)}
    entries = cleanup(
        home.state,
        older_than=timedelta.max,  # only the trash
        trash_older_than=timedelta(days=rules.trash_days),
        execute=execute,
        now=datetime.fromtimestamp(wall(), UTC),
    )
    items = [
        Item(entry.id, sizes.get(trash_folder(home.state, entry.id).name, 0), "; ".join(entry.reasons))
        for entry in entries
        if entry.action == "purge"
    ]
    return _swept("trash", rule, items)


def _sessions(home: Home, rules: Retention, execute: bool) -> Sweep:
    old = plan_session_retention(home, rules.sessions)
    gone = run_session_retention(old) if execute else old
    rule = f"the {rules.sessions} newest sessions of the bridge"
    return _swept(
        "sessions", rule, (Item(one.folder.path.name, one.size_bytes, "older than those") for one in gone)
    )


def _captures(home: Home, rules: Retention, execute: bool, wall: Callable[[], float]) -> Sweep:
    old = sweep_captures(
        captures_folder(home.state),
        days=rules.captures_days,
        max_bytes=rules.captures_mb << 20,
        execute=execute,
        wall=wall,
    )
    age = f"{rules.captures_days} days, and " if rules.captures_days else ""
    items = (Item(each.id, each.bytes, each.reason) for each in old)
    return _swept("captures", f"{age}{rules.captures_mb} MiB in all", items)


def _logs(home: Home, rules: Retention, execute: bool) -> Sweep:
    """Old log files go, the oldest first, until what is left fits; those that are written to stay."""
    rule = f"{rules.logs_mb} MiB; files that are written to stay"
    files = [(path, path.stat()) for path in home.logs.glob("*") if path.is_file() and not path.is_symlink()]
    over = sum(found.st_size for _, found in files) - (rules.logs_mb << 20)
    items: list[Item] = []
    for path, found in sorted(files, key=lambda each: each[1].st_mtime):
        if over <= 0:
            break
        if path.suffix == ".log":
            continue
        if execute:
            path.unlink(missing_ok=True)
        over -= found.st_size
        items.append(Item(path.name, found.st_size, "over the limit"))
    return _swept("logs", rule, items)


def _swept(what: str, rule: str, items: Iterable[Item]) -> Sweep:
    listed = list(items)
    return Sweep(what=what, rule=rule, items=listed, bytes=sum(i.bytes for i in listed if not i.kept))


def _days(days: int, then: str) -> str:
    return f"{days} days, {then}" if days else "for ever"


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []

"""Claims: what the worker says it did, read from its last words and set beside what we observed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from dragoman.jobs.evidence import Observation
from dragoman.jobs.sections import items_of, paths_of, split_sections
from dragoman.workers.base import Denied, ToolCalled, WorkerEvent

_FIELDS = {
    "files": ("changed files", "files changed", "files modified", "modified files"),
    "commands": ("commands run", "commands", "validation", "tests run", "tests"),
}
_PASSED = re.compile(r"\b(pass(es|ed|ing)?|ok|green|succeed(s|ed)?|success)\b", re.IGNORECASE)
_FAILED = re.compile(r"\b(fail(s|ed|ing|ure)?|error(s|ed)?|red|broken)\b", re.IGNORECASE)
# How a worker says that it changed no file; a file of such a name would be in ticks or have an ending.
_NO_FILE = re.compile(r"\W*(none|nothing|n/?a|no (\w+ )*(files?|changes?)( \w+)*)\W*$", re.IGNORECASE)
_TICKED = re.compile(r"`([^`\n]+)`")

Outcome = Literal["passed", "failed", "unclear"]


class ClaimedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command the worker says it ran, and how it says it ended."""

    command: str
    outcome: Outcome


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One place where the claim and the observation part ways."""

    kind: Literal[
        "file_not_changed",
        "file_not_claimed",
        "command_claimed_passed",
        "command_not_claimed",
        "command_not_run",
    ]
    subject: str
    text: str


@dataclass(frozen=True)
class Claims:
    """What the worker's report states; empty fields when it states nothing."""

    files: tuple[str, ...] = ()
    commands: tuple[ClaimedCommand, ...] = ()


def read_claims(report: str) -> Claims:
    """Read the sections "Changed files" and "Commands run" of a report; prose elsewhere claims nothing."""
    sections = split_sections(report, _FIELDS)
    commands: list[ClaimedCommand] = []
    for item in items_of(sections.get("commands", [])):
        ticked = _TICKED.findall(item)
        command = ticked[0] if ticked else re.split(r"\s+(?:-|->|–|—|→|:|\()\s*", item, maxsplit=1)[0]
        said = item.replace(command, "", 1)
        commands.append(ClaimedCommand(command=command, outcome=_outcome(said)))
    files = [path for path in paths_of(sections.get("files", [])) if not _NO_FILE.match(path)]
    return Claims(files=tuple(files), commands=tuple(commands))


def _outcome(text: str) -> Outcome:
    failed, passed = bool(_FAILED.search(text)), bool(_PASSED.search(text))
    if passed and not failed:
        return "passed"
    return "failed" if failed and not passed else "unclear"


class CommandsSeen:
    """The commands a worker ran, as its tool calls show them; a call that was refused ran nothing."""

    def __init__(self) -> None:
        self._by_id: dict[str, str] = {}

    def heard(self, event: WorkerEvent) -> None:
        """Take one event of the worker."""
        match event:
            case ToolCalled(tool="Bash" | "command"):
                self._by_id[event.id] = " ".join(event.target.split())
            case Denied():
                self._by_id.pop(event.id, None)
            case _:
                pass

    def ran(self, command: str) -> bool:
        """Whether a command was run, alone or as part of a longer line (what is shown may be cut)."""
        wanted = " ".join(command.split())
        return any(wanted in seen or wanted.startswith(seen.rstrip("…")) for seen in self._by_id.values())


def compare(
    claims: Claims,
    changed: Collection[str],
    after: Sequence[Observation],
    *,
    seen_commands: CommandsSeen | None = None,
) -> list[Difference]:
    """List where the report and our own observations part ways; an empty list is agreement.

    Parameters:
        claims: what the worker reports.
        changed: paths of the delta.
        after: the validation commands as we saw them after the work.
        seen_commands: what the worker ran, as far as its tool calls show; None when nobody watched.
    """
    found: list[Difference] = []
    for path in claims.files:
        if path not in changed:
            found.append(
                Difference(
                    kind="file_not_changed", subject=path, text=f"it says it changed {path}; it did not"
                )
            )
    if claims.files:
        for path in changed:
            if path not in claims.files:
                found.append(
                    Difference(
                        kind="file_not_claimed", subject=path, text=f"it changed {path} and does not say so"
                    )
                )
    claimed = {item.command: item.outcome for item in claims.commands}
    for seen in after:
        ended = seen.status.replace("_", " ")
        if seen.status in ("failed", "timed_out") and claimed.get(seen.command) == "passed":
            found.append(
                Difference(
                    kind="command_claimed_passed",
                    subject=seen.command,
                    text=f"it says `{seen.command}` passed; under our eyes it {ended}",
                )
            )
        elif claims.commands and seen.status != "skipped" and seen.command not in claimed:
            found.append(
                Difference(
                    kind="command_not_claimed",
                    subject=seen.command,
                    text=f"it does not say that it ran `{seen.command}`",
                )
            )
    for seen in after:
        said = claimed.get(seen.command) in ("passed", "failed")
        if said and seen_commands is not None and not seen_commands.ran(seen.command):
            found.append(
                Difference(
                    kind="command_not_run",
                    subject=seen.command,
                    text=f"it says it ran `{seen.command}`; no such call was seen",
                )
            )
    return found

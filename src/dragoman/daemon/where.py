"""Where the daemon of a home and its parts are: `run/daemon.json`, checked against the process it names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dragoman.config.files import read_small_file
from dragoman.config.paths import Home
from dragoman.process.identity import ProcessIdentity, is_alive


@dataclass(frozen=True, slots=True)
class ChildNote:
    """A child as the parent last wrote it down.

    Attributes:
        role: `gateway` or `control`.
        index: its number among its role.
        pid: process id.
        state: `starting`, `ready` or `draining`.
    """

    role: str
    index: int
    pid: int
    state: str


@dataclass(frozen=True, slots=True)
class Attempts:
    """Restarts or reloads so far.

    Attributes:
        count: how many have been tried to their end.
        message, hint: why the last one failed, or None.
    """

    count: int = 0
    message: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class DaemonNote:
    """The content of `daemon.json`.

    Attributes:
        url: the data plane's address.
        identity: the parent.
        version: its version.
        since: seconds since the epoch when it began to serve.
        children: its children.
        restarts, reloads: how the last ones went.
    """

    url: str
    identity: ProcessIdentity
    version: str
    since: float
    children: tuple[ChildNote, ...]
    restarts: Attempts = Attempts()
    reloads: Attempts = Attempts()

    @property
    def pid(self) -> int:
        """The parent's process id."""
        return self.identity.pid


def read_daemon_json(home: Home) -> DaemonNote | None:
    """The daemon that serves this home, or None when there is none or it was killed."""
    content = read_small_file(home.daemon_json)
    if content is None:
        return None
    try:
        note = _note(json.loads(content))
    except (ValueError, KeyError, TypeError):
        return None
    return note if is_alive(note.identity) else None


def _note(fields: dict[str, Any]) -> DaemonNote:
    return DaemonNote(
        url=str(fields["url"]),
        identity=ProcessIdentity(int(fields["pid"]), str(fields["started_at"])),
        version=str(fields["version"]),
        since=float(fields["since"]),
        children=tuple(ChildNote(**child) for child in fields["children"]),
        restarts=_attempts(fields.get("restarts")),
        reloads=_attempts(fields.get("reloads")),
    )


def _attempts(fields: dict[str, Any] | None) -> Attempts:
    if fields is None:
        return Attempts()
    error = fields["error"] or {}
    return Attempts(int(fields["count"]), error.get("message"), error.get("hint"))

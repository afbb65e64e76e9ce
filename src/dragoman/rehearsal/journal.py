"""The journal: one JSON line a request, so that a test can tell what was played. It holds no prompt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from dragoman.errors import DragomanError

Outcome = Literal["completed", "failed", "cut", "client_gone"]


class JournalUnwritable(DragomanError):
    """The journal file cannot be written."""

    code = "journal_unwritable"


class JournalRow(msgspec.Struct, kw_only=True, frozen=True):
    """One request.

    Attributes:
        digest: hash of the request's bytes; equal requests have equal digests.
        rule: the rule that answered, `side call`, `no rule` or `no such model`.
        status: the HTTP status.
        took_ms: from the request's last byte to the answer's.
    """

    wire: str
    model: str
    stream: bool
    digest: str
    turn: int
    scenario: str
    rule: str
    status: int
    outcome: Outcome
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    took_ms: float


class Journal:
    """Appends rows to a file that only its owner can read; without a path it writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file = -1
        if path is None:
            return
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalUnwritable(
                f"cannot write the journal {path}: {error.strerror}", hint="name another file with --journal"
            ) from error

    def write(self, row: JournalRow) -> None:
        """Append one row, whole."""
        if self._file >= 0:
            os.write(self._file, msgspec.json.encode(row) + b"\n")

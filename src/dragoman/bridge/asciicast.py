"""A recording of the terminal in the asciicast format, version 2 (https://docs.asciinema.org)."""

from __future__ import annotations

import codecs
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

# Hours of work: a turn prints about 15 KB.
MAX_BYTES = 32 << 20


class Recorder:
    """Writes what the terminal prints, with times, up to a limit.

    Args:
        path: the file; a recording that is there already, as of a bridge that was killed, goes on.
        cols: width.
        rows: height.
        started_at: seconds since the epoch.
        max_bytes: where it stops, with a last mark that says so.
    """

    def __init__(
        self, path: Path, cols: int, rows: int, started_at: float, *, max_bytes: int = MAX_BYTES
    ) -> None:
        earlier = _earlier(path)
        self._left = max_bytes - (earlier.size if earlier else 0)
        self._offset_s = max(earlier.last_s, started_at - earlier.started_at) if earlier else 0.0
        self._last_s = self._offset_s
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._file: BinaryIO | None = None
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(handle, "wb", buffering=0)
        # What was cut in the middle of a line goes, and all of what is no recording.
        self._file.truncate(earlier.size if earlier else 0)
        if earlier:
            self.resized(0.0, cols, rows)
            return
        header = {
            "version": 2,
            "width": cols,
            "height": rows,
            "timestamp": int(started_at),
            "env": {"TERM": "xterm-256color"},
        }
        self._line(header)

    def output(self, at_s: float, data: bytes) -> None:
        """The terminal printed something, so many seconds after the start."""
        text = self._decoder.decode(data)
        if text:
            self._event(at_s, "o", text)

    def resized(self, at_s: float, cols: int, rows: int) -> None:
        """The terminal has another size."""
        self._event(at_s, "r", f"{cols}x{rows}")

    def close(self) -> None:
        """No more of it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _event(self, at_s: float, kind: str, data: str) -> None:
        at_s = round(at_s + self._offset_s, 4)
        if self._line([at_s, kind, data]):
            self._last_s = at_s

    def _line(self, value: object) -> bool:
        if self._file is None:
            return False
        line = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if len(line) > self._left:
            end = [round(self._last_s, 4), "m", "the recording has reached its limit"]
            self._file.write(json.dumps(end).encode() + b"\n")
            self.close()
            return False
        self._left -= len(line)
        try:
            self._file.write(line)
        except OSError:
            self.close()  # a full disk must not end the session
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Earlier:
    started_at: float
    last_s: float
    size: int


def _earlier(path: Path) -> _Earlier | None:
    """What a file has of a recording: its whole lines."""
    started_at: float | None = None
    last_s, size = 0.0, 0
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                value: Any = json.loads(line)
                if started_at is None:
                    started_at = float(value["timestamp"])
                else:
                    last_s = float(value[0])
                size += len(line)
    except (OSError, ValueError, TypeError, LookupError):
        pass
    return None if started_at is None else _Earlier(started_at, last_s, size)

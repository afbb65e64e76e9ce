"""A recording of the terminal in the asciicast format, version 2 (https://docs.asciinema.org)."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import BinaryIO

# Hours of work: a turn prints about 15 KB.
MAX_BYTES = 32 << 20


class Recorder:
    """Writes what the terminal prints, with times, up to a limit.

    Args:
        path: the file; appended to when the session goes on after a crash.
        cols: width.
        rows: height.
        started_at: seconds since the epoch.
        max_bytes: where it stops, with a last mark that says so.
    """

    def __init__(
        self, path: Path, cols: int, rows: int, started_at: float, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self._left = max_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._file: BinaryIO | None = None
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(handle, "wb", buffering=0)
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
            self._line([round(at_s, 4), "o", text])

    def resized(self, at_s: float, cols: int, rows: int) -> None:
        """The terminal has another size."""
        self._line([round(at_s, 4), "r", f"{cols}x{rows}"])

    def close(self) -> None:
        """No more of it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _line(self, value: object) -> None:
        if self._file is None:
            return
        line = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if len(line) > self._left:
            self._file.write(b'[0, "m", "the recording has reached its limit"]\n')
            self.close()
            return
        self._left -= len(line)
        try:
            self._file.write(line)
        except OSError:
            self.close()  # a full disk must not end the session

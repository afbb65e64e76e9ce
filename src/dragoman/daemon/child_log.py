"""Standard logging of a child, as lines of the daemon's JSON log.

Rooms log with `logging.getLogger("dragoman.<room>")`: the message is an event name, `extra={"fields": {...}}`
carries values. Nothing of an exception but its type and place is kept: its text may quote a prompt.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType

from dragoman.daemon.log import JsonLog, Level

_LEVELS: dict[int, Level] = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning"}


class JsonLogHandler(logging.Handler):
    """Writes records of the logging module to a `JsonLog`."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = _LEVELS.get(record.levelno, "error")
        ours = record.name.split(".")[0] == "dragoman"
        # Other libraries put whatever they like into their messages; their template is enough to find it.
        event = record.getMessage() if ours else str(record.msg)
        fields = getattr(record, "fields", None)
        values = dict(fields) if isinstance(fields, dict) else {}
        if record.exc_info and record.exc_info[1] is not None:
            values["exception"] = describe_exception(record.exc_info[1])
        self._log.write(level, event, **{"logger": record.name} | values)


def describe_exception(error: BaseException) -> str:
    """Type and place: `ValueError at decode.py:41`."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place


def log_to(path: Path, role: str, level: Level = "info") -> JsonLog:
    """Send this process's logging and its uncaught exceptions to the daemon's log.

    Args:
        path: the log file.
        role: what this process is.
        level: lines below it are dropped.
    """
    log = JsonLog(str(path), role, level=level)
    root = logging.getLogger()
    root.handlers[:] = [JsonLogHandler(log)]
    root.setLevel(logging.WARNING)
    logging.getLogger("dragoman").setLevel(level.upper())

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.write("error", "uncaught", exception=describe_exception(error))

    sys.excepthook = uncaught
    return log

"""How a client's requests name the run they belong to."""

from __future__ import annotations

import re

from dragoman.errors import DragomanError, ExitCode

RUN_HEADER = "x-dragoman-run"

_RUN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RunIdInvalid(DragomanError):
    """A run's id that could not travel in a header or an environment variable."""

    code = "invalid_input"
    http_status = 400
    exit_code = ExitCode.USAGE


def checked_run_id(run_id: str) -> str:
    """The id itself.

    Raises:
        RunIdInvalid: it has characters a header cannot carry, or too many.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise RunIdInvalid(f"{run_id[:40]!r} cannot be a run id: letters, digits and . _ : - only")
    return run_id

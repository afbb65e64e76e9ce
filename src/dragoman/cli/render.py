"""How a terminal is spoken to: errors in one shape, JSON in one shape."""

from __future__ import annotations

import json
import sys
from typing import Any

from dragoman.errors import DragomanError


def show_error(error: DragomanError, *, as_json: bool) -> None:
    """Print an error: what happened and where, then what to do next.

    Parameters:
        error: what to say.
        as_json: print one JSON object on stdout instead of two lines on stderr.
    """
    if as_json:
        show_json({"error": error.message, "error_code": error.code, "next": error.hint})
        return
    print(f"dragoman: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  next: {error.hint}", file=sys.stderr)


def show_json(value: Any) -> None:
    """Print one JSON value on stdout, flushed; escaped where the encoding could not carry all of it."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(value, ensure_ascii=plain, indent=2), flush=True)

"""The two process attributes Linux has and nothing else does, each with what stands in for it."""

from __future__ import annotations

import contextlib
import os
import resource
import sys

_PR_SET_DUMPABLE = 4
_PR_GET_DUMPABLE = 3
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, argument: int = 0) -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.prctl(option, argument, 0, 0, 0)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(answer)


def forbid_inspection(*, platform: str = sys.platform) -> bool:
    """Keep other processes of the same user from reading our memory and environment (keys live there).

    Linux: not dumpable, so no ptrace, no `/proc/<pid>/environ`, no core file. It does not survive
    `exec`, so every process calls it for itself. Fallback elsewhere: no core file only.

    Returns:
        Whether the full protection is on.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if platform != "linux":
        return False
    try:
        _prctl(_PR_SET_DUMPABLE, 0)
    except (OSError, AttributeError):
        return False
    return True


def is_inspectable() -> bool:
    """Whether the calling process may be read by others of the same user (always True off Linux)."""
    if sys.platform != "linux":
        return True
    try:
        return _prctl(_PR_GET_DUMPABLE) == 1
    except (OSError, AttributeError):
        return True


def set_child_subreaper(*, platform: str = sys.platform) -> bool:
    """Adopt orphaned descendants. Fallback elsewhere: none, callers look for their marker instead."""
    if platform != "linux":
        return False
    try:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    except (OSError, AttributeError):
        return False
    return True

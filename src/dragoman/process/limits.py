"""Resource limits of the calling process."""

from __future__ import annotations

import contextlib
import resource

# A stream takes two descriptors; 1024, a common soft limit, is gone with 500 of them.
_WANTED_FILES = 65_536


def raise_open_files_limit(wanted: int = _WANTED_FILES) -> int:
    """Raise the soft limit on open descriptors as far as the hard one lets us.

    Args:
        wanted: descriptors that are enough.

    Returns:
        The soft limit in force.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

"""The fingerprint of a request: equal ones are the same work, and the same work is done once at a time."""

from __future__ import annotations

import hashlib

import msgspec

from dragoman.jobs.request import Asker, JobRequest

# How a job is queued, and for whom, does not change what is done.
_NOT_THE_WORK = {"asker": Asker(), "priority": 5, "when_busy": "queue", "cwd": ""}


def request_key(request: JobRequest, repository: str, prefix: str, base: str | None) -> str:
    """The sha256 of everything that makes a job the job it is, in hexadecimal.

    Args:
        request: what was asked.
        repository: top of the work tree with every symlink resolved.
        prefix: the folder in it the job is about; two names of one folder give one.
        base: what the work starts from, uncommitted changes included where they count; None before the first
            commit.
    """
    work = msgspec.structs.replace(request, **_NOT_THE_WORK)
    said = msgspec.json.encode([work, repository, prefix, base])
    return hashlib.sha256(said).hexdigest()

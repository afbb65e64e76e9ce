"""Folders a packet names beside the repository: opened where they may be, refused in a sentence elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman.config.schema import Delegation
from dragoman.control.jobs import _submit  # pyright: ignore[reportPrivateUsage]
from dragoman.jobs.guards import Refused
from dragoman.jobs.request import Asker, JobRequest


class Jobs:
    """Takes what is submitted."""

    def __init__(self, home: Any) -> None:
        self.home = home
        self.asked: list[JobRequest] = []

    def submit(self, asked: JobRequest) -> None:
        self.asked.append(asked)


def submit(home: Any, folder: Path, named: str, *more: str) -> JobRequest:
    jobs: Any = Jobs(home)
    (folder / "work" / "repo").mkdir(parents=True, exist_ok=True)
    asked = JobRequest(
        task=f"Goal: look\nContext roots:\n- `{named}`\n",
        cwd=str(folder / "work" / "repo"),
        context_roots=more,
        asker=Asker(client="mcp"),
    )
    _submit(jobs, asked, Delegation(allow_roots=(str(folder / "work"),)), folder)
    (taken,) = jobs.asked
    return taken


def test_a_root_the_packet_names_is_opened_like_one_that_is_asked_for(home: Any, tmp_path: Path) -> None:
    beside, other = tmp_path / "work" / "schemas", tmp_path / "work" / "other"
    for folder in (beside, other):
        folder.mkdir(parents=True)
    assert submit(home, tmp_path, str(beside), str(beside)).context_roots == (str(beside),)
    taken = submit(home, tmp_path, "~/work/schemas", str(other))
    assert taken.context_roots == (str(other), str(beside))


def test_a_root_outside_the_allowed_ones_is_refused(home: Any, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    with pytest.raises(Refused, match="private"):
        submit(home, tmp_path, str(tmp_path / "private"))

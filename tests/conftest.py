"""Fixtures every test may use."""

from __future__ import annotations

import pytest

from dragoman.workers.testing import FakeClaude, write_fake_claude


@pytest.fixture(scope="session")
def fake_worker(tmp_path_factory: pytest.TempPathFactory) -> FakeClaude:
    """A program that speaks like Claude Code and behaves as its task says."""
    return write_fake_claude(tmp_path_factory.mktemp("fake-worker"))

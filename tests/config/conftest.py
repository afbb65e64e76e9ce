"""A home of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman.config.paths import Home, resolve_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return resolve_home({"DRAGOMAN_HOME": str(tmp_path / "h"), "HOME": str(tmp_path)})

"""Shared by the tests of the wire: recorded requests, and the modules `strategies`, `checkers`, `rendering`
and `reading_back` beside this file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

FIXTURES = HERE.parent / "fixtures" / "wire"


@pytest.fixture(scope="session")
def claude_request() -> Callable[[str], dict[str, Any]]:
    """Loads a recorded Claude Code body by name."""

    def load(name: str) -> dict[str, Any]:
        return json.loads((FIXTURES / "claude" / f"{name}.json").read_text())

    return load

"""The judge of Responses streams and the recorded Codex conversations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from responses_checker import Checker

FIXTURES = Path(__file__).parents[2] / "fixtures" / "wire" / "codex"


@pytest.fixture(scope="session")
def check_stream() -> Callable[[bytes], Checker]:
    """Judge a Responses stream; raises `Broken` naming the rule."""
    return Checker


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], list[dict[str, Any]]]:
    """The bodies of one recorded conversation."""

    def load(name: str) -> list[dict[str, Any]]:
        return json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))

    return load

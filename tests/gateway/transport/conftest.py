"""The transport runs on both loops: uvloop differs in small ways that matter."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["asyncio", "uvloop"])
def kit(request: pytest.FixtureRequest, kit: Any) -> Any:
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        return type(kit)(uvloop.new_event_loop)
    return kit

"""Two hundred rounds in one session: nothing grows, nothing is left open."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.real_client, pytest.mark.endurance, pytest.mark.timeout(1200)]

ROUNDS = 200
# What the first rounds allocate (pyte's tables, JSON decoders) is no growth.
WARM_UP = 40


def private_kb(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def test_two_hundred_rounds_leave_no_memory_and_no_descriptor_behind(
    start_session: Callable[..., Any], claude_329: Path
) -> None:
    session = start_session(claude_329)
    pid = session.bridge.pid
    memory: list[int] = []
    opened: list[int] = []
    for number in range(ROUNDS):
        if number % 10 == 9:
            asked = session.send(f"run touch soak-{number}")
            assert asked["status"] == "needs_permission", asked
            answer = session.press("1")
            assert answer["output"] == "It ran.", answer
        else:
            answer = session.send(f"say round {number}")
            assert answer["output"] == f"round {number}", answer
        memory.append(private_kb(pid))
        opened.append(descriptors(pid))
    before = statistics.median(memory[WARM_UP : WARM_UP + 20])
    after = statistics.median(memory[-20:])
    assert after < before * 1.10, (before, after)
    # A look may fall on the moment in which the log or a result is open.
    assert statistics.median(opened[-20:]) <= statistics.median(opened[WARM_UP : WARM_UP + 20])
    print(f"{before} kB after {WARM_UP} rounds, {after} kB after {ROUNDS}")
    assert session.bridge.pid == pid
    assert not list(session.mailbox.results.iterdir())

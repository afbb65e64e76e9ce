"""The sheet of what is under way: small, whole at every moment, empty when nothing is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dragoman.gateway.open_calls import NOTE_EVERY_S, OpenCalls, read_sheet
from dragoman.gateway.spool import UsageRow


def row(id: str, tokens: int = 1) -> UsageRow:
    return UsageRow(id=id, at=1.0, client_wire="chat", outcome="failed", input_tokens=tokens)


def talk(id: str, started: float = 0.0) -> Any:
    return SimpleNamespace(incoming=SimpleNamespace(started=started), so_far=lambda: row(id))


def sheets(folder: Path) -> list[list[str]]:
    return [[each.id for each in read_sheet(file.read_bytes())] for file in folder.glob("*.open")]


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def test_a_call_that_lasts_is_noted_and_struck_out_when_it_ends(tmp_path: Path) -> None:
    async def run() -> None:
        calls = OpenCalls(tmp_path, clock=lambda: 100.0, wall=lambda: 1.0)
        with calls.held(talk("a")), calls.held(talk("b")):
            await until(lambda: sheets(tmp_path) == [["a", "b"]])
        await until(lambda: sheets(tmp_path) == [[]])
        calls.close()
        assert list(tmp_path.iterdir()) == []

    asyncio.run(run())


def test_a_short_call_costs_no_write(tmp_path: Path) -> None:
    async def run() -> None:
        calls = OpenCalls(tmp_path, clock=lambda: 100.0, wall=lambda: 1.0)
        with calls.held(talk("a", started=100.0)):
            await asyncio.sleep(NOTE_EVERY_S * 1.5)
        assert list(tmp_path.iterdir()) == []
        calls.close()

    asyncio.run(run())


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "spool").write_text("in the way")
        calls = OpenCalls(tmp_path / "spool", clock=lambda: 100.0, wall=lambda: 1.0)
        with calls.held(talk("a")):
            await asyncio.sleep(NOTE_EVERY_S * 1.5)
        calls.close()

    asyncio.run(run())


def test_what_is_left_of_a_longer_sheet_is_not_read() -> None:
    assert [each.id for each in read_sheet(b"%012d\n" % 0 + b'{"id":"old"}\n')] == []


@given(st.binary(max_size=80))
def test_a_damaged_sheet_is_read_as_far_as_it_goes(data: bytes) -> None:
    assert isinstance(read_sheet(data), list)

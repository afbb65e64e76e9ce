from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dragoman.gateway import spool as module
from dragoman.gateway.spool import Spool, UsageRow


def row(number: int) -> UsageRow:
    return UsageRow(id=f"r{number}", at=1.0, client_wire="messages", outcome="ok", model="m")


def read(folder: Path) -> list[UsageRow]:
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_bytes().splitlines()]
    return [msgspec.json.decode(line, type=UsageRow) for line in lines]


def test_rows_are_on_disk_soon_without_anybody_asking(tmp_path: Path, kit: Any) -> None:
    async def run() -> None:
        spool = Spool(tmp_path / "spool", wall=lambda: 1700.0)
        spool.append(row(1))
        spool.append(row(2))
        assert not (tmp_path / "spool").exists()
        await kit.until(lambda: len(read(tmp_path / "spool")) == 2, timeout_s=1.0)
        spool.append(row(3))
        spool.close()
        assert [it.id for it in read(tmp_path / "spool")] == ["r1", "r2", "r3"]
        (file,) = (tmp_path / "spool").iterdir()
        assert file.name.startswith(f"1700000-{os.getpid()}-")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    asyncio.run(run())


def test_two_processes_never_share_a_file(tmp_path: Path) -> None:
    async def run() -> None:
        spools = [Spool(tmp_path, wall=lambda: 1700.0) for _ in range(2)]
        for number, spool in enumerate(spools):
            spool.append(row(number))
            spool.close()
        assert len(list(tmp_path.iterdir())) == 2

    asyncio.run(run())


def test_a_large_file_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 300)

    async def run() -> None:
        spool = Spool(tmp_path, wall=lambda: 1700.0)
        for number in range(12):
            spool.append(row(number))
            spool.flush()
        spool.close()
        assert len(list(tmp_path.iterdir())) > 2
        assert sorted(it.id for it in read(tmp_path)) == sorted(f"r{n}" for n in range(12))

    asyncio.run(run())


def test_a_full_disk_keeps_rows_waiting_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kit: Any
) -> None:
    real = os.write
    full = True

    def write(fd: int, data: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, "no space")
        return real(fd, data)

    async def run() -> None:
        nonlocal full
        monkeypatch.setattr(module.os, "write", write)
        spool = Spool(tmp_path, wall=lambda: 1700.0)
        spool.append(row(1))
        assert not spool.flush()
        spool.append(row(2))
        full = False
        await kit.until(lambda: len(read(tmp_path)) == 2, timeout_s=2.0)
        assert spool.lost == 0
        spool.close()

    asyncio.run(run())


def test_a_torn_line_is_written_again_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    tear = True

    def write(fd: int, data: bytes) -> int:
        nonlocal tear
        if tear:
            tear = False
            return real(fd, data[: len(data) - 20])
        return real(fd, data)

    async def run() -> None:
        monkeypatch.setattr(module.os, "write", write)
        spool = Spool(tmp_path, wall=lambda: 1700.0)
        spool.append(row(1))
        spool.append(row(2))
        assert not spool.flush()
        spool.close()
        found: list[str] = []
        for file in tmp_path.iterdir():
            data = file.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            found += [msgspec.json.decode(line, type=UsageRow).id for line in whole.splitlines()]
        assert sorted(found) == ["r1", "r2"]

    asyncio.run(run())


def test_very_many_waiting_rows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING_ROWS", 5)

    async def run() -> None:
        spool = Spool(tmp_path, wall=lambda: 1700.0)
        for number in range(8):
            spool.append(row(number))
        assert spool.lost == 3
        spool.close()
        (file,) = tmp_path.iterdir()
        told, *rows = file.read_bytes().splitlines()
        assert (msgspec.json.decode(told)["lost"], len(rows)) == (3, 5)
        assert msgspec.json.decode(rows[0], type=UsageRow).id == "r3"

    asyncio.run(run())


def test_a_disk_that_stays_full_gets_one_file_and_no_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    room = 30

    def write(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "no space")
        taken, room = data[:room], room - min(room, len(data))
        return real(fd, taken)

    async def run() -> None:
        nonlocal room
        monkeypatch.setattr(module.os, "write", write)
        spool = Spool(tmp_path, wall=lambda: 1700.0)
        spool.append(row(1))
        for _ in range(5):
            assert not spool.flush()
        room = 10_000
        assert spool.flush()
        spool.close()
        assert [it.id for it in read(tmp_path)] == ["r1"]

    asyncio.run(run())


def test_a_file_is_locked_while_more_may_come(tmp_path: Path) -> None:
    async def run() -> None:
        spool = Spool(tmp_path, wall=lambda: 1700.0)
        spool.append(row(1))
        spool.flush()
        (file,) = tmp_path.iterdir()
        with file.open() as opened:
            with pytest.raises(BlockingIOError):
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            spool.close()
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)

    asyncio.run(run())

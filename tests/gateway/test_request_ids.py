"""Whatever is answered carries an id, so that a user can name it and its row can be found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ID = re.compile(rb"\r\nx-dragoman-request-id: ([0-9a-f]{24})\r\n")
HOST = b"Host: localhost\r\n"


def test_every_answer_has_an_id_of_its_own_also_where_nothing_was_understood(
    kit: Any, tmp_path: Path
) -> None:
    asked = {
        b"GET /health HTTP/1.1\r\n" + HOST: b"200",
        b"HEAD / HTTP/1.1\r\n" + HOST: b"200",
        b"GET /health HTTP/1.1\r\nHost: evil.example\r\n": b"403",
        b"GET /v1/models HTTP/1.1\r\n" + HOST: b"401",
        b"GET /nothing HTTP/1.1\r\n" + HOST: b"404",
        b"GET /metrics HTTP/1.1\r\n" + HOST: b"401",
        b"GET /api/v1/status HTTP/1.1\r\n" + HOST: b"503",
        b"GET /v1/responses HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: upgrade\r\n": b"426",
        b"GET http://elsewhere/ HTTP/1.1\r\n" + HOST: b"400",
        b"GET /health HTTP/1.1\r\n" + HOST + b"x-a: b\r\n" * 12_000: b"431",
        b"what is this\r\n": b"400",
    }

    async def run() -> None:
        async with kit.served(tmp_path, "", control=tmp_path / "none.sock", hold_s=0.05) as served:
            ids: list[bytes] = []
            for request, status in asked.items():
                answer = await kit.raw(served.port, request + b"\r\n")
                assert answer.split(b" ", 2)[1] == status, answer
                ids += ID.findall(answer)
                assert len(ID.findall(answer)) == 1, answer
            assert len(set(ids)) == len(asked)

    kit.run(run)

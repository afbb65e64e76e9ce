"""Codex sees a provider's windows on whatever it is answered."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

CONFIG = """
[providers.up]
wires.chat = "{base}/v1"
[models.m]
provider = "up"
"""
ASK = {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}
CODEX = {"user-agent": "codex_exec/0.163.0"}


def test_codex_is_shown_what_is_left_with_answers_streams_and_errors(tmp_path: Path, kit: Any) -> None:
    async def run() -> None:
        broken = False

        def answers(request: Any) -> list[Any]:
            if broken:
                return [kit.json_answer({"error": {"message": "no"}}, "400 Bad Request")]
            return [kit.streamed(kit.chat_stream("hi"))]

        now = time.time()
        async with (
            kit.scripted(answers) as upstream,
            kit.served(tmp_path, CONFIG.format(base=upstream.base)) as served,
        ):
            _, headers, _ = await served.ask("/v1/responses", {**ASK, "stream": True}, headers=CODEX)
            assert not any(name.startswith("x-codex-") for name in headers)
            folder = served.home.state / "quota"
            folder.mkdir()
            window = {"name": "5h", "used_percent": 12.5, "window_minutes": 300, "resets_at": now + 99}
            (folder / "up.json").write_text(json.dumps({"at": now, "windows": [window]}))
            served.gateway._quota._known.clear()  # the file is looked for every few seconds
            for stream in (True, False):
                status, headers, _ = await served.ask(
                    "/v1/responses", {**ASK, "stream": stream}, headers=CODEX
                )
                assert (status, headers["x-codex-primary-used-percent"]) == (200, "12.5")
                assert headers["x-codex-primary-window-minutes"] == "300"
            _, headers, _ = await served.ask("/v1/responses", ASK)
            assert "x-codex-primary-used-percent" not in headers
            broken = True
            status, headers, _ = await served.ask("/v1/responses", ASK, headers=CODEX)
            assert (status, headers["x-codex-primary-used-percent"]) == (400, "12.5")

    kit.run(run)

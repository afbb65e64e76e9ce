from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dragoman.config.tokens import ensure_control_token, mint

CONFIG = '[providers.up]\nwires.chat = "http://127.0.0.1:9/v1"\n'


def control_headers(served: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {ensure_control_token(served.home)}"}


@pytest.mark.parametrize("path", ["/", "/c/abc/page?x=1", "/api/v1/status", "/mcp", "/metrics"])
def test_what_is_not_data_plane_goes_to_control_as_it_is(kit: Any, tmp_path: Path, path: str) -> None:
    async def run() -> None:
        socket = tmp_path / "control.sock"
        reply = kit.answer(b'{"from":"control"}', headers=(("X-Own", "1"), ("Set-Cookie", "a=b")))
        async with (
            kit.scripted([reply], unix=socket) as control,
            kit.served(tmp_path, CONFIG, control=socket) as served,
        ):
            headers = {**control_headers(served), "cookie": "k=v"}
            status, got, answer = await served.ask(path, {"a": 1}, method="PATCH", headers=headers)
            assert (status, answer) == (200, b'{"from":"control"}')
            assert (got["x-own"], got["set-cookie"]) == ("1", "a=b")
            assert got["x-dragoman-request-id"]
            seen = control.requests[-1]
            assert seen.line == f"PATCH {path} HTTP/1.1"
            assert json.loads(seen.body) == {"a": 1}
            assert seen.headers["host"] == f"127.0.0.1:{served.port}"
            assert seen.headers["authorization"] == headers["authorization"]
            assert seen.headers["cookie"] == "k=v"
            assert seen.headers["x-dragoman-request-id"] == got["x-dragoman-request-id"]

    kit.run(run)


@pytest.mark.parametrize("scope", ["data", "run"])
@pytest.mark.parametrize("path", ["/api/v1/status", "/mcp", "/mcp/x", "/metrics", "/api"])
def test_tokens_for_model_calls_open_nothing_of_control(
    kit: Any, tmp_path: Path, path: str, scope: Any
) -> None:
    async def run() -> None:
        socket = tmp_path / "control.sock"
        async with (
            kit.scripted([kit.answer()], unix=socket) as control,
            kit.served(tmp_path, CONFIG, control=socket) as served,
        ):
            token = mint(served.home, scope)
            headers = {"authorization": f"Bearer {token.secret}"}
            status, _, answer = await served.ask(path, headers=headers)
            assert status == 403
            assert token.secret not in answer.decode()
            assert control.requests == []

    kit.run(run)


def test_hosts_and_origins_are_checked_here_too(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        socket = tmp_path / "control.sock"
        async with (
            kit.scripted([kit.answer()], unix=socket) as control,
            kit.served(tmp_path, CONFIG, control=socket) as served,
        ):
            for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
                status, _, _ = await served.ask("/api/v1/status", headers=headers)
                assert status == 403
            assert control.requests == []

    kit.run(run)


def test_an_event_feed_is_relayed_as_it_comes_and_ends_with_its_reader(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        socket = tmp_path / "control.sock"

        def script(request: Any) -> list[Any]:
            if request.line.startswith("HEAD"):
                return [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
            return [kit.SSE_HEAD + kit.chunk(b"event: job\ndata: {}\n\n"), "wait"]

        async with (
            kit.scripted(script, unix=socket) as control,
            kit.served(tmp_path, CONFIG, control=socket) as served,
        ):
            answer = await served.open("/api/v1/events", headers=control_headers(served))
            assert await answer.read() == b"event: job\ndata: {}\n\n"
            before = control.open
            answer.abort()
            await kit.until(lambda: control.open < before)
            await kit.until(lambda: served.gateway.open_requests == 0)

    kit.run(run)


def test_a_request_is_held_until_control_has_come_up(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        socket = tmp_path / "control.sock"
        async with kit.served(tmp_path, CONFIG, control=socket, hold_s=5.0) as served:
            asked = asyncio.create_task(served.ask("/api/v1/status", headers=control_headers(served)))
            await asyncio.sleep(0.3)
            assert not asked.done()
            async with kit.scripted([kit.answer(b"up")], unix=socket):
                status, _, answer = await asked
                assert (status, answer) == (200, b"up")

    kit.run(run)


@pytest.mark.parametrize("listening", [False, True])
def test_control_that_does_not_come_is_a_503_with_the_way_out(
    kit: Any, tmp_path: Path, listening: bool
) -> None:
    async def run() -> None:
        socket = tmp_path / "control.sock"
        mute = None
        if listening:  # the parent listens, nobody accepts
            import socket as sockets

            mute = sockets.socket(sockets.AF_UNIX)
            mute.bind(str(socket))
            mute.listen(16)
        async with kit.served(tmp_path, CONFIG, control=socket, hold_s=0.3) as served:
            status, headers, answer = await served.ask("/api/v1/status", headers=control_headers(served))
            assert (status, headers["retry-after"]) == (503, "2")
            assert "dragoman logs" in answer.decode()
            status, _, _ = await served.ask("/health")
            assert status == 200
        if mute is not None:
            mute.close()

    kit.run(run)


def test_control_that_dies_in_the_middle_cuts_the_answer(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        socket = tmp_path / "control.sock"

        def script(request: Any) -> list[Any]:
            if request.line.startswith("HEAD"):
                return [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
            return [kit.SSE_HEAD + kit.chunk(b"event: job\ndata: {}\n\n"), 0.05, "reset"]

        async with (
            kit.scripted(script, unix=socket),
            kit.served(tmp_path, CONFIG, control=socket) as served,
        ):
            answer = await served.open("/api/v1/events", headers=control_headers(served))
            assert await answer.read()
            with pytest.raises(Exception, match="cut off"):
                await answer.read()

    kit.run(run)


def test_a_control_process_that_went_idle_is_found_again(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        socket = tmp_path / "control.sock"
        async with kit.served(tmp_path, CONFIG, control=socket, hold_s=5.0) as served:
            for life in (b"one", b"two"):
                async with kit.scripted([kit.answer(life)], unix=socket):
                    status, _, answer = await served.ask("/api/v1/status", headers=control_headers(served))
                    assert (status, answer) == (200, life)
                socket.unlink()

    kit.run(run)


def test_control_that_left_between_the_look_and_the_question_is_asked_again(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        socket = tmp_path / "control.sock"
        leaving = True

        def script(request: Any) -> list[Any]:
            nonlocal leaving
            if request.line.startswith("HEAD"):
                return [kit.answer(b"")]
            if leaving:
                leaving = False
                return ["reset"]
            return [kit.answer(b"up")]

        async with (
            kit.scripted(script, unix=socket) as control,
            kit.served(tmp_path, CONFIG, control=socket) as served,
        ):
            headers = control_headers(served)
            status, _, answer = await served.ask("/api/v1/status", method="GET", headers=headers)
            assert (status, answer) == (200, b"up")
            assert [request.line.split()[0] for request in control.requests].count("GET") == 2

    kit.run(run)

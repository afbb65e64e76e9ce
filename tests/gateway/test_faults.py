"""What happens when providers fail, table by table: who is asked next, and what the client is told."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

ASK = {"model": "m", "max_tokens": 10, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
CODEX = {"originator": "codex_exec", "user-agent": "codex_exec/0.169.0"}
ASK_CODEX = {"model": "m", "input": "hi", "stream": True}


def providers(**bases: str) -> str:
    lines = []
    for name, base in bases.items():
        lines += [f"[providers.{name}]", f'key_env = "UP_KEY"\nwires.chat = "{base}/v1"']
    return "\n".join(lines)


ALONE = """
[models."m"]
provider = "a"
upstream = "m-a"
"""
MODEL = (
    ALONE
    + """fallback = ["n"]
[models."n"]
provider = "b"
upstream = "m-b"
"""
)


def refusal(
    kit: Any, status: int, message: str = "no", headers: tuple[tuple[str, str], ...] = (), **error: Any
) -> list[Any]:
    body = {"error": {"message": message, **error}}
    return [kit.json_answer(body, status=f"{status} X", headers=headers)]


@pytest.mark.parametrize(
    "fault",
    ["refused", "500", "503", "401", "429", "404", "dead", "html", "event", "empty", "slow"],
)
def test_another_model_is_asked_when_a_provider_fails_before_its_first_word(
    kit: Any, tmp_path: Path, fault: str
) -> None:
    async def run() -> None:
        error = kit.sse({"error": {"message": "x", "type": "server_error"}}, named=False)
        faults: dict[str, list[Any]] = {
            "dead": ["close"],
            "html": [kit.answer(b"<html>gone</html>", headers=(("Content-Type", "text/html"),))],
            "event": [kit.streamed(error)],
            "empty": [kit.streamed(b"")],
            "slow": ["wait"],
        }
        steps = faults.get(fault) or refusal(kit, int(fault) if fault.isdigit() else 500)
        async with (
            kit.scripted(steps) as a,
            kit.scripted([kit.streamed(kit.chat_stream("from b"))]) as b,
        ):
            base = a.base if fault != "refused" else "http://127.0.0.1:1"
            toml = "[gateway]\nfirst_byte_timeout_s = 0.3\n" + providers(a=base, b=b.base) + MODEL
            async with kit.served(tmp_path, toml) as served:
                status, _, answer = await served.ask("/v1/messages", ASK)
                assert status == 200
                assert b"from b" in answer
                assert b"event: error" not in answer
                assert json.loads(b.requests[0].body)["model"] == "m-b"
                (row,) = served.rows()
                assert (row.outcome, row.provider, row.upstream_model) == ("ok", "b", "m-b")
                assert row.retries >= 1

    kit.run(run)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_nobody_could_answer_is_not_sent_elsewhere(kit: Any, tmp_path: Path, status: int) -> None:
    async def run() -> None:
        async with (
            kit.scripted(refusal(kit, status, "bad field")) as a,
            kit.scripted([kit.streamed(kit.chat_stream("b"))]) as b,
            kit.served(tmp_path, providers(a=a.base, b=b.base) + MODEL) as served,
        ):
            got, _, answer = await served.ask("/v1/messages", ASK)
            assert got == (413 if status == 413 else 400)
            assert "bad field" in answer.decode()
            assert (len(a.requests), len(b.requests)) == (1, 0)

    kit.run(run)


def test_the_first_refusal_is_told_when_everybody_refuses(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted(refusal(kit, 503, "a is busy")) as a,
            kit.scripted(refusal(kit, 500, "b broke")) as b,
            kit.served(tmp_path, providers(a=a.base, b=b.base) + MODEL) as served,
        ):
            status, _, answer = await served.ask("/v1/messages", ASK)
            assert status == 529
            assert "a is busy" in answer.decode()

    kit.run(run)


def test_nobody_else_is_asked_after_the_first_word(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        begun = kit.chat_stream("half")
        begun = begun[: begun.index(b'"half"') + 60]
        async with (
            kit.scripted([kit.SSE_HEAD + kit.chunk(begun), 0.05, "reset"]) as a,
            kit.scripted([kit.streamed(kit.chat_stream("b"))]) as b,
            kit.served(tmp_path, providers(a=a.base, b=b.base) + MODEL) as served,
        ):
            status, _, answer = await served.ask("/v1/messages", ASK)
            assert status == 200
            assert b"half" in answer
            assert b"event: error" in answer
            assert b.requests == []

    kit.run(run)


def test_a_fallback_goes_on_with_a_stream_that_was_begun_in_silence(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.SSE_HEAD, 0.35, "reset"]) as a,
            kit.scripted([kit.streamed(kit.chat_stream("from b"))]) as b,
            kit.served(tmp_path, providers(a=a.base, b=b.base) + MODEL, silence_s=0.1) as served,
        ):
            status, _, answer = await served.ask("/v1/messages", ASK)
            assert status == 200
            assert b"from b" in answer
            assert answer.count(b"event: message_start") == 1
            assert answer.count(b"event: message_stop") == 1

    kit.run(run)


def test_the_next_key_is_asked_when_one_is_refused(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        def script(request: Any) -> list[Any]:
            if request.headers["authorization"] == "Bearer key-one":
                return refusal(kit, 429, "slow down", (("Retry-After", "60"),))
            return [kit.streamed(kit.chat_stream("ok"))]

        environment = {"ONE": "key-one", "TWO": "key-two"}
        async with kit.scripted(script) as up:
            toml = (
                f'[providers.a]\nkeys = [{{ env = "ONE" }}, {{ env = "TWO" }}]\nwires.chat = "{up.base}/v1"'
                + ALONE
            )
            async with kit.served(tmp_path, toml, environment=environment) as served:
                answers = [await served.ask("/v1/messages", ASK) for _ in range(3)]
                assert [status for status, _, _ in answers] == [200] * 3
                asked = [request.headers["authorization"] for request in up.requests]
                assert asked == ["Bearer key-one", *["Bearer key-two"] * 3]
                assert [row.key for row in served.rows()] == ["environment TWO"] * 3
                assert "key-two" not in str(answers) + str(served.rows()) + str(served.logged)

    kit.run(run)


def test_when_every_key_rests_the_client_is_told_when_one_comes_back(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted(refusal(kit, 429, "slow down", (("Retry-After", "120"),))) as up,
            kit.served(tmp_path, providers(a=up.base) + ALONE) as served,
        ):
            for _ in range(2):
                status, headers, answer = await served.ask("/v1/messages", ASK)
                assert status == 429
                assert 100 < float(headers["retry-after"]) <= 120
                assert "slow down" in answer.decode()
            assert len(up.requests) == 1

    kit.run(run)


def test_a_used_up_quota_is_never_retried(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        message = "Usage limit reached for 5 hour. Your limit will reset at 2099-01-01 05:00:00"
        async with (
            kit.scripted(refusal(kit, 429, message, code="1308")) as up,
            kit.served(
                tmp_path, providers(a=up.base).replace("key_env", 'profile = "zai"\nkey_env') + ALONE
            ) as served,
        ):
            status, headers, answer = await served.ask("/v1/messages", ASK)
            assert (status, headers["x-should-retry"]) == (429, "false")
            assert "05:00:00" in answer.decode()
            status, headers, answer = await served.ask("/v1/responses", ASK_CODEX, headers=CODEX)
            assert json.loads(answer)["error"]["code"] == "insufficient_quota"
            assert "retry-after" not in headers
            assert len(up.requests) == 1

    kit.run(run)


@pytest.mark.parametrize("wire", ["messages", "chat"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_reset_time_without_a_zone_is_read_in_the_providers_own(
    kit: Any, tmp_path: Path, inside: bool, wire: str
) -> None:
    async def run() -> None:
        at = datetime.now(timezone(timedelta(hours=8))) + timedelta(hours=2)
        message = f"Usage limit reached for 5 hour. Your limit will reset at {at:%Y-%m-%d %H:%M:%S}"
        error: dict[str, dict[str, Any]] = {"error": {"message": message, "code": "1308"}}
        answer = (
            [kit.streamed(kit.sse(error, named=False))] if inside else refusal(kit, 429, **error["error"])
        )
        async with (
            kit.scripted(answer) as up,
            kit.served(
                tmp_path,
                f'[providers.a]\nprofile = "zai"\nkey_env = "UP_KEY"\nwires.{wire} = "{up.base}"' + ALONE,
            ) as served,
        ):
            status, headers, _ = await served.ask("/v1/messages", ASK)
            assert status == 429
            assert 7100 < float(headers["retry-after"]) <= 7200
            status, headers, _ = await served.ask("/v1/messages", ASK)
            assert status == 429
            assert 7100 < float(headers["retry-after"]) <= 7200
            assert len(up.requests) == 1

    kit.run(run)


def test_codex_is_spared_a_short_wait_it_would_not_make(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        def script(request: Any) -> list[Any]:
            if len(up.requests) == 1:
                return refusal(kit, 429, "slow down", (("Retry-After", "0.2"),))
            return [kit.streamed(kit.chat_stream("ok"))]

        async with (
            kit.scripted(script) as up,
            kit.served(tmp_path, providers(a=up.base) + ALONE) as served,
        ):
            begun = time.monotonic()
            status, _, answer = await served.ask("/v1/responses", ASK_CODEX, headers=CODEX)
            assert status == 200
            assert b"response.completed" in answer
            assert time.monotonic() - begun >= 0.2
            assert len(up.requests) == 2

    kit.run(run)


def test_codex_hears_a_dead_provider_as_an_event_not_as_a_status(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.served(tmp_path, providers(a="http://127.0.0.1:1") + ALONE) as served:
            status, headers, answer = await served.ask("/v1/responses", ASK_CODEX, headers=CODEX)
            assert (status, headers["content-type"]) == (200, "text/event-stream")
            assert b"event: response.failed" in answer
            status, _, answer = await served.ask("/v1/responses", ASK_CODEX)
            assert status == 502
            assert "127.0.0.1" not in answer.decode()

    kit.run(run)


def test_a_provider_without_a_key_is_named_with_where_it_was_looked_for(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        toml = '[providers.a]\nkey_env = "NOT_SET"\nwires.chat = "http://127.0.0.1:1/v1"' + ALONE
        async with kit.served(tmp_path, toml) as served:
            status, _, answer = await served.ask("/v1/messages", ASK)
            assert status == 401
            assert "looked in: environment NOT_SET, stored key a" in answer.decode()

    kit.run(run)


def test_a_key_that_cannot_stand_in_a_header_is_not_sent(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.scripted([kit.streamed(kit.chat_stream("ok"))]) as up:
            environment = {"UP_KEY": "good\r\nX-Evil: 1"}
            async with kit.served(tmp_path, providers(a=up.base) + ALONE, environment=environment) as served:
                status, _, answer = await served.ask("/v1/messages", ASK)
                assert status >= 400
                assert "Evil" not in answer.decode()
                assert up.requests == []

    kit.run(run)


def test_requests_wait_their_turn_for_a_key_with_few_places(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        busiest = 0
        busy = 0

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal busy, busiest
            while await kit.read_request(reader, 1) is not None:
                busy += 1
                busiest = max(busiest, busy)
                await asyncio.sleep(0.05)
                busy -= 1
                writer.write(kit.streamed(kit.chat_stream("ok")))
                await writer.drain()

        base = await kit.serve(play)
        toml = providers(a=base).replace("key_env", "max_concurrency = 2\nkey_env") + ALONE
        async with kit.served(tmp_path, toml) as served:
            answers = await asyncio.gather(*(served.ask("/v1/messages", ASK) for _ in range(6)))
            assert [status for status, _, _ in answers] == [200] * 6
            assert busiest == 2

    kit.run(run)


def test_a_client_that_leaves_the_queue_frees_its_place(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.SSE_HEAD, "wait"]) as up,
            kit.served(
                tmp_path, providers(a=up.base).replace("key_env", "max_concurrency = 1\nkey_env") + ALONE
            ) as served,
        ):
            first = asyncio.create_task(served.ask("/v1/messages", ASK))
            await kit.until(lambda: len(up.requests) == 1)
            second = asyncio.create_task(served.ask("/v1/messages", ASK))
            await kit.until(lambda: served.gateway.open_requests == 2)
            second.cancel()
            await kit.until(lambda: served.gateway.open_requests == 1)
            first.cancel()
            await kit.until(lambda: served.gateway.open_requests == 0)
            third = asyncio.create_task(served.ask("/v1/messages", ASK))
            await kit.until(lambda: len(up.requests) == 2)
            third.cancel()
            await asyncio.gather(first, second, third, return_exceptions=True)

    kit.run(run)


def test_missing_reasoning_is_learned_from_the_refusal_and_remembered(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        def script(request: Any) -> list[Any]:
            if b'"reasoning_content"' not in request.body:
                return refusal(
                    kit, 400, "The reasoning_content in the thinking mode must be passed back to the API."
                )
            return [kit.streamed(kit.chat_stream("ok"))]

        history = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]},
        ]
        async with (
            kit.scripted(script) as up,
            kit.served(tmp_path, providers(a=up.base) + ALONE) as served,
        ):
            for expected in (2, 3):
                status, _, _ = await served.ask("/v1/messages", {**ASK, "messages": history})
                assert (status, len(up.requests)) == (200, expected)

    kit.run(run)


def test_a_slow_first_byte_is_no_fault(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        steps = [0.5, kit.streamed(kit.chat_stream("ok"))]
        async with (
            kit.scripted(steps) as up,
            kit.served(tmp_path, providers(a=up.base) + ALONE, silence_s=0.1) as served,
        ):
            status, _, answer = await served.ask("/v1/messages", ASK)
            assert status == 200
            assert b"message_stop" in answer
            assert len(up.requests) == 1

    kit.run(run)


def test_a_reload_changes_what_is_served_and_not_what_is_running(kit: Any, tmp_path: Path) -> None:
    from dragoman.config.load import parse_config
    from dragoman.gateway.runtime import make_runtime

    async def run() -> None:
        begun = kit.chat_stream("old")
        half = begun.index(b'"old"') + 60
        async with (
            kit.scripted(
                [kit.SSE_HEAD + kit.chunk(begun[:half]), 0.3, kit.chunk(begun[half:]) + b"0\r\n\r\n"]
            ) as a,
            kit.scripted([kit.streamed(kit.chat_stream("new"))]) as b,
            kit.served(tmp_path, providers(a=a.base) + ALONE) as served,
        ):
            running = await served.open("/v1/messages", ASK)
            first = await running.read()
            config = parse_config(providers(a=b.base) + ALONE, {"UP_KEY": "k"})
            served.gateway.runtime = make_runtime(config, served.home, {"UP_KEY": "k"})
            _, _, answer = await served.ask("/v1/messages", ASK)
            assert b'"new"' in answer
            rest = await running.read_all(1 << 20)
            assert b"message_stop" in (first or b"") + rest

    kit.run(run)

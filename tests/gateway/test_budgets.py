from __future__ import annotations

import asyncio
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from dragoman.config.schema import Price
from dragoman.config.tokens import TokenLimits, TokenRecord, mint
from dragoman.gateway.budgets import Budgets, cost_usd
from dragoman.wire.events import Usage

PRICE = Price(input=2.0, output=10.0, cache_read=0.2)
USAGE = Usage(input_tokens=1_000_000, cache_read_tokens=400_000, output_tokens=100_000)


def token(**limits: Any) -> TokenRecord:
    return TokenRecord(id="a" * 64, scope="data", created_at=0, limits=TokenLimits(**limits))


def test_money_is_counted_by_the_tariff_with_cached_input_cheaper() -> None:
    assert cost_usd(USAGE, PRICE) == pytest.approx(0.6 * 2 + 0.4 * 0.2 + 0.1 * 10)
    assert cost_usd(USAGE, Price(input=2.0, output=10.0)) == pytest.approx(2 + 1)


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [({"requests": 2}, 2), ({"tokens": 1_500_000}, 2), ({"tokens": 1}, 1), ({"usd": 3.0}, 2)],
)
def test_a_budget_ends_when_it_is_used_up(tmp_path: Path, limits: dict[str, Any], allowed: int) -> None:
    given = 0
    while Budgets(tmp_path).admit(token(**limits), PRICE) is None:  # a new one each time, as after a restart
        given += 1
        Budgets(tmp_path).spend(token(**limits), USAGE, PRICE)
    assert given == allowed
    told = Budgets(tmp_path).admit(token(**limits), PRICE)
    assert told is not None
    assert (told.code, told.retryable) == ("quota_window", False)


def test_a_token_without_limits_touches_no_file(tmp_path: Path) -> None:
    budgets = Budgets(tmp_path / "b")
    assert budgets.admit(token(), None) is None
    budgets.spend(token(), USAGE, None)
    assert not (tmp_path / "b").exists()


def test_a_limit_in_money_needs_a_known_price(tmp_path: Path) -> None:
    told = Budgets(tmp_path).admit(token(usd=1.0), None)
    assert told is not None
    assert "no known price" in told.message


def test_a_torn_file_starts_again_and_files_are_private(tmp_path: Path) -> None:
    budgets = Budgets(tmp_path)
    budgets.admit(token(requests=5), None)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b'{"requests":')
    assert budgets.admit(token(requests=5), None) is None
    assert budgets.used(token(requests=5)).requests == 1


def test_everybody_counts_in_the_same_place(tmp_path: Path) -> None:
    def work() -> None:
        own = Budgets(tmp_path)
        for _ in range(50):
            own.admit(token(requests=10_000), None)
            own.spend(token(requests=10_000), Usage(input_tokens=1, output_tokens=1), None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = Budgets(tmp_path).used(token(requests=1))
    assert (used.requests, used.tokens) == (200, 400)


def test_a_client_is_told_that_its_budget_is_used_up(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.scripted([kit.streamed(kit.chat_stream("ok"))]) as up:
            toml = f'[providers.up]\nwires.chat = "{up.base}/v1"\n[models.m]\nprovider = "up"\n'
            async with kit.served(tmp_path, toml) as served:
                limited = mint(served.home, "data", limits=TokenLimits(tokens=20))
                headers = {"authorization": f"Bearer {limited.secret}"}
                body = {
                    "model": "m",
                    "max_tokens": 9,
                    "stream": True,
                    "messages": [{"role": "user", "content": "hi"}],
                }
                status, _, _ = await served.ask("/v1/messages", body, headers=headers)
                assert status == 200
                status, answered, answer = await served.ask("/v1/messages", body, headers=headers)
                assert (status, answered["x-should-retry"]) == (429, "false")
                assert "budget of 20 tokens" in answer.decode()
                status, _, _ = await served.ask("/v1/messages", body)
                assert status == 200
                assert len(up.requests) == 2
                (refused,) = [row for row in served.rows() if row.outcome == "refused"]
                # By this control learns which price a limit in money lacks.
                assert (refused.provider, refused.upstream_model) == ("up", "m")

    kit.run(run)


def test_requests_that_may_use_up_what_is_left_go_one_after_the_other(tmp_path: Path) -> None:
    async def run() -> None:
        budgets, limited = Budgets(tmp_path), token(tokens=100)
        under_way = most = done = 0

        async def ask(name: str) -> bool:
            nonlocal under_way, most, done
            await budgets.room(limited, name, Usage(input_tokens=40, output_tokens=10), None)
            if budgets.admit(limited, None) is not None:
                budgets.spend(limited, None, None, request=name)
                return False
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001)
            under_way -= 1
            budgets.spend(limited, Usage(input_tokens=8, output_tokens=2), None, request=name)
            return True

        served = await asyncio.gather(*(ask(f"r{n}") for n in range(30)))
        assert (sum(served), budgets.used(limited).tokens) == (10, 100)
        assert most == 2

    asyncio.run(run())


def test_a_request_that_cost_nothing_lets_the_next_go_on(tmp_path: Path) -> None:
    async def run() -> None:
        budgets, limited = Budgets(tmp_path), token(tokens=10)
        guess = Usage(input_tokens=100)
        await budgets.room(limited, "a", guess, None)
        waiting = asyncio.create_task(budgets.room(limited, "b", guess, None))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        budgets.spend(limited, None, None, request="a")
        await waiting
        assert budgets.admit(limited, None) is None

    asyncio.run(run())


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    async def run() -> None:
        budgets, limited = Budgets(tmp_path, queue_s=0.02), token(tokens=10)
        for name in ("a", "b"):
            await budgets.room(limited, name, Usage(input_tokens=100), None)
        assert budgets.admit(limited, None) is None

    asyncio.run(run())


def test_a_disk_that_refuses_is_made_up_for_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.write_text("no folder")  # as a full disk would, it takes nothing
    budgets, limited = Budgets(folder), token(requests=3)
    assert [budgets.admit(limited, None) is None for _ in range(4)] == [True, True, True, False]
    folder.unlink()
    assert budgets.admit(token(requests=4), None) is None  # and writes all of it once it can
    assert Budgets(folder).used(limited).requests == 4


def test_hanging_up_early_does_not_get_around_a_limit(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.scripted([kit.SSE_HEAD, "wait"]) as up:
            toml = f'[providers.up]\nwires.chat = "{up.base}/v1"\n[models.m]\nprovider = "up"\n'
            async with kit.served(tmp_path, toml) as served:
                limited = mint(served.home, "data", limits=TokenLimits(tokens=1000))
                headers = {"authorization": f"Bearer {limited.secret}"}
                body = {
                    "model": "m",
                    "stream": True,
                    "messages": [{"role": "user", "content": "word " * 1000}],
                }
                asking = asyncio.create_task(served.ask("/v1/chat/completions", body, headers=headers))
                await kit.until(lambda: up.requests)
                asking.cancel()
                budgets = Budgets(served.home.state / "budgets")
                await kit.until(lambda: budgets.used(limited.record).tokens >= 1000)

    kit.run(run)

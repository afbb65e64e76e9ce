from __future__ import annotations

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

    kit.run(run)

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dragoman.gateway.keys import Key, KeysExhausted, KeyStates, Lease
from dragoman.gateway.slots import take_slot
from dragoman.wire.errors import Failure, FailureCode, failure


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def keys(*names: str, limit: int | None = None) -> tuple[Key, ...]:
    return tuple(Key("p", name, f"secret-{name}", limit) for name in names)


def states(tmp_path: Path, clock: Clock | None = None, **options: Any) -> KeyStates:
    clock = clock or Clock()
    return KeyStates(tmp_path / "slots", clock=clock, wall=lambda: 1_700_000_000 + clock.now, **options)


def refused(code: FailureCode, **fields: Any) -> Failure:
    return failure(code, "no", **fields)


async def lent(found: KeyStates, ring: tuple[Key, ...], session: str = "") -> Lease:
    return await asyncio.wait_for(found.lease(ring, session=session), 2)


def test_new_sessions_are_spread_over_the_keys_and_old_ones_keep_theirs(tmp_path: Path) -> None:
    async def run() -> None:
        found = states(tmp_path)
        ring = keys("a", "b")
        first = {name: (await lent(found, ring, name)).key.label for name in ("s1", "s2")}
        assert set(first.values()) == {"a", "b"}
        for _ in range(3):
            for name, label in first.items():
                assert (await lent(found, ring, name)).key.label == label

    asyncio.run(run())


def test_a_key_that_was_told_to_slow_down_rests_and_comes_back(tmp_path: Path) -> None:
    async def run() -> None:
        clock = Clock()
        found = states(tmp_path, clock)
        ring = keys("a", "b")
        lease = await lent(found, ring, "s")
        lease.failed(refused("rate", retry_after_s=30))
        other = await lent(found, ring, "s")
        assert other.key != lease.key
        clock.now += 31
        # The session stays with the key that took over: its prompt cache is warm there now.
        assert (await lent(found, ring, "s")).key == other.key
        labels = {(await lent(found, ring)).key.label for _ in range(2)}
        assert labels == {"a", "b"}

    asyncio.run(run())


def test_rest_grows_with_each_refusal_and_ends_with_success(tmp_path: Path) -> None:
    async def run() -> None:
        clock = Clock()
        found = states(tmp_path, clock)
        (key,) = keys("a")
        rests = []
        for _ in range(6):
            found.failed(key, refused("rate"))
            rests.append(found.resting(key))
            clock.now += rests[-1]
        assert rests == [5, 10, 20, 40, 60, 60]
        found.succeeded(key)
        found.failed(key, refused("rate"))
        assert found.resting(key) == 5

    asyncio.run(run())


def test_requests_refused_together_are_one_strike(tmp_path: Path) -> None:
    found = states(tmp_path)
    (key,) = keys("a")
    for _ in range(20):
        found.failed(key, refused("rate"))
    assert found.resting(key) == 5


def test_nobody_waits_long_for_a_key_that_is_refused_again_and_again(tmp_path: Path) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        found = KeyStates(tmp_path / "slots", clock=loop.time, wall=lambda: 1_700_000_000.0)
        ring = keys("a")
        found.failed(ring[0], refused("rate", retry_after_s=0.2))
        waiting = asyncio.create_task(found.lease(ring))
        began = loop.time()
        while not waiting.done() and loop.time() < began + 5:
            await asyncio.sleep(0.05)
            # Others are refused meanwhile, and each time the rest is a short one.
            found.failed(ring[0], refused("rate", retry_after_s=0.2 if loop.time() < began + 1 else 9.5))
        with pytest.raises(KeysExhausted):
            await waiting

    asyncio.run(run())


@pytest.mark.parametrize(
    "code",
    ["invalid", "context", "too_large", "filtered", "not_found", "overloaded", "upstream", "permission"],
)
def test_failures_that_are_not_the_keys_never_rest_it(tmp_path: Path, code: FailureCode) -> None:
    found = states(tmp_path)
    (key,) = keys("a")
    found.failed(key, refused(code))
    assert found.resting(key) == 0


def test_a_used_up_quota_rests_until_the_providers_own_time(tmp_path: Path) -> None:
    async def run() -> None:
        clock = Clock()
        found = states(tmp_path, clock)
        ring = keys("a")
        found.failed(ring[0], refused("quota_window", resets_at=1_700_000_000 + clock.now + 7200))
        with pytest.raises(KeysExhausted) as caught:
            await lent(found, ring)
        told = caught.value.failure
        assert (told.code, told.retryable) == ("quota_window", False)
        assert told.resets_at == pytest.approx(1_700_000_000 + clock.now + 7200)
        assert "7200 s" in told.message
        clock.now += 7201
        assert (await lent(found, ring)).key == ring[0]

    asyncio.run(run())


def test_the_key_that_comes_back_first_is_the_one_told_about(tmp_path: Path) -> None:
    async def run() -> None:
        found = states(tmp_path)
        ring = keys("a", "b")
        found.failed(ring[0], refused("quota_window", resets_at=1_700_000_000 + 1000 + 900))
        found.failed(ring[1], refused("rate", retry_after_s=100))
        with pytest.raises(KeysExhausted) as caught:
            await lent(found, ring)
        assert caught.value.failure.code == "rate"
        assert caught.value.failure.retry_after_s == pytest.approx(100)

    asyncio.run(run())


def test_a_short_rest_is_waited_out(tmp_path: Path) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        found = KeyStates(tmp_path, clock=loop.time, wall=loop.time)
        ring = keys("a")
        found.failed(ring[0], refused("rate", retry_after_s=0.05))
        begun = loop.time()
        await lent(found, ring)
        assert loop.time() - begun >= 0.04

    asyncio.run(run())


def test_the_only_key_is_asked_again_after_it_was_refused(tmp_path: Path) -> None:
    async def run() -> None:
        found = states(tmp_path)
        ring = keys("a", "b")
        for key in ring:
            found.failed(key, refused("auth"))
        assert (await lent(found, ring)).key in ring
        found.succeeded(ring[1])
        assert (await lent(found, ring)).key == ring[1]

    asyncio.run(run())


def test_requests_queue_for_a_busy_key_and_the_longest_waiting_is_first(tmp_path: Path, kit: Any) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        found = KeyStates(tmp_path, clock=loop.time, wall=loop.time)
        ring = keys("a", limit=1)
        held = await lent(found, ring)
        order: list[int] = []

        async def work(number: int) -> None:
            lease = await lent(found, ring)
            order.append(number)
            lease.release()

        tasks = []
        for number in range(3):
            tasks.append(asyncio.create_task(work(number)))
            await asyncio.sleep(0.01)
        assert order == []
        held.release()
        await asyncio.gather(*tasks)
        assert sorted(order) == [0, 1, 2]
        assert order[0] == 0

    asyncio.run(run())


def test_a_queue_that_does_not_move_ends_with_an_error(tmp_path: Path) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        found = KeyStates(tmp_path, clock=loop.time, wall=loop.time, queue_s=0.2)
        ring = keys("a", limit=1)
        await lent(found, ring)
        with pytest.raises(KeysExhausted) as caught:
            await lent(found, ring)
        assert caught.value.failure.code == "overloaded"

    asyncio.run(run())


def test_a_busy_key_gives_way_to_a_free_one_even_for_its_own_session(tmp_path: Path) -> None:
    async def run() -> None:
        found = states(tmp_path)
        ring = keys("a", "b", limit=1)
        first = await lent(found, ring, "s")
        second = await lent(found, ring, "s")
        assert first.key != second.key
        second.release()
        first.release()
        assert (await lent(found, ring, "s")).key == first.key

    asyncio.run(run())


def test_slots_are_counted_over_processes_and_freed_by_death(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from dragoman.gateway.slots import take_slot\n"
        "slot = take_slot(Path(sys.argv[1]), 'k', 2)\n"
        "print('taken' if slot else 'none', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        own = take_slot(tmp_path, "k", 2)
        assert own is not None
        assert take_slot(tmp_path, "k", 2) is None
        assert take_slot(tmp_path, "other", 1) is not None
        own.release()
        own.release()
        own = take_slot(tmp_path, "k", 2)
        assert own is not None
    finally:
        other.kill()
        other.communicate()
    assert take_slot(tmp_path, "k", 2) is not None
    own.release()


def test_a_key_never_shows_its_secret(tmp_path: Path) -> None:
    (key,) = keys("a")
    assert "secret-a" not in repr(key) + key.id
    assert key.id != Key("q", "a", "secret-a").id


def test_no_key_rests_longer_than_a_day_whatever_the_provider_says(tmp_path: Path) -> None:
    found = states(tmp_path)
    (key,) = keys("a")
    found.failed(key, refused("quota_window", resets_at=4_070_908_800))
    assert found.resting(key) == 86_400

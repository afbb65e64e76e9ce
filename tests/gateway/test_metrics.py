from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from dragoman.config.tokens import ensure_control_token
from dragoman.gateway.metrics import Metrics
from dragoman.gateway.spool import UsageRow
from dragoman.process.identity import ProcessIdentity, own_identity

GONE = ProcessIdentity(2**22 + 1, "never")


def row(**fields: Any) -> UsageRow:
    told: dict[str, Any] = {
        "id": "r", "at": 1.0, "client_wire": "messages", "upstream_wire": "chat", "provider": "p",
        "upstream_model": "m", "outcome": "ok", "input_tokens": 10, "output_tokens": 5, "total_ms": 400.0,
        "ttfb_ms": 90.0, "cost_usd": 0.5,
    }  # fmt: skip
    return UsageRow(**(told | fields))


def samples(metrics: Metrics) -> dict[str, float]:
    lines = metrics.text().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def counted(metrics: Metrics, *rows: UsageRow) -> None:
    async def run() -> None:
        for one in rows:
            metrics.count(one)
        metrics.close()

    asyncio.run(run())


REQUESTS = 'dragoman_requests_total{client_wire="messages",upstream_wire="chat",provider="p",model="m"'
TOKENS = 'gen_ai_client_token_usage_total{type="input",provider="p",model="m"}'


def test_requests_are_counted_by_how_they_ended_with_tokens_money_and_time(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, state=lambda: (3, 2))
    counted(metrics, row(), row(total_ms=700.0), row(outcome="failed", failure="rate", retries=2))
    told = samples(metrics)
    assert told[f'{REQUESTS},outcome="ok"}}'] == 2
    assert told[f'{REQUESTS},outcome="failed"}}'] == 1
    assert told['dragoman_request_failures_total{provider="p",code="rate"}'] == 1
    assert told['dragoman_upstream_retries_total{provider="p"}'] == 2
    assert (told[TOKENS], told['dragoman_cost_usd_total{provider="p",model="m"}']) == (30, 1.5)
    duration = "gen_ai_server_request_duration_seconds"
    buckets = [told[f'{duration}_bucket{{provider="p",le="{le}"}}'] for le in ("0.1", "0.5", "1", "+Inf")]
    assert buckets == [0, 2, 3, 3]
    assert told[f'{duration}_count{{provider="p"}}'] == 3
    assert (told["dragoman_requests_open"], told["dragoman_usage_rows_lost_total"]) == (3, 2)


def test_processes_are_summed_and_what_has_ended_is_never_lost_nor_counted_twice(tmp_path: Path) -> None:
    for _ in range(2):
        counted(Metrics(tmp_path, identity=GONE), row())
    living = Metrics(tmp_path, identity=own_identity())
    counted(living, row())
    asked = Metrics(tmp_path)
    for _ in range(2):
        told = samples(asked)
        assert (told[TOKENS], told["dragoman_gateway_processes"]) == (40 - 10, 2)
    assert len(list(tmp_path.glob(f"{GONE.pid}-*"))) == 0
    assert samples(Metrics(tmp_path, identity=GONE))[TOKENS] == 30


def test_names_that_clients_make_up_are_bounded_and_harmless(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    counted(metrics, row(upstream_model='a"b\\c\nd'), *(row(upstream_model=f"m{n}") for n in range(300)))
    told = samples(metrics)
    assert sum(name.startswith("dragoman_requests_total") for name in told) == 201
    assert r"a\"b\\c\nd" in metrics.text().decode()


def test_a_disk_that_refuses_or_a_torn_file_costs_no_answer(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.write_text("no folder")
    metrics = Metrics(folder)
    counted(metrics, row())
    assert samples(metrics)[TOKENS] == 10
    folder.unlink()
    folder.mkdir()
    (folder / "1-torn.json").write_text('{"pid": 1, "sam')
    assert samples(metrics)[TOKENS] == 10


def test_a_control_token_sees_them_and_no_other(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.scripted([kit.streamed(kit.chat_stream("ok"))]) as up:
            toml = f'[providers.up]\nwires.chat = "{up.base}/v1"\n[models.m]\nprovider = "up"\n'
            async with kit.served(tmp_path, toml, control=tmp_path / "none.sock") as served:
                body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "my plan"}]}
                assert (await served.ask("/v1/chat/completions", body))[0] == 200
                control = {"authorization": f"Bearer {ensure_control_token(served.home)}"}
                status, headers, told = await served.ask("/metrics", headers=control)
                assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
                assert "x-dragoman-request-id" in headers
                assert b'type="input",provider="up",model="m"} 14\n' in told
                assert b"my plan" not in told
                assert (await served.ask("/metrics"))[0] == 403
                assert (await served.ask("/metrics", headers={"authorization": ""}))[0] == 401

    kit.run(run)

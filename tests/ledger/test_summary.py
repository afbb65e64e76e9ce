"""The ledger adds up to the token, however it is asked."""

from __future__ import annotations

import pytest

from dragoman.ledger.intake import take_in
from dragoman.ledger.retention import fold
from dragoman.ledger.summary import Asked, By, UsageSummary, summarize

DAY = 86_400
NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC


@pytest.fixture
def filled(database, spool, row, lines):
    """Four requests of two runs, models, days, clients and sessions."""
    codex = "codex_exec/0.163"
    rows = [
        row(1, at=NOON, run="r", session="s1", input_tokens=100, cache_read_tokens=60, output_tokens=7,
            gateway_ms=1.5, total_ms=90.0, cost_usd=0.25, price_source="tariff", key="env:K"),
        row(2, at=NOON + 1, run="r", session="s1", input_tokens=50, output_tokens=3, reasoning_tokens=2,
            outcome="failed", price_source="plan"),
        row(3, at=NOON - DAY, run="r", session="s2", model="other", input_tokens=1, usage_source="none",
            upstream_wire="messages", outcome="client_left", client=codex),
        row(4, at=NOON - 9 * DAY, run="another", input_tokens=1_000_000, client=codex,
            usage_source="estimated", provider="deepseek"),
    ]  # fmt: skip
    (spool / "1.jsonl").write_bytes(lines(rows))
    take_in(database, spool)
    return database


def test_tokens_are_added_up_by_model_and_in_all(filled):
    summary = summarize(filled, Asked(runs=("r",)))
    assert [(m.model, m.requests, m.input_tokens, m.output_tokens) for m in summary.by_model] == [
        ("glm-5.2", 2, 150, 10),
        ("other", 1, 1, 0),
    ]
    total = summary.total
    assert (total.requests, total.failed, total.cancelled, total.unreported) == (3, 2, 1, 1)
    assert (total.input_tokens, total.cache_read_tokens, total.reasoning_tokens) == (151, 60, 2)
    assert (total.total_ms, total.gateway_ms) == (90.0, 1.5)
    assert total.upstream_wires == ("chat", "messages")
    assert (total.first_at, total.last_at) == (NOON - DAY, NOON + 1)
    assert summarize(filled).total.requests == 4


def test_money_is_only_what_has_a_price_and_the_rest_is_said(filled):
    total = summarize(filled).total
    assert (total.cost_usd, total.priced, total.plan, total.unpriced) == (0.25, 1, 1, 1)
    assert summarize(filled, Asked(model="other")).total.cost_usd is None


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("client", {"claude-cli": 2, "codex_exec": 2}),
        ("session", {"s1": 2, "s2": 1, "": 1}),
        ("run", {"r": 3, "another": 1}),
        ("job", {"job-1": 3, "another": 1}),
        ("key", {"env:K": 1, "": 3}),
        ("provider", {"zai": 3, "deepseek": 1}),
        ("day", {"2023-11-06": 1, "2023-11-14": 1, "2023-11-15": 2}),
    ],
)
def test_it_is_grouped_as_asked(filled, by, expected):
    summary = summarize(filled, by=by, job_of={"r": "job-1"})
    found: dict[str, int] = {}
    for usage in summary.groups:
        found[usage.name] = found.get(usage.name, 0) + usage.requests
    assert found == expected
    assert sum(usage.input_tokens for usage in summary.groups) == summary.total.input_tokens


def test_a_time_and_every_other_filter_bounds_what_counts(filled):
    def count(**asked: object) -> int:
        return summarize(filled, Asked(**asked)).total.requests  # pyright: ignore[reportArgumentType]

    assert count(since=NOON) == 2
    assert count(until=NOON) == 2
    assert count(since=NOON - 2 * DAY, until=NOON) == 1
    assert count(client="codex_exec") == 2
    assert count(client="codex") == 0
    assert count(session="s1", model="glm-5.2") == 2
    assert count(runs=("r", "another")) == 4
    assert count(runs=()) == 0


def test_old_rows_become_daily_sums_that_say_the_same(filled, spool, row, lines):
    kinds: tuple[By, ...] = ("model", "day", "client", "provider", "key")
    before: dict[By, UsageSummary] = {by: summarize(filled, by=by) for by in kinds}
    planned = fold(filled, 5, execute=False, wall=lambda: NOON)
    assert (planned.rows, planned.days, planned.before) == (1, 1, "2023-11-10")
    assert summarize(filled, Asked(runs=("another",))).total.requests == 1
    fold(filled, 5, execute=True, wall=lambda: NOON)
    assert summarize(filled, Asked(runs=("another",))).total.requests == 0  # sums know no runs
    for by, was in before.items():
        now = summarize(filled, by=by)
        assert [(g.name, g.requests, g.input_tokens, g.cost_usd) for g in now.groups] == [
            (g.name, g.requests, g.input_tokens, g.cost_usd) for g in was.groups
        ]
    assert summarize(filled, Asked(since=NOON - 9 * DAY, until=NOON - 8 * DAY)).total.requests == 1
    # A late row of a day that was folded is added to its sums the next time.
    (spool / "late.jsonl").write_bytes(
        lines([row(5, at=NOON - 9 * DAY, input_tokens=5, client="codex_exec/0.163", provider="deepseek",
                   cost_usd=0.5, price_source="tariff")])
    )  # fmt: skip
    take_in(filled, spool)
    fold(filled, 5, execute=True, wall=lambda: NOON)
    (deepseek,) = [usage for usage in summarize(filled).by_model if usage.provider == "deepseek"]
    assert (deepseek.requests, deepseek.input_tokens, deepseek.cost_usd) == (2, 1_000_005, 0.5)
    assert fold(filled, 5, execute=True, wall=lambda: NOON).rows == 0


def test_nothing_is_folded_unless_days_are_set(filled):
    assert fold(filled, 0, execute=True, wall=lambda: NOON).rows == 0
    assert summarize(filled, Asked(runs=("another",))).total.requests == 1


def test_a_row_that_was_folded_does_not_come_back_from_a_file_that_is_still_there(
    database, spool, row, lines
):
    import fcntl

    with (spool / "1.jsonl").open("wb", buffering=0) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(lines([row(1, at=NOON - 9 * DAY, input_tokens=3)]))
        take_in(database, spool)
        fold(database, 5, execute=True, wall=lambda: NOON)
        take_in(database, spool)
        fold(database, 5, execute=True, wall=lambda: NOON)
    take_in(database, spool)
    assert summarize(database).total.input_tokens == 3

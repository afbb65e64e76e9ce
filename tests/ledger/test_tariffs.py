"""What tokens cost at a minute is what the price list says it costs at that minute."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from genai_prices import Usage, calc_price
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.catalog.tariffs import Rates, Tariff, Tier, Window, cost_usd, look_up
from dragoman.config.load import parse_config
from dragoman.config.paths import resolve_home
from dragoman.config.schema import Price
from dragoman.gateway.routes import RouteTable
from dragoman.gateway.tariffs import TariffFile, Tariffs
from dragoman.ledger.intake import Intake
from dragoman.ledger.summary import summarize
from dragoman.ledger.tariffs import (
    ensure_tariffs,
    is_written,
    plan_tariffs,
    price_again,
    price_by,
    run_order,
    seen_pairs,
    tariffs_file,
    unpriced_pairs,
)
from dragoman.wire.events import Usage as Tokens

PLACES = {
    "deepseek": ("https://api.deepseek.com", ["deepseek-v4-pro", "deepseek-v4-flash"]),
    "openai": ("https://api.openai.com/v1", ["gpt-5.5", "gpt-5.5-pro"]),
    "anthropic": ("https://api.anthropic.com", ["claude-opus-4-6", "claude-opus-4-8"]),
    "zai": ("https://api.z.ai/api/paas/v4", ["glm-5.2"]),
    "openrouter": ("https://openrouter.ai/api/v1", ["deepseek/deepseek-v4-pro", "z-ai/glm-5.2"]),
}
FOUND = {name: look_up([address], models) for name, (address, models) in PLACES.items()}
PRICED = [(name, model) for name, (_, models) in PLACES.items() for model in models]


@settings(max_examples=200, deadline=None)
@given(
    place=st.sampled_from(PRICED),
    at=st.datetimes(datetime(2025, 1, 1), datetime(2027, 6, 1)),
    input_tokens=st.integers(0, 1_200_000),
    parts=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    output_tokens=st.integers(0, 130_000),
)
def test_every_sum_is_the_price_lists_own(place, at, input_tokens, parts, output_tokens):
    provider, model = place
    tariff = FOUND[provider][model]
    if tariff is None:
        pytest.fail(f"the list has no price for {model}")
    at = at.replace(tzinfo=UTC)
    read, write = (int(input_tokens * part) for part in parts)
    theirs = calc_price(
        Usage(
            input_tokens=input_tokens,
            cache_read_tokens=read,
            cache_write_tokens=write,
            output_tokens=output_tokens,
        ),
        model_ref=model,
        provider_id=provider,
        genai_request_timestamp=at,
    ).total_price
    tokens = Tokens(
        input_tokens=input_tokens,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_tokens=output_tokens,
    )
    ours = cost_usd(tokens, tariff.rates(at.timestamp(), input_tokens))
    assert Decimal(ours) == pytest.approx(theirs, rel=Decimal("1e-9"), abs=Decimal("1e-12"))


def at(hour: int, minute: int, day: int = 1) -> float:
    return datetime(2026, 9, day, hour, minute, tzinfo=UTC).timestamp()


def test_a_window_begins_with_its_minute_and_ends_before_its_end():
    tariff = FOUND["deepseek"]["deepseek-v4-pro"]
    assert tariff is not None
    off_peak, peak = (0.66, 1.98, 0.022), (1.32, 3.96, 0.044)
    times = {
        (0, 59): off_peak,
        (1, 0): peak,
        (3, 59): peak,
        (4, 0): off_peak,
        (6, 0): peak,
        (10, 0): off_peak,
    }
    for (hour, minute), expected in times.items():
        rates = tariff.rates(at(hour, minute))
        assert (rates.input, rates.output, rates.cache_read) == expected, (hour, minute)


def test_a_window_may_go_past_midnight():
    day, night = Rates(2.0, 4.0), Rates(1.0, 2.0)
    tariff = Tariff((Window(day), Window(night, from_s=22 * 3600, until_s=6 * 3600)))
    assert [tariff.rates(at(hour, 0)).input for hour in (21, 22, 23, 0, 5, 6)] == [2, 1, 1, 1, 1, 2]


def test_a_long_prompt_costs_its_tier_for_all_its_tokens():
    tariff = Tariff((Window(Rates(1.0, 2.0), (Tier(1000, Rates(3.0, 4.0)),)),))
    assert tariff.rates(0.0, 1000).input == 1.0
    assert tariff.rates(0.0, 1001) == Rates(3.0, 4.0)


def test_an_unknown_name_and_an_unknown_place_have_no_price():
    assert look_up(["https://api.deepseek.com"], ["nonsense"])["nonsense"] is None
    assert look_up(["http://127.0.0.1:9901/v1"], ["gpt-5.5"]) == {"gpt-5.5": None}


CONFIG = """
[providers.zai]
[providers.deepseek]
[providers.mock]
wires.chat = "http://127.0.0.1:9901/v1"
[models.m]
provider = "mock"
[models.p]
provider = "mock"
price = { input = 1.0, output = 2.0 }
"""


@pytest.fixture
def home(tmp_path):
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path / "home")})
    home.ensure()
    return home


@dataclass
class Place:
    """What of a route decides its price."""

    provider: str
    upstream_model: str
    price: Price | None = None
    embedded: bool = False


def test_a_process_of_its_own_writes_the_tariffs_and_a_gateway_reads_them(home):
    routes = RouteTable(parse_config(CONFIG, {}))
    order = plan_tariffs(home, routes)
    assert not is_written(order)
    assert run_order(order) is None
    assert is_written(order)
    assert is_written(plan_tariffs(home, routes))
    assert not is_written(plan_tariffs(home, routes, seen=[("mock", "another")]))
    assert tariffs_file(home).stat().st_mode & 0o077 == 0
    tariffs = Tariffs(tariffs_file(home))
    when = at(2, 0)
    assert tariffs.price_of(Place("zai", "glm-5.2"), when) == (None, "plan")
    assert tariffs.price_of(Place("mock", "m"), when) == (None, "")
    said = Price(input=1.0, output=2.0)
    assert tariffs.price_of(Place("mock", "p", said), when) == (said, "config")
    assert tariffs.price_of(Place("rehearsal", "x", embedded=True), when) == (Rates(0.0, 0.0), "embedded")
    peak, why = tariffs.price_of(Place("deepseek", "deepseek-v4-pro"), when)
    assert peak is not None
    assert (peak.input, why) == (1.32, "tariff")


def test_whoever_needs_prices_before_control_runs_has_them_written_once(home):
    routes = RouteTable(parse_config(CONFIG, {}))
    assert ensure_tariffs(home, routes) is None
    first = tariffs_file(home).stat()
    assert ensure_tariffs(home, routes) is None
    # Control has added a model that was seen: nothing is taken back.
    assert run_order(plan_tariffs(home, routes, seen=[("mock", "seen")])) is None
    second = tariffs_file(home).stat()
    assert ensure_tariffs(home, routes) is None
    assert first.st_ino != second.st_ino == tariffs_file(home).stat().st_ino


def test_a_look_up_that_fails_is_told_and_what_was_known_stays(home):
    order = plan_tariffs(home, RouteTable(parse_config(CONFIG, {})))
    tariffs_file(home).write_text('{"key":"old"}')
    assert run_order(order, python="/nonexistent/python") == "FileNotFoundError"
    assert json.loads(tariffs_file(home).read_text()) == {"key": "old"}


def test_a_torn_or_missing_file_changes_no_price_that_was_known(tmp_path):
    file, now = tmp_path / "tariffs.json", 0.0
    tariffs = Tariffs(file, clock=lambda: now)
    assert tariffs.price_of(Place("a", "m"), 0.0) == (None, "")
    table = TariffFile(prices={"a": {"m": Tariff((Window(Rates(1.0, 2.0)),))}})
    file.write_bytes(msgspec.json.encode(table))
    assert tariffs.price_of(Place("a", "m"), 0.0) == (None, "")  # looked a moment ago
    now = 10.0
    assert tariffs.price_of(Place("a", "m"), 0.0) == (Rates(1.0, 2.0), "tariff")
    file.write_text("{torn")
    now = 20.0
    assert tariffs.price_of(Place("a", "m"), 0.0) == (Rates(1.0, 2.0), "tariff")


def test_rows_without_a_price_get_the_one_of_their_own_minute_once_it_is_known(
    home, database, spool, row, lines
):
    pro = {"provider": "deepseek", "upstream_model": "deepseek-v4-pro", "input_tokens": 1_000_000}
    rows = [
        row(1, at=at(0, 30), **pro),
        row(2, at=at(2, 0), **pro),
        row(3, at=at(2, 0), **pro, usage_source="none"),
        row(4, provider="mock", upstream_model="m", input_tokens=5),
        row(5, provider="zai", input_tokens=5, price_source="plan"),
    ]
    (spool / "1.jsonl").write_bytes(lines(rows))
    tariffs = Tariffs(tariffs_file(home), clock=lambda: 0.0)
    Intake(database, spool, price=price_by(tariffs)).take_in()
    assert summarize(database).total.unpriced == 3
    assert unpriced_pairs(database) == {("deepseek", "deepseek-v4-pro"), ("mock", "m")}
    assert seen_pairs(database) == unpriced_pairs(database) | {("zai", "glm-5.2")}
    routes = RouteTable(parse_config(CONFIG, {}))
    assert run_order(plan_tariffs(home, routes, seen=seen_pairs(database))) is None
    tariffs.look_again()
    assert price_again(database, tariffs, unpriced_pairs(database)) == 2
    total = summarize(database).total
    assert total.cost_usd == pytest.approx(0.66 + 1.32)
    assert (total.priced, total.unpriced, total.plan) == (2, 1, 1)
    # And a row that comes later is priced as it comes in.
    (spool / "2.jsonl").write_bytes(lines([row(6, at=at(12, 0), **pro)]))
    Intake(database, spool, price=price_by(tariffs)).take_in()
    assert summarize(database).total.cost_usd == pytest.approx(0.66 + 1.32 + 0.66)

"""What the ledger says, over the control API."""

from __future__ import annotations

import msgspec
import pytest

from dragoman.config.load import parse_config
from dragoman.control import bookkeeping
from dragoman.control.bookkeeping import Books
from dragoman.gateway.spool import LostRows, UsageRow
from dragoman.store.address import database_address
from dragoman.store.database import Database

NOW = 1_700_000_000.0
DAY = 86_400


def usage_row(number: int, **fields) -> UsageRow:
    base = {
        "id": f"r{number}",
        "at": NOW - number,
        "client": "claude-cli/2.1.329",
        "client_wire": "chat",
        "model": "m",
        "upstream_model": "m",
        "provider": "mock",
        "input_tokens": 10,
        "usage_source": "reported",
        "outcome": "ok",
        "status": 200,
    }
    return msgspec.convert({**base, **fields}, UsageRow)


@pytest.fixture
def write(home):
    def write(name: str, *rows) -> None:
        (home.spool / name).write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    return write


def test_usage_is_grouped_and_bounded_as_asked(ask, write):
    write(
        "1.jsonl",
        usage_row(1, run="a", session="s"),
        usage_row(2, run="b", client="codex_exec/0.163"),
        usage_row(3, at=NOW - 3 * DAY, model="old", cost_usd=0.5, price_source="config"),
        LostRows(id="l", lost=4, since=NOW - 9, until=NOW - 8),
    )
    said = ask("GET", "/api/v1/usage?by=client").json()
    assert {group["name"]: group["requests"] for group in said["groups"]} == {
        "claude-cli": 2,
        "codex_exec": 1,
    }
    assert (said["by"], said["total"]["requests"], said["lost_requests"]) == ("client", 3, 4)
    assert [group["name"] for group in ask("GET", "/api/v1/usage?by=day").json()["groups"]] == [
        "2023-11-11",
        "2023-11-14",
    ]
    assert ask("GET", "/api/v1/usage?since=1d").json()["total"]["requests"] == 2
    assert ask("GET", "/api/v1/usage?until=2023-11-12").json()["total"]["cost_usd"] == 0.5
    assert ask("GET", f"/api/v1/usage?since={NOW - 1.5}").json()["total"]["requests"] == 1
    assert ask("GET", "/api/v1/usage?run=a&run=b").json()["total"]["requests"] == 2
    assert ask("GET", "/api/v1/usage?session=s").json()["total"]["requests"] == 1
    assert ask("GET", "/api/v1/usage?client=codex_exec").json()["total"]["requests"] == 1


@pytest.mark.parametrize("query", ["by=mood", "since=yesterday", "until=2023-13-40"])
def test_a_question_that_makes_no_sense_is_told(ask, query):
    answer = ask("GET", f"/api/v1/usage?{query}")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "bad_request")


def test_a_row_written_a_moment_ago_is_in_the_answer(ask, write):
    assert ask("GET", "/api/v1/usage").json()["total"]["requests"] == 0
    write("1.jsonl", usage_row(1))
    assert ask("GET", "/api/v1/usage").json()["total"]["requests"] == 1
    write("2.jsonl", usage_row(1), usage_row(2))
    assert ask("GET", "/api/v1/usage").json()["total"]["requests"] == 2


def test_a_locked_database_is_an_answer_that_says_so_and_the_rows_wait(ask, write, home, monkeypatch):
    assert ask("GET", "/api/v1/usage").status_code == 200
    write("1.jsonl", usage_row(1))
    other = Database(database_address(home, {}))
    with other.write():
        answer = ask("GET", "/api/v1/usage")
        assert (answer.status_code, answer.json()["error_code"]) == (503, "store_unavailable")
    assert ask("GET", "/api/v1/usage").json()["total"]["requests"] == 1
    other.close()


CONFIG = """
[providers.deepseek]
[providers.mock]
wires.chat = "http://127.0.0.1:9/v1"
"""


def test_tariffs_are_written_once_and_again_when_the_configuration_or_the_models_change(
    home, write, monkeypatch
):
    orders = []
    real = bookkeeping.run_order
    monkeypatch.setattr(bookkeeping, "run_order", lambda order: orders.append(order) or real(order))
    home.config_file.write_text(CONFIG)
    now = 0.0
    books = Books(
        home,
        Database(database_address(home, {})),
        read_config=lambda: parse_config(home.config_file.read_text(), {}),
        clock=lambda: now,
    )

    def look() -> int:
        books.take_in()
        books.upkeep()
        return len(orders)

    assert look() == 1
    assert look() == 1
    # A listed model, priced at once; one nobody listed, which is looked up when it is seen; and nonsense.
    write(
        "1.jsonl",
        usage_row(1, provider="deepseek", upstream_model="deepseek-v4-pro", input_tokens=10**6),
        usage_row(2, provider="deepseek", upstream_model="deepseek-v4-pro-2026", input_tokens=10**6),
        usage_row(3, provider="mock", upstream_model="m"),
    )
    assert look() == 1  # not so soon after the last time
    now = 100.0
    assert look() == 2
    assert {"deepseek-v4-pro", "deepseek-v4-pro-2026"} <= set(orders[1].providers["deepseek"].models)
    assert orders[1].providers["mock"].models == ("m",)
    now = 300.0
    write("2.jsonl", usage_row(4, provider="mock", upstream_model="m"))
    assert look() == 2  # looked up before, in vain
    total = books.usage(bookkeeping.Asked()).total
    assert (total.priced, total.unpriced) == (2, 2)
    assert total.cost_usd == pytest.approx(2 * 0.435)  # of November 2023: the list's oldest
    home.config_file.write_text(CONFIG + '[providers.zai]\nkey_env = "NO_SUCH_KEY"\n')
    assert look() == 3
    assert orders[2].plans == ("zai",)
    books.database.close()


def test_other_rooms_are_told_that_rows_came_in(home, write):
    told = []
    books = Books(home, Database(database_address(home, {})), on_rows=told.append)
    write("1.jsonl", usage_row(1), usage_row(2))
    books.take_in()
    books.take_in()
    assert told == [2]
    assert books.usage_of_runs(["nobody"]).total.requests == 0
    books.database.close()

"""`usage`, `quota` and `gc`, as people and programs see them."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from dragoman.cli import usage as module


def group(name: str, **fields: Any) -> dict[str, Any]:
    base = dict.fromkeys(module._COLUMNS, 0) | {"name": name, "provider": "*", "cost_usd": None}
    return base | {"requests": 1} | fields


class FakeControl:
    """Answers from a table and keeps the questions."""

    answers: dict[str, Any]
    asked: list[tuple[str, str, dict[str, Any]]]

    def __enter__(self) -> FakeControl:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def get(self, path: str, **query: Any) -> Any:
        self.asked.append(("GET", path, query))
        return self.answers[path]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        self.asked.append(("POST", path, body))
        return {**self.answers[path], "dry_run": False}


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> FakeControl:
    fake = FakeControl()
    fake.asked = []
    groups = [
        group(
            "glm-5.2", provider="zai", requests=7, failed=2, input_tokens=1_234_567, output_tokens=500, plan=6
        ),
        group("m", provider="mock", input_tokens=10, cost_usd=0.0123, unpriced=2),
        group("free", provider="rehearsal", cost_usd=0.0),
        group("?", unpriced=1),
    ]
    total = group("*", requests=9, input_tokens=1_234_577, cost_usd=0.0123, plan=6, unpriced=3)
    total |= {"unreported": 3, "estimated": 1}
    fake.answers = {
        "/usage": {"by": "model", "groups": groups, "total": total, "lost_requests": 4, "by_model": groups},
        "/quota": {
            "providers": [
                {"provider": "zai", "status": "ok", "plan": "pro", "reason": None, "windows": [
                    {"name": "5h", "used_percent": 50.0, "used": 200, "limit": 400, "resets_at": 1.7e9},
                ]},
                {"provider": "x", "status": "unavailable", "plan": None, "reason": "no key", "windows": []},
            ]
        },
        "/gc": {
            "dry_run": True,
            "bytes": 3 << 20,
            "sweeps": [
                {"what": "runs", "rule": "30 days", "bytes": 3 << 20, "error": None, "items": [
                    {"id": "r1", "bytes": 3 << 20, "reason": "old", "kept": False},
                    {"id": "r2", "bytes": 5, "reason": "it runs", "kept": True},
                ]},
                {"what": "ledger", "rule": "", "bytes": 0, "error": "locked", "items": []},
            ],
        },
    }  # fmt: skip
    monkeypatch.setattr(module, "_control", lambda: fake)
    return fake


def test_usage_is_a_table_that_never_shows_a_zero_for_a_price_it_does_not_know(control: FakeControl) -> None:
    done = CliRunner().invoke(module.usage, [])
    assert done.exit_code == 0
    lines = {line.split()[0]: line for line in done.output.splitlines() if line.split()}
    assert lines["glm-5.2"].split() == ["glm-5.2", "zai", "7", "2", "1.2M", "0", "500", "plan"]
    assert lines["m"].split()[-2:] == ["$0.0123", "+"]
    assert "$0.00" in lines["free"]
    assert "$" not in lines["?"]
    assert lines["?"].split()[-1] == "?"
    assert lines["total"].split()[-2:] == ["$0.0123", "+"]
    assert "6 requests: a plan pays for them" in done.output
    assert "3 requests: price not known" in done.output
    assert "1 requests: tokens estimated" in done.output
    assert "2 requests: nothing known" in done.output
    assert "4 requests are missing here: the disk was full" in done.output


def test_every_filter_reaches_the_control_api(control: FakeControl) -> None:
    words = ["--by", "day", "--since", "7d", "--run", "a", "--run", "b", "--client", "codex_exec", "--json"]
    assert CliRunner().invoke(module.usage, words).exit_code == 0
    assert control.asked == [
        ("GET", "/usage", {"by": "day", "since": "7d", "run": ["a", "b"], "client": "codex_exec"})
    ]


def test_usage_as_json_is_what_the_api_said_and_as_csv_one_line_a_group(control: FakeControl) -> None:
    done = CliRunner().invoke(module.usage, ["--json"])
    assert json.loads(done.output) == control.answers["/usage"]
    done = CliRunner().invoke(module.usage, ["--csv"])
    rows = list(csv.DictReader(io.StringIO(done.output)))
    assert [row["name"] for row in rows] == ["glm-5.2", "m", "free", "?"]
    assert (rows[0]["input_tokens"], rows[0]["cost_usd"], rows[2]["cost_usd"]) == ("1234567", "", "0.0")
    assert CliRunner().invoke(module.usage, ["--csv", "--json"]).exit_code == 2


def test_at_a_terminal_there_is_a_chart_of_days(
    control: FakeControl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    days = [group("2026-01-01", input_tokens=10), group("2026-01-02", input_tokens=40, output_tokens=60)]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    table = control.answers["/usage"]
    control.get = lambda path, **query: {**table, "groups": days} if query["by"] == "day" else table  # type: ignore[method-assign]
    module.usage.main([], standalone_mode=False)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    bars = [line for line in shown.splitlines() if line.startswith("2026-01")]
    lengths = [line.count("█") + line.count("#") for line in bars]
    assert len(bars) == 2
    assert lengths[1] > 5 * lengths[0] > 0


def test_nothing_used_is_said(control: FakeControl) -> None:
    control.answers["/usage"] = {
        "by": "model",
        "groups": [],
        "total": group("*", requests=0),
        "lost_requests": 0,
    }
    assert CliRunner().invoke(module.usage, []).output.strip() == "nothing was used in that time"


def test_quota_shows_windows_and_reasons_and_fails_when_nobody_says_anything(control: FakeControl) -> None:
    done = CliRunner().invoke(module.quota, ["zai", "--fresh"], standalone_mode=False)
    assert done.return_value == 0
    assert "50.0 % used  200 of 400  resets 2023-11-1" in done.output
    assert "x  no key" in done.output
    assert control.asked == [("GET", "/quota", {"provider": "zai", "fresh": "1"})]
    control.answers["/quota"]["providers"].pop(0)
    assert CliRunner().invoke(module.quota, ["--json"], standalone_mode=False).return_value == 1


def test_gc_only_says_what_would_go_until_it_is_told_to(control: FakeControl) -> None:
    done = CliRunner().invoke(module.gc, [], standalone_mode=False)
    assert done.return_value == 1  # the ledger could not be looked at
    assert "runs        1 would go, 3.0 MiB  (kept: 30 days)" in done.output
    assert "keep r2" in done.output
    assert "ledger      locked" in done.output
    assert "nothing was done: add --execute" in done.output
    done = CliRunner().invoke(module.gc, ["--execute"], standalone_mode=False)
    assert "1 gone" in done.output
    assert [method for method, *_ in control.asked] == ["GET", "POST"]

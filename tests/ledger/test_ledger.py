"""The ledger reads whole rows once and adds them up to the token."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dragoman.gateway.spool import UsageRow
from dragoman.ledger.reading import read_rows
from dragoman.ledger.summary import summarize


def _row(number: int, **fields: object) -> UsageRow:
    base: dict[str, object] = {
        "id": f"req-{number}",
        "at": 1_700_000_000.0 + number,
        "client_wire": "messages",
        "upstream_wire": "chat",
        "model": "glm-5.2",
        "provider": "zai",
        "outcome": "ok",
        "usage_source": "reported",
    }
    return msgspec.convert({**base, **fields}, UsageRow)


def _write(file: Path, rows: list[UsageRow], tail: bytes = b"") -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows) + tail)


def test_rows_of_several_files_are_read_once_each(tmp_path: Path) -> None:
    _write(tmp_path / "spool" / "1-a.jsonl", [_row(1), _row(2)])
    _write(tmp_path / "spool" / "2-b.jsonl", [_row(2), _row(3)])
    assert [row.id for row in read_rows(tmp_path / "spool")] == ["req-1", "req-2", "req-3"]


def test_a_torn_tail_and_a_broken_line_are_passed_over(tmp_path: Path) -> None:
    whole = msgspec.json.encode(_row(9))
    _write(tmp_path / "spool" / "1.jsonl", [_row(1)], tail=b'{"nonsense"\n' + whole + b"\n" + whole[:20])
    assert [row.id for row in read_rows(tmp_path / "spool")] == ["req-1", "req-9"]


def test_fields_of_a_newer_gateway_are_ignored(tmp_path: Path) -> None:
    newer = msgspec.json.encode({**msgspec.to_builtins(_row(1)), "mood": "fine"})
    _write(tmp_path / "spool" / "1.jsonl", [], tail=newer + b"\n")
    assert [row.id for row in read_rows(tmp_path / "spool")] == ["req-1"]


def test_a_spool_that_is_not_there_yet_has_no_rows(tmp_path: Path) -> None:
    assert list(read_rows(tmp_path / "nothing")) == []


def test_tokens_are_added_up_by_model_and_in_all() -> None:
    rows = [
        _row(
            1, run="r", input_tokens=100, cache_read_tokens=60, output_tokens=7, gateway_ms=1.5, total_ms=90.0
        ),
        _row(2, run="r", input_tokens=50, output_tokens=3, reasoning_tokens=2, outcome="failed"),
        _row(3, run="r", model="other", input_tokens=1, usage_source="none", upstream_wire="messages"),
        _row(4, run="another", input_tokens=1_000_000),
    ]
    summary = summarize(rows, run="r")
    assert [(m.model, m.requests, m.input_tokens, m.output_tokens) for m in summary.by_model] == [
        ("glm-5.2", 2, 150, 10),
        ("other", 1, 1, 0),
    ]
    total = summary.total
    assert (total.requests, total.failed, total.unreported) == (3, 1, 1)
    assert (total.input_tokens, total.cache_read_tokens, total.reasoning_tokens) == (151, 60, 2)
    assert (total.total_ms, total.gateway_ms) == (90.0, 1.5)
    assert set(total.upstream_wires) == {"chat", "messages"}
    assert summarize(rows).total.requests == 4

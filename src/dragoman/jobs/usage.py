"""What the gateways counted for one run, read from their spool while it is there.

The ledger has the whole truth, prices included, and whoever shows a result later asks it. A runner must not
open a database, and a run's rows are still in its gateway's current spool file when it ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragoman.gateway.spool import UsageRow
from dragoman.ledger.reading import read_lines

_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def count_usage(spool: Path, run_id: str, *, since: float) -> dict[str, Any]:
    """Requests and tokens of a run, all together and by model.

    Parameters:
        spool: the spool folder; it need not exist.
        run_id: whose requests.
        since: Unix seconds when the run began: files not touched since are not read.
    """
    seen: set[str] = set()
    total: dict[str, Any] = _nothing()
    by_model: dict[str, dict[str, Any]] = {}
    for file in sorted(spool.glob("*.jsonl")):
        try:
            if file.stat().st_mtime < since:
                continue
            rows = read_lines(file.read_bytes()).rows
        except FileNotFoundError:
            continue  # taken in and deleted since the folder was listed
        for row in rows:
            if row.run == run_id and row.id not in seen:
                seen.add(row.id)
                _add(total, row)
                _add(by_model.setdefault(row.model, _nothing()), row)
    return {"total": total, "by_model": by_model}


def _nothing() -> dict[str, Any]:
    return {"requests": 0, "failed": 0, "unreported": 0} | dict.fromkeys(_COUNTS, 0)


def _add(sums: dict[str, Any], row: UsageRow) -> None:
    sums["requests"] += 1
    sums["failed"] += row.outcome != "ok"
    sums["unreported"] += row.usage_source != "reported"
    for name in _COUNTS:
        sums[name] += getattr(row, name)

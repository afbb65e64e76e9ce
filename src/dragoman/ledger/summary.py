"""Adding usage rows up: what a run, a session or a day cost, by model."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dragoman.gateway.spool import UsageRow


class ModelUsage(msgspec.Struct, kw_only=True):
    """What one model was used for.

    Attributes:
        model: the name the clients asked for.
        provider: where it went.
        upstream_wires: the wires its providers were spoken to in.
        requests: every request, failed ones too.
        failed: those that did not end well.
        input_tokens: everything the prompts cost, cache reads and writes included.
        cache_read_tokens, cache_write_tokens: parts of `input_tokens`.
        output_tokens: everything generated, reasoning included.
        reasoning_tokens: part of `output_tokens`.
        total_ms: time the requests took, added up.
        gateway_ms: the part of it that was the gateway's own work.
        unreported: requests whose tokens the provider did not report.
    """

    model: str
    provider: str
    upstream_wires: tuple[str, ...] = ()
    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_ms: float = 0.0
    gateway_ms: float = 0.0
    unreported: int = 0


class UsageSummary(msgspec.Struct, kw_only=True):
    """Usage by model, and all of it together."""

    by_model: list[ModelUsage]
    total: ModelUsage


def summarize(rows: Iterable[UsageRow], *, run: str | None = None) -> UsageSummary:
    """Add rows up.

    Parameters:
        rows: usage rows, each request once.
        run: count only what this run's token was used for.
    """
    total = ModelUsage(model="*", provider="*")
    by_model: dict[tuple[str, str], ModelUsage] = {}
    for row in rows:
        if run is not None and row.run != run:
            continue
        key = (row.model, row.provider)
        if key not in by_model:
            by_model[key] = ModelUsage(model=row.model, provider=row.provider)
        for bucket in (by_model[key], total):
            _add(bucket, row)
    return UsageSummary(by_model=[by_model[key] for key in sorted(by_model)], total=total)


def _add(bucket: ModelUsage, row: UsageRow) -> None:
    bucket.requests += 1
    bucket.failed += row.outcome != "ok"
    bucket.unreported += row.usage_source != "reported"
    bucket.input_tokens += row.input_tokens
    bucket.cache_read_tokens += row.cache_read_tokens
    bucket.cache_write_tokens += row.cache_write_tokens
    bucket.output_tokens += row.output_tokens
    bucket.reasoning_tokens += row.reasoning_tokens
    bucket.total_ms = round(bucket.total_ms + row.total_ms, 3)
    bucket.gateway_ms = round(bucket.gateway_ms + row.gateway_ms, 3)
    if row.upstream_wire and row.upstream_wire not in bucket.upstream_wires:
        bucket.upstream_wires = (*bucket.upstream_wires, row.upstream_wire)

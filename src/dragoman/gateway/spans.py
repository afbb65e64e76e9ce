"""Spans of the OpenTelemetry conventions for generative AI (0.66), one a request, made from its usage row.

An extra (`dragoman[otel]`), switched on by the variables OpenTelemetry itself defines; without them nothing
of it is imported. Spans carry names, counts and times, never what was said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .spool import UsageRow

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Spans:
    """Tells a tracer of requests that have ended.

    Args:
        tracer: where spans go.
        close: sends what waits.
    """

    def __init__(self, tracer: Tracer, *, close: Callable[[], None] = lambda: None) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.close = close
        self._tracer = tracer
        self._kind = SpanKind.CLIENT
        self._failed = lambda code: Status(StatusCode.ERROR, code)
        self._extract = TraceContextTextMapPropagator().extract

    def record(self, row: UsageRow, traceparent: str = "") -> None:
        """Make the span of a request.

        Args:
            row: its usage row.
            traceparent: the client's own span (W3C), "" when it named none.
        """
        began_ns = int(row.at * 1e9)
        context = self._extract({"traceparent": traceparent}) if traceparent else None
        attributes = {name: value for name, value in _attributes(row).items() if value not in (None, "", 0)}
        span = self._tracer.start_span(
            f"chat {row.upstream_model or row.model}",
            context=context,
            kind=self._kind,
            attributes=attributes,
            start_time=began_ns,
        )
        if row.failure is not None:
            span.set_status(self._failed(row.failure))
        span.end(began_ns + int(row.total_ms * 1e6))


def _attributes(row: UsageRow) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": row.provider,
        "gen_ai.request.model": row.model,
        "gen_ai.request.stream": row.stream or None,
        "gen_ai.response.model": row.upstream_model,
        "gen_ai.response.time_to_first_chunk": None if row.ttfb_ms is None else row.ttfb_ms / 1000,
        "gen_ai.usage.input_tokens": row.input_tokens,
        "gen_ai.usage.output_tokens": row.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": row.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": row.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": row.reasoning_tokens,
        "gen_ai.conversation.id": row.session,
        "http.response.status_code": row.status,
        "error.type": row.failure,
        "dragoman.request.id": row.id,
        "dragoman.client_wire": row.client_wire,
        "dragoman.upstream_wire": row.upstream_wire,
    }


def open_spans(environment: Mapping[str, str], *, warn: Callable[[str], None]) -> Spans | None:
    """Spans to the collector the environment names; None when it names none.

    Args:
        environment: OpenTelemetry's own variables.
        warn: told when the extra is missing.
    """
    if not any(environment.get(name) for name in ENDPOINT_VARIABLES):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # pyright: ignore[reportMissingImports]
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        warn("spans are wanted and the extra is missing; next: pip install 'dragoman[otel]'")
        return None
    provider = TracerProvider(resource=Resource.create({"service.name": "dragoman"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider.get_tracer("dragoman"), close=provider.shutdown)

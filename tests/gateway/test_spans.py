from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dragoman.gateway.spans import Spans, open_spans

trace = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `otel` is missing")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_becomes_a_span_under_the_clients_own_and_tells_nothing_that_was_said(
    kit: Any, tmp_path: Path
) -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def run() -> None:
        async with kit.scripted([kit.streamed(kit.chat_stream("the answer"))]) as up:
            toml = f'[providers.up]\nwires.chat = "{up.base}/v1"\n[models.m]\nprovider = "up"\n'
            spans = Spans(provider.get_tracer("t"))
            async with kit.served(tmp_path, toml, spans=spans) as served:
                body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "my plan"}]}
                await served.ask("/v1/chat/completions", body, headers={"traceparent": PARENT})
                await served.ask("/v1/chat/completions", {**body, "model": "no"})

    kit.run(run)
    good: Any
    bad: Any
    good, bad = exporter.get_finished_spans()
    told = dict(good.attributes)
    assert good.name == "chat m"
    assert (good.parent.span_id, good.context.trace_id) == (0xB7AD6B7169203331, int(PARENT[3:35], 16))
    assert (told["gen_ai.provider.name"], told["gen_ai.request.model"]) == ("up", "m")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (14, 7)
    assert good.end_time > good.start_time
    assert (bad.status.is_ok, bad.attributes["error.type"], bad.parent) == (False, "not_found", None)
    assert "my plan" not in good.to_json() + bad.to_json()
    assert "the answer" not in good.to_json()


def test_nothing_is_imported_or_made_where_no_collector_is_named() -> None:
    assert open_spans({}, warn=pytest.fail) is None
    source = "import dragoman.daemon.gateway_process, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", source], capture_output=True, text=True, check=True)
    assert "opentelemetry" not in done.stdout

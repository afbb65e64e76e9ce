"""`dragoman serve` over an upstream that plays scripted answers on one wire, for the real clients."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# Test files are imported one by one; what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

from upstream_asked import Wire
from upstream_frames import Reply
from upstream_server import Upstream

WIRES: tuple[Wire, ...] = ("chat", "messages", "responses")
DEADLINE_S = 60.0
SPARE = 6

# Each wire's own kind of reasoning, given back unchanged: a plain field, a signature, an encrypted item.
PROFILES = {"chat": "deepseek", "messages": "anthropic", "responses": "openai"}


@dataclass
class Bench:
    """One daemon over one scripted upstream.

    Attributes:
        url, token: how a client reaches the gateway.
        home: the daemon's folder.
        upstream: what answers behind it.
    """

    wire: Wire
    upstream: Upstream
    process: subprocess.Popen[str]
    url: str
    token: str
    home: Path
    _spare: Iterator[str] = field(default_factory=lambda: iter(f"spare-{n}" for n in range(SPARE)))

    def spare_model(self) -> str:
        """A model of a provider that no other test uses: its key may be put to rest."""
        return next(self._spare)


def _configuration(upstream: Upstream) -> str:
    def provider(name: str, profile: str) -> str:
        return f'[providers.{name}]\nprofile = "{profile}"\nwires.{upstream.wire} = "{upstream.base}"\n'

    def model(name: str, provider: str, *lines: str) -> str:
        return "\n".join([f'[models."{name}"]', f'provider = "{provider}"', 'upstream = "up"', *lines]) + "\n"

    seeing, blind = 'input_modalities = ["text", "image"]', 'input_modalities = ["text"]'
    parts = [
        '[aliases]\n"claude-opus-4-6" = "glm-5.2"\n',
        provider("plain", "generic"),
        provider("thinker", PROFILES[upstream.wire]),
        provider("glm", "zai"),
        model("plain", "plain", "context_window = 200000", seeing),
        model("blind", "plain", "context_window = 200000", blind),
        model("small", "plain", "context_window = 20000", blind),
        model("thinker", "thinker", "context_window = 200000", "reasoning = true", blind),
        model("glm-5.2", "glm").replace('"up"', '"glm-up"'),
    ]
    for number in range(SPARE):
        parts += [provider(f"spare-{number}", "generic"), model(f"spare-{number}", f"spare-{number}", blind)]
    return "\n".join(parts)


class Benches:
    """The daemons of this test process, each started when first needed."""

    def __init__(self) -> None:
        self._kept: dict[Wire, tuple[Bench, Path]] = {}

    def get(self, wire: Wire) -> Bench:
        if wire not in self._kept:
            self._kept[wire] = self._start(wire)
        return self._kept[wire][0]

    def close(self) -> None:
        for bench, folder in self._kept.values():
            bench.process.send_signal(signal.SIGTERM)
            bench.process.communicate(timeout=DEADLINE_S)
            bench.upstream.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, wire: Wire) -> tuple[Bench, Path]:
        folder = Path(tempfile.mkdtemp(prefix="dgm-"))  # short: unix sockets live in it
        upstream = Upstream(wire)
        (folder / "dragoman.toml").write_text(_configuration(upstream))
        process = subprocess.Popen(
            [sys.executable, "-m", "dragoman.cli.main", "serve", "--port", "0"],
            env={"PATH": os.environ["PATH"], "HOME": str(folder / "user"), "DRAGOMAN_HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("listening on "), (line, process.communicate(timeout=DEADLINE_S))
        token = (folder / "state" / "data.token").read_text().strip()
        return Bench(wire, upstream, process, line.removeprefix("listening on "), token, folder), folder


@pytest.fixture(scope="session")
def benches() -> Iterator[Benches]:
    kept = Benches()
    yield kept
    kept.close()


@pytest.fixture(params=WIRES)
def bench(request: pytest.FixtureRequest, benches: Benches) -> Iterator[Bench]:
    """A daemon over an upstream of each wire in turn."""
    found = benches.get(request.param)
    found.upstream.play()
    yield found
    assert found.upstream.trouble == []


@pytest.fixture
def upstream(bench: Bench) -> Upstream:
    return bench.upstream


@pytest.fixture(scope="session")
def odd_text() -> str:
    """What splits lines for some and is escaped by others."""
    return 'a\u2028b\u2029c\u0085d\x0be\x1cf 😀 \\u0041 "q" \t\r\n end'


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG of one pixel."""
    return bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )


# --- how providers refuse


def _error(wire: Wire, message: str, *, kind: str, code: str | None) -> dict[str, Any]:
    if wire == "messages":
        return {"type": "error", "error": {"type": kind, "message": message}}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@pytest.fixture
def too_long(bench: Bench) -> Reply:
    """The prompt does not fit, in the words of the wire's own provider."""
    message = {
        "chat": "This model's maximum context length is 200000 tokens. However, you requested 250000 tokens.",
        "messages": "prompt is too long: 250000 tokens > 200000 maximum",
        "responses": "Your input exceeds the context window of this model. Please adjust your input.",
    }[bench.wire]
    body = _error(bench.wire, message, kind="invalid_request_error", code="context_length_exceeded")
    return [{"refuse": 400, "body": body}]


@pytest.fixture
def used_up(bench: Bench) -> Reply:
    """The quota window is used up, in the words of the wire's own provider."""
    match bench.wire:
        case "messages":
            body = _error("messages", "Usage limit reached for 5 hours.", kind="rate_limit_error", code=None)
            return [{"refuse": 429, "headers": {"retry-after": "7200"}, "body": body}]
        case wire:
            message = "You exceeded your current quota, please check your plan."
            body = _error(wire, message, kind="insufficient_quota", code="insufficient_quota")
            return [{"refuse": 429, "body": body}]


@pytest.fixture
def slow_down(bench: Bench) -> Reply:
    """Too many requests, and not a word about how long to wait."""
    body = _error(bench.wire, "Too many requests.", kind="rate_limit_error", code="rate_limit_exceeded")
    return [{"refuse": 429, "body": body}]


@pytest.fixture
def wait_an_hour(bench: Bench) -> Reply:
    """Too many requests, and a wait nobody sits out."""
    body = _error(bench.wire, "Rate limit reached.", kind="rate_limit_error", code="rate_limit_exceeded")
    return [{"refuse": 429, "headers": {"retry-after": "3600"}, "body": body}]

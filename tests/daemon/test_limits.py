"""Limits under load, with one gateway and with four: what a token may use, and how busy a key may be."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dragoman.config.tokens import TokenLimits, TokenRecord, mint, token_id
from dragoman.daemon.health import split_url
from dragoman.gateway.budgets import Budgets, Used

PROMPT, COMPLETION = 7, 3


class Counting(ThreadingHTTPServer):
    """An upstream on the Chat wire: every answer costs ten tokens; it counts who is there at a time."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.lock = threading.Lock()
        self.served = self.now = self.most = 0
        self.hold_s = 0.05
        self.go = threading.Event()
        self.go.set()
        self.base = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self.go.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A gateway that was killed."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Counting)
        self.rfile.read(int(self.headers["content-length"]))
        with server.lock:
            server.served += 1
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            time.sleep(server.hold_s)  # how long a model thinks
            server.go.wait(30)
        finally:
            with server.lock:
                server.now -= 1
        usage = {
            "prompt_tokens": PROMPT,
            "completion_tokens": COMPLETION,
            "total_tokens": PROMPT + COMPLETION,
        }
        choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "up"}
        body = json.dumps(answer | {"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to say."""


@pytest.fixture
def upstream() -> Iterator[Counting]:
    made = Counting()
    yield made
    made.close()


def configure(homestead: Any, upstream: Counting, *provider: str) -> None:
    price = "price = { input = 1000.0, output = 1000.0 }"
    lines = ["[providers.p]", f'wires.chat = "{upstream.base}"', 'key_env = "P_KEY"', *provider]
    lines += ["[models.m]", 'provider = "p"', price]
    homestead.home.config_file.write_text("\n".join(lines))


def ask(daemon: Any, secret: str, path: str = "/v1/chat/completions") -> tuple[int, dict[str, Any]]:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
    connection = http.client.HTTPConnection(*split_url(daemon.url), timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"authorization": f"Bearer {secret}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def crowd(count: int, work: Callable[[], Any]) -> list[Any]:
    """So many at the same time; what each came to."""
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def used(daemon: Any, secret: str) -> Used:
    record = TokenRecord(id=token_id(secret), scope="data", created_at=0, limits=TokenLimits(requests=1))
    return Budgets(daemon.home.state / "budgets").used(record)


# Ten requests' worth each; a dollar is a thousand tokens.
LIMITS = [TokenLimits(requests=10), TokenLimits(tokens=100), TokenLimits(usd=0.1)]


@pytest.mark.parametrize("limits", LIMITS, ids=["requests", "tokens", "money"])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_limit_holds_under_load(homestead, upstream, until, limits, workers):
    configure(homestead, upstream)
    daemon = homestead.serve("--workers", str(workers), P_KEY="k").wait_up()
    secret = mint(homestead.home, "data", limits=limits).secret
    statuses = [status for status, _ in crowd(40, lambda: ask(daemon, secret))]
    assert set(statuses) == {200, 429}
    served = statuses.count(200)
    assert served == upstream.served
    if workers == 1 or limits.requests is not None:
        assert served == 10
    else:
        # What was used up meanwhile is no more than the requests four gateways had under way at a time.
        assert 10 <= served <= 10 + upstream.most
    until(lambda: used(daemon, secret).tokens == served * (PROMPT + COMPLETION))
    told = used(daemon, secret)
    assert told.requests == served
    assert told.usd == pytest.approx(served * 0.01)
    # It is over for good, also for a gateway that has just started, and only for this token.
    for pid in daemon.pids("gateway"):
        os.kill(pid, signal.SIGKILL)
    assert ask(daemon, secret)[0] == 429
    assert ask(daemon, daemon.home.data_token_file.read_text().strip())[0] == 200


def test_a_token_ends_when_it_expires_or_is_revoked_and_asks_only_for_its_models(homestead, upstream, until):
    configure(homestead, upstream)
    daemon = homestead.serve("--workers", "2", P_KEY="k").wait_up()

    def created(*words: str) -> dict[str, Any]:
        return json.loads(homestead.dragoman("token", "create", *words, "--json").stdout)

    brief, model, end = created("--expires", "2s"), created("--models", "other"), created("--requests", "9")
    assert [ask(daemon, one["secret"])[0] for one in (brief, model, end)] == [200, 403, 200]
    assert homestead.dragoman("token", "revoke", end["token"]["id"][:12]).returncode == 0
    until(lambda: {ask(daemon, end["secret"])[0] for _ in range(6)} == {401})
    until(lambda: {ask(daemon, brief["secret"])[0] for _ in range(6)} == {401})
    served = upstream.served
    assert [ask(daemon, one["secret"])[0] for one in (brief, model, end)] == [401, 403, 401]
    assert upstream.served == served


@pytest.mark.parametrize("places", [1, 2])
def test_a_key_is_never_busier_than_it_may_be_over_four_gateways(homestead, upstream, places):
    configure(homestead, upstream, f"max_concurrency = {places}")
    daemon = homestead.serve("--workers", "4", P_KEY="k").wait_up()
    secret = daemon.home.data_token_file.read_text().strip()
    statuses = [status for status, _ in crowd(24, lambda: ask(daemon, secret))]
    assert statuses == [200] * 24
    assert upstream.most == places


def test_a_place_is_free_again_when_its_gateway_was_killed(homestead, upstream, until):
    configure(homestead, upstream, "max_concurrency = 1")
    daemon = homestead.serve("--workers", "2", P_KEY="k").wait_up()
    secret = daemon.home.data_token_file.read_text().strip()
    upstream.go.clear()
    cut: list[str] = []

    def lose() -> None:
        try:
            ask(daemon, secret)
        except (OSError, http.client.HTTPException) as error:
            cut.append(type(error).__name__)

    thread = threading.Thread(target=lose)
    thread.start()
    until(lambda: upstream.now == 1)
    for pid in daemon.pids("gateway"):
        os.kill(pid, signal.SIGKILL)
    thread.join()
    assert cut
    upstream.go.set()
    assert ask(daemon, secret)[0] == 200


def test_metrics_are_summed_over_gateways_and_survive_their_end_without_waking_control(
    homestead, upstream, until
):
    configure(homestead, upstream)
    daemon = homestead.serve("--workers", "4", P_KEY="k").wait_up()
    secret = daemon.home.data_token_file.read_text().strip()
    control = {"Authorization": f"Bearer {daemon.home.control_token_file.read_text().strip()}"}

    def tokens() -> list[float]:
        lines = daemon.call("/metrics", **control).body.decode().splitlines()
        wanted = 'gen_ai_client_token_usage_total{type="input",provider="p",model="m"} '
        return [float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted)]

    assert [status for status, _ in crowd(24, lambda: ask(daemon, secret))] == [200] * 24
    until(lambda: tokens() == [24 * PROMPT])
    assert homestead.dragoman("restart").returncode == 0
    assert ask(daemon, secret)[0] == 200
    until(lambda: tokens() == [25 * PROMPT])
    until(lambda: len(daemon.pids("gateway")) == 4)
    # What another one has counted is seen within a second, whoever is asked.
    until(lambda: {tuple(tokens()) for _ in range(8)} == {(25 * PROMPT,)})
    assert daemon.pids("control") == []

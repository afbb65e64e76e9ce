"""A disk that takes nothing any more: model calls go on, and what was used is counted when it does again."""

from __future__ import annotations

import http.client
import json
import resource
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dragoman.config.tokens import TokenLimits, mint
from dragoman.daemon.health import split_url

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of others are Linux's")


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        body = json.dumps(answer | {"usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to say."""


@pytest.fixture
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


def ask(daemon: Any, secret: str) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    connection = http.client.HTTPConnection(*split_url(daemon.url), timeout=30)
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(body), {"authorization": f"Bearer {secret}"}
    )
    status = connection.getresponse().status
    connection.close()
    return status


def test_with_a_full_disk_calls_go_on_limits_hold_and_rows_come_later(homestead, upstream, until):
    homestead.home.config_file.write_text(
        f'[providers.p]\nwires.chat = "{upstream}"\nmax_concurrency = 1\n[models.m]\nprovider = "p"\n'
    )
    daemon = homestead.serve().wait_up()
    data = daemon.home.data_token_file.read_text().strip()
    limited = mint(homestead.home, "data", limits=TokenLimits(requests=3)).secret
    gateway = daemon.pids("gateway")[0]
    before = resource.prlimit(gateway, resource.RLIMIT_FSIZE)
    # No file of the gateway's may grow: what a full disk does, without one.
    resource.prlimit(gateway, resource.RLIMIT_FSIZE, (0, before[1]))
    assert [ask(daemon, data) for _ in range(20)] == [200] * 20
    assert [ask(daemon, limited) for _ in range(5)] == [200, 200, 200, 429, 429]
    assert _rows(homestead) == []
    resource.prlimit(gateway, resource.RLIMIT_FSIZE, before)
    until(lambda: len(_rows(homestead)) == 25)
    assert ask(daemon, limited) == 429
    assert daemon.pids("gateway") == [gateway]


def _rows(homestead: Any) -> list[bytes]:
    return b"".join(file.read_bytes() for file in homestead.home.spool.glob("*.jsonl")).splitlines()

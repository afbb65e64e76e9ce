from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard

from dragoman.catalog.presets import shipped_presets
from dragoman.config.tokens import mint

ASK = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}


def config(base: str, more: str = "") -> str:
    return f"""
[providers.up]
key_env = "UP_KEY"
wires.messages = "{base}"
[models."m"]
provider = "up"
upstream = "m-up"
{more}
"""


WHOLE = {
    "id": "msg_u",
    "type": "message",
    "role": "assistant",
    "model": "m-up",
    "content": [{"type": "text", "text": "ok"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def error_of(path: str, answer: bytes) -> tuple[str, str]:
    body = json.loads(answer)
    if path.startswith("/v1/messages"):
        assert body["type"] == "error"
        assert set(body["error"]) == {"type", "message"}
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]["type"], body["error"]["message"]


WIRE_PATHS = ["/v1/messages", "/v1/chat/completions", "/v1/responses"]


@pytest.mark.parametrize("path", [*WIRE_PATHS, "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic {token}"}, 401),
        ({"authorization": "Bearer ", "x-api-key": "wrong"}, 401),
    ],
)
def test_who_may_not_ask_is_refused_before_anything_is_done(
    kit: Any, tmp_path: Path, path: str, headers: dict[str, str], status: int
) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.json_answer(WHOLE)]) as up,
            kit.served(tmp_path, config(up.base)) as served,
        ):
            given = {name: value.replace("{token}", served.token) for name, value in headers.items()}
            got, answered, answer = await served.ask(path, ASK, headers=given)
            assert got == status
            assert answered["x-dragoman-request-id"]
            kind, message = error_of(path, answer)
            assert kind == ("permission_error" if status == 403 else "authentication_error")
            assert served.token not in message
            assert up.requests == []
            assert served.rows() == []

    kit.run(run)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "", "x-api-key": "{token}"},
        {"authorization": "bearer {token}"},
        {"host": "localhost:1"},
        {"host": "[::1]:9"},
        {"host": "LOCALHOST"},
        {"host": "127.0.0.1:77", "origin": "http://127.0.0.1:77"},
    ],
)
def test_who_may_ask_is_served(kit: Any, tmp_path: Path, headers: dict[str, str]) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.json_answer(WHOLE)]) as up,
            kit.served(tmp_path, config(up.base)) as served,
        ):
            given = {name: value.replace("{token}", served.token) for name, value in headers.items()}
            status, _, _ = await served.ask("/v1/messages", ASK, headers=given)
            assert status == 200
            assert served.token not in str(up.requests)

    kit.run(run)


def test_the_refusal_comes_before_the_body_does(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.served(tmp_path, config("http://127.0.0.1:9")) as served:
            for header in (b"Host: evil.example", b"Host: localhost\r\nAuthorization: Bearer wrong"):
                head = b"POST /v1/messages HTTP/1.1\r\n" + header + b"\r\nContent-Length: 1000000\r\n\r\n"
                got = await kit.raw(served.port, head)
                assert got.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 401 "))

    kit.run(run)


def test_an_open_data_plane_needs_no_token_but_still_knows_its_hosts(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.json_answer(WHOLE)]) as up,
            kit.served(tmp_path, '[gateway]\nauth = "none"\n' + config(up.base)) as served,
        ):
            status, _, _ = await served.ask("/v1/messages", ASK, headers={"authorization": ""})
            assert status == 200
            status, _, _ = await served.ask("/v1/messages", ASK, headers={"authorization": "Bearer odd"})
            assert status == 200
            status, _, _ = await served.ask("/v1/messages", ASK, headers={"host": "evil.example"})
            assert status == 403

    kit.run(run)


def test_the_key_of_an_environment_only_start_is_a_token_too(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "glm-5.2", "choices": []}
        whole["choices"] = [
            {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
        ]
        async with kit.scripted([kit.json_answer(whole)]) as up:
            environment = {"ZAI_API_KEY": "zai-secret-key", "ZAI_BASE_URL": f"{up.base}/api"}
            async with kit.served(tmp_path, None, environment=environment) as served:
                body = {"model": "glm-5.2", "messages": [{"role": "user", "content": "hi"}]}
                headers = {"authorization": "Bearer zai-secret-key"}
                status, _, _ = await served.ask("/v1/chat/completions", body, headers=headers)
                assert status == 200
                assert up.requests[0].headers["authorization"] == "Bearer zai-secret-key"

    kit.run(run)


def test_a_run_token_is_noted_and_may_ask_for_its_models_only(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.json_answer(WHOLE)]) as up,
            kit.served(tmp_path, config(up.base)) as served,
        ):
            token = mint(served.home, "run", models=("m",), run="run-7")
            headers = {"authorization": f"Bearer {token.secret}"}
            status, _, _ = await served.ask("/v1/messages", ASK, headers=headers)
            assert status == 200
            status, _, answer = await served.ask("/v1/messages", {**ASK, "model": "other"}, headers=headers)
            assert (status, error_of("/v1/messages", answer)[0]) == (403, "permission_error")
            rows = served.rows()
            assert [(row.run, row.outcome) for row in rows] == [("run-7", "ok"), ("run-7", "refused")]
            assert token.secret not in str(rows)

    kit.run(run)


def test_health_and_head_need_no_token_and_show_no_secret(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.served(tmp_path, config("http://127.0.0.1:9/base")) as served:
            bare = {"authorization": ""}
            status, headers, answer = await served.ask("/health", headers=bare)
            body = json.loads(answer)
            assert (status, body["status"]) == (200, "ok")
            assert body["upstreams"]["up"] == {"messages": "http://127.0.0.1:9/base"}
            assert "secret" not in answer.decode()
            assert headers["x-dragoman-request-id"]
            for path, expected in (("/", 200), ("/health", 200), ("/v1/responses", 200), ("/nothing", 404)):
                status, headers, answer = await served.ask(path, method="HEAD", headers=bare)
                assert (status, answer) == (expected, b"")

    kit.run(run)


def test_a_websocket_upgrade_is_told_to_use_plain_requests(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.served(tmp_path, config("http://127.0.0.1:9")) as served:
            got = await kit.raw(
                served.port,
                b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
                b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            assert got.startswith(b"HTTP/1.1 426 ")
            assert b'"upgrade_required"' in got

    kit.run(run)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/messages", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/responses/compact", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/api/v1/status", 403),
        ("GET", "/", 403),
    ],
)
def test_what_is_not_served_is_said_clearly(
    kit: Any, tmp_path: Path, method: str, path: str, status: int
) -> None:
    async def run() -> None:
        async with kit.served(tmp_path, config("http://127.0.0.1:9"), data_plane_only=True) as served:
            got, _, answer = await served.ask(path, ASK if method == "POST" else None, method=method)
            assert got == status
            assert json.loads(answer)["error"]["message"]

    kit.run(run)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate", "identity"])
def test_compressed_bodies_are_understood(kit: Any, tmp_path: Path, encoding: str) -> None:
    async def run() -> None:
        import zlib

        pack = {
            "gzip": gzip.compress,
            "zstd": zstandard.compress,
            "deflate": zlib.compress,
            "identity": bytes,
        }[encoding]
        async with (
            kit.scripted([kit.json_answer(WHOLE)]) as up,
            kit.served(tmp_path, config(up.base)) as served,
        ):
            body = pack(json.dumps(ASK).encode())
            status, _, _ = await served.ask("/v1/messages", body, headers={"content-encoding": encoding})
            assert status == 200
            assert json.loads(up.requests[0].body)["messages"] == ASK["messages"]
            assert "content-encoding" not in up.requests[0].headers

    kit.run(run)


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", b"x", 415),
        ("gzip", b"not gzip", 400),
        ("gzip", gzip.compress(b"{}" * 100)[:-9], 400),
        ("zstd", b"not zstd", 400),
        ("gzip", gzip.compress(b"\0" * (3 << 20)), 413),
        ("zstd", zstandard.compress(b"\0" * (3 << 20)), 413),
        ("", b" " * (1 << 20) + b"x", 413),
    ],
    ids=["unknown", "bad-gzip", "torn-gzip", "bad-zstd", "gzip-bomb", "zstd-bomb", "large"],
)
def test_bodies_we_cannot_take_are_refused(
    kit: Any, tmp_path: Path, encoding: str, body: bytes, status: int
) -> None:
    async def run() -> None:
        toml = "[gateway]\nmax_body_mb = 1\n" + config("http://127.0.0.1:9")
        async with kit.served(tmp_path, toml) as served:
            got, _, answer = await served.ask("/v1/messages", body, headers={"content-encoding": encoding})
            assert got == status
            error_of("/v1/messages", answer)

    kit.run(run)


def test_a_chunked_body_is_bounded_too(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        toml = "[gateway]\nmax_body_mb = 1\n" + config("http://127.0.0.1:9")
        async with kit.served(tmp_path, toml) as served:
            head = (
                f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.token}\r\n"
            )
            body = kit.chunk(b" " * 700_000) * 2
            got = await kit.raw(served.port, head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body)
            assert got.startswith(b"HTTP/1.1 413 ")

    kit.run(run)


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/v1/messages", b"{not json", ""),
        ("/v1/chat/completions", b"[]", ""),
        ("/v1/responses", b'{"model": 5}', "$.model"),
        ("/v1/messages", b'{"max_tokens": 5}', "model"),
        ("/v1/messages", b"\xff\xfe", ""),
        ("/v1/messages/count_tokens", b"{", ""),
    ],
)
def test_a_body_that_cannot_be_read_is_a_400_that_names_the_place(
    kit: Any, tmp_path: Path, path: str, body: bytes, place: str
) -> None:
    async def run() -> None:
        async with kit.served(tmp_path, config("http://127.0.0.1:9")) as served:
            status, _, answer = await served.ask(path, body)
            kind, message = error_of(path, answer)
            assert (status, kind) == (400, "invalid_request_error")
            assert place in message

    kit.run(run)


def test_an_unknown_model_is_a_404_that_names_it(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.served(tmp_path, config("http://127.0.0.1:9")) as served:
            for path in WIRE_PATHS:
                body = {"model": "no-such-model", "input": "hi", "messages": ASK["messages"], "max_tokens": 1}
                status, _, answer = await served.ask(path, body)
                assert status == 404
                assert "no-such-model" in error_of(path, answer)[1]
            assert {row.outcome for row in served.rows()} == {"refused"}

    kit.run(run)


def test_the_model_list_has_the_shape_of_whoever_asks(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.served(tmp_path, config("http://127.0.0.1:9")) as served:
            _, _, answer = await served.ask("/v1/models?client_version=0.169.0")
            assert {"slug", "truncation_policy"} <= set(json.loads(answer)["models"][0])
            _, _, answer = await served.ask("/v1/models")
            assert "m" in {model["id"] for model in json.loads(answer)["data"]}
            claude = {"anthropic-version": "2023-06-01"}
            _, _, answer = await served.ask("/v1/models?limit=1000", headers=claude)
            assert "claude-m" in {model["id"] for model in json.loads(answer)["data"]}
            status, _, answer = await served.ask("/v1/models/m")
            assert (status, json.loads(answer)["id"]) == (200, "m")
            status, _, answer = await served.ask("/v1/models/claude-m", headers=claude)
            assert (status, json.loads(answer)["id"]) == (200, "claude-m")
            status, _, _ = await served.ask("/v1/models/none")
            assert status == 404
            status, _, _ = await served.ask("/v1/models", headers={"authorization": ""})
            assert status == 401

    kit.run(run)


@pytest.mark.parametrize("query", ["?client_version=0.169.0", "", "?limit=1000"])
def test_the_model_list_is_there_in_less_than_fifty_milliseconds(
    kit: Any, tmp_path: Path, query: str
) -> None:
    """Counted in CPU time of both ends, for every preset and two hundred models: the machine may be busy."""

    async def run() -> None:
        presets = "".join(f"[providers.{name}]\n" for name in shipped_presets())
        many = "".join(f'[models."own-{n}"]\nprovider = "up"\n' for n in range(200))
        headers = {"anthropic-version": "2023-06-01"} if "limit" in query else {}
        async with kit.served(tmp_path, config("http://127.0.0.1:9", presets + many)) as served:
            await served.ask("/v1/models", headers=headers)
            status, answer = 0, b""
            before = time.process_time()
            for _ in range(10):
                status, _, answer = await served.ask(f"/v1/models{query}", headers=headers)
            spent_ms = (time.process_time() - before) * 100
            assert status == 200
            assert answer.count(b"own-") >= 200
            assert spent_ms < 50

    kit.run(run)


def test_tokens_are_counted_without_asking_anybody(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.scripted([]) as up, kit.served(tmp_path, config(up.base)) as served:
            text = "The quick brown fox jumps over the lazy dog. " * 100
            body = {"model": "m", "messages": [{"role": "user", "content": text}]}
            status, _, answer = await served.ask("/v1/messages/count_tokens?beta=true", body)
            assert status == 200
            assert 900 < json.loads(answer)["input_tokens"] < 1500
            assert up.requests == []

    kit.run(run)


HEADER_64K = b"x-long: " + b"a" * 70_000 + b"\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + HEADER_64K + b"\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"x-a: b\r\n" * 12_000 + b"\r\n", b"431"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"x-open: " + b"a" * 90_000, b"431"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"403"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", b"400"),
        (
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
            b"Content-Length: 4\r\n\r\nabcd",
            b"400",
        ),
        (
            b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
    ],
    ids=[
        "long-header",
        "many-headers",
        "long-line",
        "endless-header",
        "no-host",
        "two-hosts",
        "two-framings",
        "two-lengths",
        "odd-coding",
        "space-before-colon",
        "tls",
    ],
)
def test_hostile_heads_are_refused(kit: Any, tmp_path: Path, request_: bytes, status: bytes) -> None:
    async def run() -> None:
        async with kit.served(tmp_path, config("http://127.0.0.1:9")) as served:
            got = await kit.raw(served.port, request_)
            assert got.split(b" ")[1] == status
            assert await kit.raw(served.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    kit.run(run)


def test_a_mistake_of_ours_is_a_500_that_tells_nothing(
    kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("prompt text and sk-secret")

    async def run() -> None:
        async with kit.served(tmp_path, config("http://127.0.0.1:9")) as served:
            monkeypatch.setattr("dragoman.gateway.exchange.peek_request", broken)
            status, _, answer = await served.ask("/v1/messages", ASK)
            assert status == 500
            assert "secret" not in answer.decode() + str(served.logged)
            assert served.logged[0][1]["kind"] == "RuntimeError"

    kit.run(run)

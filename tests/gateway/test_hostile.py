"""What is malformed or lies is refused before anybody is asked; the next client is served all the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.gateway.guard import Guard
from dragoman.gateway.incoming import Incoming

ASK = json.dumps(
    {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}, separators=(",", ":")
).encode()
SIZE = len(ASK)
CONFIG = """
[providers.up]
key_env = "UP_KEY"
wires.messages = "{base}"
[models."m"]
provider = "up"
"""


def head(
    *lines: str, line: str = "POST /v1/messages HTTP/1.1", host: str | None = "Host: localhost"
) -> bytes:
    """A request's head with the token; TOKEN is filled in by the test."""
    given = [line, *([host] if host else []), "Authorization: Bearer TOKEN", "Content-Type: application/json"]
    return "\r\n".join([*given, *lines]).encode("latin-1") + b"\r\n\r\n"


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, ASK)
SECOND = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer TOKEN\r\n"
SMUGGLED = SECOND + b"Content-Length: %d\r\n\r\n%b" % (SIZE, ASK)

HOSTILE: dict[str, bytes] = {
    # lengths that two readers could understand differently
    "length-with-sign": head(f"Content-Length: +{SIZE}") + ASK,
    "negative-length": head("Content-Length: -1") + ASK,
    "hexadecimal-length": head(f"Content-Length: 0x{SIZE:x}") + ASK,
    "two-lengths-in-one": head(f"Content-Length: {SIZE}, {SIZE}") + ASK,
    "length-and-chunks": head(f"Content-Length: {len(CHUNKED)}", "Transfer-Encoding: chunked") + CHUNKED,
    "length-that-overflows": head("Content-Length: 18446744073709551617") + ASK,
    "chunks-and-identity": head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + CHUNKED,
    "chunked-is-not-last": head("Transfer-Encoding: chunked, identity") + CHUNKED,
    "compressed-chunks": head("Transfer-Encoding: gzip, chunked") + CHUNKED,
    "compressed-and-chunked": head("Transfer-Encoding: gzip", "Transfer-Encoding: chunked") + CHUNKED,
    "odd-chunked": head("Transfer-Encoding: \x0bchunked") + CHUNKED,
    "chunk-size-prefixed": head("Transfer-Encoding: chunked") + b"0x" + CHUNKED,
    "chunk-size-overflows": head("Transfer-Encoding: chunked") + b"f" * 17 + b"\r\n" + ASK,
    "chunk-size-negative": head("Transfer-Encoding: chunked") + b"-1\r\n" + ASK,
    # header lines that are two lines to some
    "bare-carriage-return": head("X-A: b\rHost: evil.example", f"Content-Length: {SIZE}") + ASK,
    "zero-byte": head("X-A: b\0c", f"Content-Length: {SIZE}") + ASK,
    "space-in-name": head("X A: b", f"Content-Length: {SIZE}") + ASK,
    "no-colon": head("X-A", f"Content-Length: {SIZE}") + ASK,
    "empty-name": head(": b", f"Content-Length: {SIZE}") + ASK,
    # who is asked
    "another-host-in-the-target": head(
        f"Content-Length: {SIZE}", line="POST http://evil.example/v1/messages HTTP/1.1"
    )
    + ASK,
    "host-with-a-user": head(f"Content-Length: {SIZE}", host="Host: localhost@evil.example") + ASK,
    "host-with-a-fragment": head(f"Content-Length: {SIZE}", host="Host: evil.example#localhost") + ASK,
    "host-with-a-path": head(f"Content-Length: {SIZE}", host="Host: evil.example/localhost") + ASK,
    "host-with-two-ports": head(f"Content-Length: {SIZE}", host="Host: localhost:1:2") + ASK,
    "host-in-brackets": head(f"Content-Length: {SIZE}", host="Host: [::1]evil.example") + ASK,
    "empty-host": head(f"Content-Length: {SIZE}", host="Host: ") + ASK,
    "no-host": head(f"Content-Length: {SIZE}", host=None) + ASK,
    "foreign-origin": head("Origin: http://localhost.evil.example", f"Content-Length: {SIZE}") + ASK,
    "origin-of-a-file": head("Origin: null", f"Content-Length: {SIZE}") + ASK,
    "two-origins": head("Origin: http://localhost", "Origin: http://evil.example", f"Content-Length: {SIZE}")
    + ASK,
    # what is asked
    "other-version": head(f"Content-Length: {SIZE}", line="POST /v1/messages HTTP/3.7") + ASK,
    "connect": head(line="CONNECT localhost:80 HTTP/1.1"),
    "no-method": head(f"Content-Length: {SIZE}", line="/v1/messages HTTP/1.1") + ASK,
    "way-up": head(f"Content-Length: {SIZE}", line="POST /v1/../api/v1/tokens HTTP/1.1") + ASK,
    "two-slashes": head(f"Content-Length: {SIZE}", line="POST //v1/messages HTTP/1.1") + ASK,
}

# Well framed, only not for us: what follows is a request of its own.
HONEST = frozenset(list(HOSTILE)[list(HOSTILE).index("host-with-a-user") :]) - {"other-version", "no-method"}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_reaches_no_provider_nor_does_what_hides_behind_it(
    kit: Any, tmp_path: Path, name: str
) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.json_answer({})]) as up,
            kit.served(tmp_path, CONFIG.format(base=up.base)) as served,
        ):
            raw = HOSTILE[name] if name in HONEST else HOSTILE[name] + SMUGGLED
            raw = raw.replace(b"TOKEN", served.token.encode())
            got = await kit.raw(served.port, raw, timeout_s=1.0)
            assert got.split(b" ")[1][:1] == b"4"
            await asyncio.sleep(0.02)
            assert up.requests == []
            status, _, _ = await served.ask("/health")
            assert status == 200

    kit.run(run)


PARTS = ["localhost", "127.0.0.1", "[::1]", "evil.example", ":", "4891", ".", "@", "/", "#", "[", "]", "::1"]


@settings(max_examples=300, deadline=None)
@given(host=st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("".join))
def test_no_spelling_of_a_foreign_host_is_taken_for_ours(host: str) -> None:
    headers = {b"host": host.encode("latin-1")}
    incoming = Incoming(
        id="r",
        method="GET",
        path="/health",
        query=b"",
        headers=headers,
        repeated=frozenset(),
        wire="chat",
        at=0.0,
        started=0.0,
        flow=None,
    )
    stem, colon, port = host.rpartition(":")
    name = stem if colon and (port == "" or port.isdigit()) else host
    ours = name.removesuffix(".") in ("localhost", "127.0.0.1") or name == "[::1]"
    assert (Guard().check_place(incoming) is None) == ours


def test_what_is_shown_twice_is_not_chosen_from(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.json_answer({})]) as up,
            kit.served(tmp_path, CONFIG.format(base=up.base)) as served,
        ):
            for first, second in (("wrong", served.token), (served.token, "wrong")):
                lines = f"Authorization: Bearer {second}", f"Content-Length: {SIZE}"
                raw = head(*lines).replace(b"TOKEN", first.encode()) + ASK
                assert (await kit.raw(served.port, raw)).split(b" ")[1] == b"400"
            assert up.requests == []

    kit.run(run)

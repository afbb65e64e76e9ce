from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from dragoman.gateway.transport import (
    ConnectFailed,
    Outgoing,
    Proxy,
    ProxyRules,
    Timeouts,
    parse_base,
)

FAST = Timeouts(connect_s=2, first_byte_s=2, idle_s=2)


def get(base: str, ca_file: str | None = None) -> Outgoing:
    return Outgoing("GET", parse_base(base, ca_file=ca_file).origin, "/x")


def test_tls_upstreams_are_verified_by_the_given_authority(
    kit: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer(b"secure", framing="chunked")], tls=server_tls) as server:
            transport = kit.transport()
            for _ in range(2):
                answer = await transport.send(get(server.base, ca_file), FAST)
                assert await answer.read_all(100) == b"secure"
            assert server.connections == 1

    kit.run(run)


def test_a_file_of_authorities_adds_to_those_of_the_environment(
    kit: Any, server_tls: ssl.SSLContext, ca_file: str, authority: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)

    async def run() -> None:
        async with (
            kit.scripted([kit.answer(b"a")], tls=server_tls) as by_environment,
            kit.scripted([kit.answer(b"b")], tls=authority.tls) as by_file,
        ):
            transport = kit.transport()
            for server, body in ((by_environment, b"a"), (by_file, b"b")):
                answer = await transport.send(get(server.base, str(authority.ca_file)), FAST)
                assert await answer.read_all(100) == body

    kit.run(run)


def test_a_changed_file_of_authorities_counts_from_the_next_connection(
    kit: Any, ca_file: str, authority: Any, tmp_path: Path
) -> None:
    async def run() -> None:
        file = tmp_path / "ca.pem"
        file.write_text(Path(ca_file).read_text())
        async with kit.scripted([kit.answer(b"in")], tls=authority.tls) as server:
            transport = kit.transport()
            with pytest.raises(ConnectFailed, match="not trusted"):
                await transport.send(get(server.base, str(file)), FAST)
            file.write_bytes(authority.ca_file.read_bytes())
            os.utime(file, ns=(1, 1))
            answer = await transport.send(get(server.base, str(file)), FAST)
            assert await answer.read_all(100) == b"in"

    kit.run(run)


def test_an_unknown_authority_is_refused_with_the_way_out(kit: Any, server_tls: ssl.SSLContext) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer()], tls=server_tls) as server:
            with pytest.raises(ConnectFailed, match="certificate is not trusted") as caught:
                await kit.transport().send(get(server.base), FAST)
            assert "ca_file" in str(caught.value)
            assert "SSL_CERT_FILE" in (caught.value.hint or "")
            assert server.requests == []

    kit.run(run)


def test_a_plain_server_on_a_tls_address_is_a_clear_failure(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer()]) as server:
            with pytest.raises(ConnectFailed):
                await kit.transport().send(get(f"https://127.0.0.1:{server.port}"), Timeouts(0.2, 2, 2))

    kit.run(run)


def test_https_goes_through_a_tunnel_and_the_proxy_sees_no_request(
    kit: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    async def run() -> None:
        async with (
            kit.TunnelProxy() as proxy,
            kit.scripted([kit.answer(b"tunnelled")], tls=server_tls) as server,
        ):
            transport = kit.transport(proxies=proxy.rules())
            for _ in range(2):
                answer = await transport.send(get(server.base, ca_file), FAST)
                assert await answer.read_all(100) == b"tunnelled"
            (head,) = proxy.heads
            assert head.startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n")
            assert "Proxy-Authorization: Basic dTpw\r\n" in head
            assert "proxy-authorization" not in server.requests[0].headers

    kit.run(run)


def test_plain_http_asks_the_proxy_by_the_absolute_address(kit: Any) -> None:
    async def run() -> None:
        async with kit.TunnelProxy() as proxy, kit.scripted([kit.answer(b"relayed")]) as server:
            transport = kit.transport(proxies=proxy.rules())
            answer = await transport.send(get(server.base), FAST)
            assert await answer.read_all(100) == b"relayed"
            assert proxy.heads[0].startswith(f"GET http://127.0.0.1:{server.port}/x HTTP/1.1\r\n")

    kit.run(run)


def test_an_excepted_host_is_reached_directly(kit: Any) -> None:
    async def run() -> None:
        async with kit.TunnelProxy() as proxy, kit.scripted([kit.answer()]) as server:
            transport = kit.transport(proxies=proxy.rules(exceptions=("127.0.0.0/8",)))
            await (await transport.send(get(server.base), FAST)).read_all(100)
            assert proxy.heads == []

    kit.run(run)


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_proxy_that_refuses_is_named_with_its_status(
    status: str, kit: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    async def run() -> None:
        async with kit.TunnelProxy(status) as proxy, kit.scripted([kit.answer()], tls=server_tls) as server:
            transport = kit.transport(proxies=proxy.rules())
            with pytest.raises(ConnectFailed, match=f"status {status[:3]}") as caught:
                await transport.send(get(server.base, ca_file), FAST)
            assert "dTpw" not in str(caught.value) + repr(proxy.rules())

    kit.run(run)


@pytest.mark.parametrize(
    "reply",
    [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nextra", b"x" * 20_000, b""],
    ids=["no-http", "early-bytes", "endless", "nothing"],
)
def test_a_proxy_that_misbehaves_is_a_failed_connection(kit: Any, reply: bytes, ca_file: str) -> None:
    async def run() -> None:
        async with kit.scripted([reply, 0.05, "close"]) as server:
            proxy = Proxy("http", "127.0.0.1", server.port)
            transport = kit.transport(proxies=ProxyRules(https=proxy))
            with pytest.raises(ConnectFailed):
                await transport.send(get("https://127.0.0.1:9", ca_file), FAST)

    kit.run(run)


def test_an_unreadable_authority_file_is_named(kit: Any) -> None:
    async def run() -> None:
        with pytest.raises(Exception, match="no-such-file"):
            await kit.transport().send(get("https://127.0.0.1:9", "no-such-file"), FAST)

    kit.run(run)

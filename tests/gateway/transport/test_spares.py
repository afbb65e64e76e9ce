"""A connection is at the ready where somebody is at work, and nowhere else."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from dragoman.gateway.transport import Limits, Outgoing, Timeouts, parse_base

FAST = Timeouts(connect_s=2, first_byte_s=2, idle_s=2)
CLOSING = (("Connection", "close"),)


async def ask(transport: Any, origin: Any) -> bool:
    """Ask once; whether the connection was there before."""
    answer = await transport.send(Outgoing("POST", origin, "/x", (), b"{}"), FAST)
    await answer.read_all(1 << 16)
    return answer.reused


def test_a_connection_made_ahead_serves_the_first_request(
    kit: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer()], tls=server_tls) as server:
            transport = kit.transport()
            origin = parse_base(server.base, ca_file=ca_file).origin
            transport.warm(origin)
            transport.warm(origin)  # one is being made
            await kit.until(lambda: transport.idle == 1)
            transport.warm(origin)  # one is there
            assert server.requests == []
            assert await ask(transport, origin)
            assert server.connections == 1

    kit.run(run)


def test_where_the_server_closes_after_each_answer_the_next_request_still_needs_no_dial(
    kit: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer(headers=CLOSING), "close"], tls=server_tls) as server:
            transport = kit.transport()
            origin = parse_base(server.base, ca_file=ca_file).origin
            assert not await ask(transport, origin)
            for asked in (1, 2, 3):
                await kit.until(lambda: transport.idle == 1)
                assert await ask(transport, origin)
                assert len(server.requests) == asked + 1

    kit.run(run)


def test_a_server_that_closes_idle_connections_is_dialed_once_for_each_request(
    kit: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer()], tls=server_tls) as server:
            transport = kit.transport()
            origin = parse_base(server.base, ca_file=ca_file).origin
            await ask(transport, origin)
            server.writers[0].close()
            await kit.until(lambda: server.connections == 2 and transport.idle == 1)
            server.writers[1].close()
            await kit.until(lambda: transport.idle == 0 and server.open == 0)
            await asyncio.sleep(0.05)
            assert server.connections == 2

    kit.run(run)


def test_nobody_is_dialed_again_where_nobody_has_asked_for_a_while(
    kit: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer()], tls=server_tls) as server:
            transport = kit.transport(limits=Limits(spare_window_s=0.05))
            origin = parse_base(server.base, ca_file=ca_file).origin
            await ask(transport, origin)
            await asyncio.sleep(0.1)
            server.writers[-1].close()
            await kit.until(lambda: transport.idle == 0)
            await asyncio.sleep(0.05)
            assert server.connections == 1

    kit.run(run)


def test_an_idle_connection_ends_quietly_and_is_not_replaced(
    kit: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer()], tls=server_tls) as server:
            transport = kit.transport(limits=Limits(spare_window_s=0.02, keep_idle_s=0.1))
            transport.warm(parse_base(server.base, ca_file=ca_file).origin)
            await kit.until(lambda: transport.idle == 1)
            await kit.until(lambda: transport.idle == 0 and server.open == 0)
            assert server.connections == 1

    kit.run(run)


def test_plain_and_direct_places_are_not_dialed_ahead(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer()]) as server:
            transport = kit.transport()
            transport.warm(parse_base(server.base).origin)
            transport.warm(parse_base(f"https://127.0.0.1:{server.port}", direct=True).origin)
            await asyncio.sleep(0.05)
            assert server.connections == 0

    kit.run(run)


def test_closing_leaves_no_dial_half_made(kit: Any, ca_file: str) -> None:
    async def run() -> None:
        async with kit.scripted(["wait"]) as server:  # takes the connection and never shakes hands
            transport = kit.transport()
            transport.warm(parse_base(f"https://127.0.0.1:{server.port}", ca_file=ca_file).origin)
            await kit.until(lambda: server.open == 1)
            await transport.aclose()
            await kit.until(lambda: server.open == 0)

    kit.run(run)

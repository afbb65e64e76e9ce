from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.gateway.transport import (
    Answer,
    AnswerAborted,
    AnswerCut,
    BadAddress,
    BrokenAnswer,
    ConnectFailed,
    ConnectionDropped,
    ConnectTimedOut,
    FirstByteTimedOut,
    IdleTimedOut,
    Limits,
    Outgoing,
    Timeouts,
    parse_base,
    socket_origin,
)

FAST = Timeouts(connect_s=2, first_byte_s=2, idle_s=2)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(base: str, body: bytes = b"{}", method: str = "POST", target: str = "/v1/x", **kw: Any) -> Outgoing:
    return Outgoing(method, parse_base(base).origin, target, body=body, **kw)


async def everything(answer: Answer) -> bytes:
    return await answer.read_all(1 << 26)


def test_a_request_arrives_as_it_was_given_and_its_answer_is_read(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer(b"hello", headers=(("X-Up", "1"),))]) as server:
            transport = kit.transport()
            request = post(
                server.base, b'{"a":1}', headers=((b"x-api-key", b"secret"),), target="/v1/x?beta=true"
            )
            answer = await transport.send(request, FAST)
            assert (answer.status, answer.header(b"x-up"), await everything(answer)) == (200, b"1", b"hello")
            seen = server.requests[0]
            assert seen.line == "POST /v1/x?beta=true HTTP/1.1"
            assert seen.body == b'{"a":1}'
            assert seen.headers == {
                "host": f"127.0.0.1:{server.port}",
                "accept-encoding": "identity",
                "x-api-key": "secret",
                "content-length": "7",
            }

    kit.run(run)


@pytest.mark.parametrize("framing", ["length", "chunked", "eof"])
def test_every_framing_of_a_body_is_read_to_its_end(kit: Any, framing: str) -> None:
    body = bytes(range(256)) * 700

    async def run() -> None:
        steps = [kit.answer(body, framing=framing), *(["close"] if framing == "eof" else [])]
        async with kit.scripted(steps) as server:
            transport = kit.transport()
            assert await everything(await transport.send(post(server.base), FAST)) == body
            assert transport.idle == (0 if framing == "eof" else 1)

    kit.run(run)


def test_connections_are_kept_and_used_again(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer(b"x", framing="chunked")]) as server:
            transport = kit.transport()
            answers = []
            for _ in range(3):
                answer = await transport.send(post(server.base), FAST)
                await everything(answer)
                answers.append(answer.reused)
            assert answers == [False, True, True]
            assert server.connections == 1
            await transport.aclose()
            await kit.until(lambda: server.open == 0)

    kit.run(run)


def test_a_body_is_given_as_it_arrives_one_read_for_each_network_read(kit: Any) -> None:
    async def run() -> None:
        go = asyncio.Event()

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await kit.read_request(reader, 1)
            writer.write(CHUNKED + kit.chunk(b"one") + kit.chunk(b"two"))
            await go.wait()
            writer.write(kit.chunk(b"three") + b"0\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await kit.serve(play)
        base = server
        answer = await kit.transport().send(post(base), FAST)
        assert await answer.read() == b"onetwo"
        go.set()
        assert await answer.read() == b"three"
        assert await answer.read() == b""

    kit.run(run)


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=12), framing=st.sampled_from(["length", "chunked"]))
def test_any_split_of_the_bytes_gives_the_same_answer(cuts: list[int], framing: str) -> None:
    body = b'data: {"text": "\xc3\xa9\xf0\x9f\x98\x80"}\n\n' * 6
    pieces = [body[i : i + 11] for i in range(0, len(body), 11)]
    if framing == "chunked":
        wire = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    else:
        wire = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    class Loose:
        """A connection that only notes what it is told."""

        released: bool | None = None

        def release(self, *, reusable: bool) -> None:
            self.released = reusable

        def pause(self) -> None: ...
        def resume(self) -> None: ...
        def abort(self) -> None: ...

    async def run() -> None:
        loose = Loose()
        answer = Answer(
            loose,  # type: ignore[arg-type]
            parse_base("http://up").origin,
            loop=asyncio.get_running_loop(),
            limits=Limits(),
            timeouts=FAST,
            reused=False,
            no_body=False,
        )
        marks = [0, *sorted(min(c, len(wire)) for c in cuts), len(wire)]
        for start, end in itertools.pairwise(marks):
            if start < end:
                answer.received(wire[start:end])
        await answer.head()
        assert await everything(answer) == body
        assert loose.released is True

    asyncio.run(run())


def test_interim_answers_are_skipped(kit: Any) -> None:
    async def run() -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\nLink: x\r\n\r\n"
        async with kit.scripted([b"HTTP/1.1 100 Continue\r\n\r\n" + early, kit.answer(b"done")]) as server:
            answer = await kit.transport().send(post(server.base), FAST)
            assert (answer.status, await everything(answer)) == (200, b"done")
            assert answer.header(b"link") is None

    kit.run(run)


def test_a_dead_kept_connection_is_replaced_once_and_nothing_is_lost(kit: Any) -> None:
    async def run() -> None:
        def script(request: Any) -> list[Any]:
            if len(server.requests) == 2:
                return ["close"]
            return [kit.answer(b"ok")]

        async with kit.scripted(script) as server:
            transport = kit.transport()
            await everything(await transport.send(post(server.base), FAST))
            answer = await transport.send(post(server.base), FAST)
            assert await everything(answer) == b"ok"
            assert (answer.reused, server.connections, len(server.requests)) == (False, 2, 3)

    kit.run(run)


def test_a_kept_connection_that_began_an_answer_is_never_asked_again(kit: Any) -> None:
    async def run() -> None:
        def script(request: Any) -> list[Any]:
            return [b"HTTP/1.1 2", "close"] if len(server.requests) == 2 else [kit.answer(b"ok")]

        async with kit.scripted(script) as server:
            transport = kit.transport()
            await everything(await transport.send(post(server.base), FAST))
            with pytest.raises(AnswerCut) as caught:
                await transport.send(post(server.base), FAST)
            assert caught.value.began
            assert len(server.requests) == 2

    kit.run(run)


def test_a_kept_connection_that_died_after_a_while_is_not_asked_again(kit: Any) -> None:
    async def run() -> None:
        def script(request: Any) -> list[Any]:
            return [0.1, "close"] if len(server.requests) == 2 else [kit.answer(b"ok")]

        async with kit.scripted(script) as server:
            transport = kit.transport(limits=Limits(stale_window_s=0.02))
            await everything(await transport.send(post(server.base), FAST))
            with pytest.raises(ConnectionDropped):
                await transport.send(post(server.base), FAST)
            assert len(server.requests) == 2

    kit.run(run)


def test_a_fresh_connection_that_is_dropped_is_an_error_not_a_retry(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted(["close"]) as server:
            with pytest.raises(ConnectionDropped):
                await kit.transport().send(post(server.base), FAST)
            assert len(server.requests) == 1

    kit.run(run)


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_body_cut_short_is_an_error_after_what_arrived(kit: Any, ending: str) -> None:
    async def run() -> None:
        async with kit.scripted([CHUNKED + kit.chunk(b"half"), 0.02, ending]) as server:
            answer = await kit.transport().send(post(server.base), FAST)
            assert await answer.read() == b"half"
            with pytest.raises(AnswerCut):
                await answer.read()

    kit.run(run)


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
    ],
    ids=[
        "not-http",
        "two-framings",
        "two-lengths",
        "upgrade",
        "huge-head",
        "endless-interim",
        "unasked-encoding",
    ],
)
def test_what_is_no_proper_answer_is_refused(kit: Any, garbage: bytes) -> None:
    async def run() -> None:
        async with kit.scripted([garbage, "wait"]) as server:
            with pytest.raises(BrokenAnswer):
                await everything(await kit.transport().send(post(server.base), FAST))
            await kit.until(lambda: server.open == 0)

    kit.run(run)


def test_a_broken_chunk_in_the_middle_ends_the_body_with_an_error(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([CHUNKED + kit.chunk(b"fine"), 0.02, b"zz\r\n", "wait"]) as server:
            answer = await kit.transport().send(post(server.base), FAST)
            assert await answer.read() == b"fine"
            with pytest.raises(BrokenAnswer):
                await answer.read()

    kit.run(run)


def test_bytes_after_the_answer_make_the_connection_unusable(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted(
            [kit.answer(b"ok") + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"]
        ) as server:
            transport = kit.transport()
            for _ in range(2):
                answer = await transport.send(post(server.base), FAST)
                assert await everything(answer) == b"ok"
                assert transport.idle == 0
            assert server.connections == 2

    kit.run(run)


def test_an_upstream_that_never_answers_times_out_at_the_first_byte(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted(["wait"]) as server:
            with pytest.raises(FirstByteTimedOut) as caught:
                await kit.transport().send(post(server.base), Timeouts(first_byte_s=0.05, idle_s=9))
            assert caught.value.http_status == 504
            await kit.until(lambda: server.open == 0)

    kit.run(run)


def test_a_head_alone_does_not_stop_the_first_byte_clock(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([CHUNKED, "wait"]) as server:
            answer = await kit.transport().send(post(server.base), Timeouts(first_byte_s=0.1, idle_s=0.02))
            with pytest.raises(FirstByteTimedOut):
                await answer.read()

    kit.run(run)


def test_silence_in_the_middle_times_out_however_long_the_first_byte_may_take(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([CHUNKED + kit.chunk(b"a"), "wait"]) as server:
            answer = await kit.transport().send(post(server.base), Timeouts(first_byte_s=60, idle_s=0.05))
            assert await answer.read() == b"a"
            with pytest.raises(IdleTimedOut):
                await answer.read()

    kit.run(run)


def test_a_stream_longer_than_the_idle_limit_lives_as_long_as_it_speaks(kit: Any) -> None:
    async def run() -> None:
        steps: list[Any] = [CHUNKED]
        for _ in range(12):
            steps += [kit.chunk(b"."), 0.03]
        async with kit.scripted([*steps, b"0\r\n\r\n"]) as server:
            answer = await kit.transport().send(post(server.base), Timeouts(first_byte_s=0.2, idle_s=0.2))
            assert await everything(answer) == b"." * 12

    kit.run(run)


def test_connecting_takes_no_longer_than_allowed(kit: Any) -> None:
    async def run() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            # A listener with a full backlog drops further connection attempts.
            fillers = []
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
                fillers.append(filler)
            with pytest.raises(ConnectTimedOut):
                await kit.transport().send(
                    post(f"http://127.0.0.1:{full.getsockname()[1]}"),
                    Timeouts(connect_s=0.1, first_byte_s=0.1),
                )
            for filler in fillers:
                filler.close()

    kit.run(run)


def test_a_refused_connection_says_where_and_why(kit: Any) -> None:
    async def run() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        with pytest.raises(ConnectFailed, match=rf"http://127\.0\.0\.1:{port}: connection refused"):
            await kit.transport().send(post(f"http://127.0.0.1:{port}"), FAST)

    kit.run(run)


def test_a_reader_that_is_slow_stops_the_upstream_instead_of_filling_memory(kit: Any) -> None:
    async def run() -> None:
        total = 24 << 20
        sent = 0

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await kit.read_request(reader, 1)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            block = b"x" * 65536
            while sent < total:
                writer.write(block)
                await writer.drain()
                sent += len(block)

        server = await kit.serve(play)
        base = server
        answer = await kit.transport().send(post(base), Timeouts(first_byte_s=5, idle_s=0.1))
        await kit.until(lambda: sent > 0)
        stopped_at = -1
        while stopped_at != sent:
            stopped_at = sent
            await asyncio.sleep(0.15)
        # The pause is ours, so it is not counted as the upstream's silence.
        assert stopped_at < total // 2
        assert len(await everything(answer)) == total

    kit.run(run)


def test_an_abort_reaches_the_upstream_at_once(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([CHUNKED + kit.chunk(b"a"), "wait"]) as server:
            transport = kit.transport()
            answer = await transport.send(post(server.base), FAST)
            assert await answer.read() == b"a"
            answer.abort()
            await asyncio.wait_for(server.left.wait(), 1)
            with pytest.raises(AnswerAborted):
                await answer.read()
            assert transport.idle == 0

    kit.run(run)


def test_a_cancelled_wait_for_the_head_ends_the_exchange(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted(["wait"]) as server:
            task = asyncio.create_task(kit.transport().send(post(server.base), FAST))
            await kit.until(lambda: server.requests)
            task.cancel()
            await asyncio.wait_for(server.left.wait(), 1)
            with pytest.raises(asyncio.CancelledError):
                await task

    kit.run(run)


def test_draining_keeps_the_connection_when_the_end_comes_soon(kit: Any) -> None:
    async def run() -> None:
        steps = [CHUNKED + kit.chunk(b"data: [DONE]\n\n"), 0.05, kit.chunk(b": bye\n\n") + b"0\r\n\r\n"]
        async with kit.scripted(steps) as server:
            transport = kit.transport()
            answer = await transport.send(post(server.base), FAST)
            await answer.read()
            answer.drain()
            await kit.until(lambda: transport.idle == 1)

    kit.run(run)


@pytest.mark.parametrize(
    "tail", [["wait"], [b"400\r\n" + b"x" * 0x400 + b"\r\n", "wait"]], ids=["silent", "endless"]
)
def test_draining_is_bounded(kit: Any, tail: list[Any]) -> None:
    async def run() -> None:
        async with kit.scripted([CHUNKED + kit.chunk(b"end"), 0.02, *tail]) as server:
            transport = kit.transport(limits=Limits(drain_bytes=100, drain_s=0.2))
            answer = await transport.send(post(server.base), FAST)
            await answer.read()
            answer.drain()
            await asyncio.wait_for(server.left.wait(), 2)
            assert transport.idle == 0

    kit.run(run)


def test_a_nudge_ends_a_read_without_losing_anything(kit: Any) -> None:
    async def run() -> None:
        go = asyncio.Event()

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await kit.read_request(reader, 1)
            writer.write(CHUNKED)
            await go.wait()
            writer.write(kit.chunk(b"late") + b"0\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await kit.serve(play)
        answer = await kit.transport().send(post(server), FAST)
        asyncio.get_running_loop().call_later(0.02, answer.nudge)
        assert await answer.read() is None
        go.set()
        assert await answer.read() == b"late"
        assert await answer.read() == b""

    kit.run(run)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_compressed_answer_nobody_asked_for_is_read_all_the_same(kit: Any, name: str) -> None:
    body = b"data: hello\n\n" * 20_000
    packed = gzip.compress(body) if name == "gzip" else zlib.compress(body)

    async def run() -> None:
        pieces = [packed[i : i + 50] for i in range(0, len(packed), 50)]
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        async with kit.scripted([head, *(kit.chunk(p) for p in pieces), b"0\r\n\r\n"]) as server:
            answer = await kit.transport().send(post(server.base), FAST)
            assert await everything(answer) == body

    kit.run(run)


def test_a_compressed_answer_that_ends_early_is_cut_not_complete(kit: Any) -> None:
    packed = gzip.compress(b"hello" * 100)

    async def run() -> None:
        async with kit.scripted(
            [kit.answer(packed[:-12], headers=(("Content-Encoding", "gzip"),))]
        ) as server:
            with pytest.raises(AnswerCut):
                await everything(await kit.transport().send(post(server.base), FAST))

    kit.run(run)


def test_a_compression_bomb_is_handed_out_in_bounded_pieces(kit: Any) -> None:
    packed = gzip.compress(b"\0" * (12 << 20))

    async def run() -> None:
        async with kit.scripted([kit.answer(packed, headers=(("Content-Encoding", "gzip"),))]) as server:
            answer = await kit.transport().send(post(server.base), FAST)
            assert len(await answer.read() or b"") <= 1 << 20
            with pytest.raises(BrokenAnswer, match="longer than"):
                await answer.read_all(4 << 20)

    kit.run(run)


def test_a_large_body_is_sent_whole(kit: Any) -> None:
    async def run() -> None:
        body = b"a" * (3 << 20)
        async with kit.scripted([kit.answer()]) as server:
            await everything(await kit.transport().send(post(server.base, body), FAST))
            assert server.requests[0].body == body

    kit.run(run)


def test_an_answer_that_comes_before_the_body_was_read_does_not_poison_the_connection(kit: Any) -> None:
    async def run() -> None:
        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(kit.answer(b"too big", status="413 X"))
            await asyncio.sleep(0.3)
            writer.close()

        server = await kit.serve(play, limit=1024)
        transport = kit.transport()
        answer = await transport.send(post(server, b"a" * (32 << 20)), FAST)
        assert (answer.status, await everything(answer)) == (413, b"too big")
        assert transport.idle == 0

    kit.run(run)


def test_a_head_request_ends_with_its_headers(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"]) as server:
            answer = await kit.transport().send(post(server.base, b"", "HEAD"), FAST)
            assert (answer.status, await answer.read()) == (200, b"")

    kit.run(run)


def test_a_redirect_is_an_answer_and_is_not_followed(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted(
            [kit.answer(b"", status="307 X", headers=(("Location", "/other"),))]
        ) as server:
            answer = await kit.transport().send(post(server.base), FAST)
            assert (answer.status, len(server.requests)) == (307, 1)

    kit.run(run)


@pytest.mark.parametrize(
    "request_",
    [
        Outgoing("POST", parse_base("http://h").origin, "/a b"),
        Outgoing("POST", parse_base("http://h").origin, "/a\r\nx: y"),
        Outgoing("POST", parse_base("http://h").origin, "/a", ((b"x", b"a\r\nb: c"),)),
        Outgoing("POST", parse_base("http://h").origin, "/a", ((b"x:y", b"a"),)),
        Outgoing("POST", parse_base("http://h").origin, "/a", ((b"", b"a"),)),
    ],
)
def test_nothing_that_could_end_its_own_line_is_sent(kit: Any, request_: Outgoing) -> None:
    with pytest.raises(BadAddress) as caught:
        kit.run(lambda: kit.transport().send(request_, FAST))
    assert "b: c" not in str(caught.value)


def test_a_unix_socket_is_an_origin_like_any_other(kit: Any, tmp_path: Any) -> None:
    async def run() -> None:
        path = tmp_path / "s"
        async with kit.scripted([kit.answer(b"by socket")], unix=path) as server:
            transport = kit.transport()
            for _ in range(2):
                answer = await transport.send(Outgoing("GET", socket_origin(path), "/api"), FAST)
                assert await everything(answer) == b"by socket"
            assert server.connections == 1
            assert server.requests[0].headers["host"] == "localhost"

    kit.run(run)


def test_small_segments_leave_at_once(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer()]) as server:
            transport = kit.transport()
            await everything(await transport.send(post(server.base), FAST))
            pool = transport._pool
            assert pool is not None
            (connection,) = pool._timers
            sock = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

    kit.run(run)


def test_idle_connections_are_bounded_in_number_and_time(kit: Any) -> None:
    async def run() -> None:
        async with kit.scripted([0.05, kit.answer()]) as server:
            transport = kit.transport(limits=Limits(idle_per_origin=2, keep_idle_s=0.2))
            answers = await asyncio.gather(*(transport.send(post(server.base), FAST) for _ in range(5)))
            for answer in answers:
                await everything(answer)
            await kit.until(lambda: transport.idle == 2)
            await kit.until(lambda: transport.idle == 0 and server.open == 0)

    kit.run(run)

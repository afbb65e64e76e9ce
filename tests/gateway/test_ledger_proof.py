"""What the ledger says is what the upstream sent, to the token, however calls end."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.engine import URL

from dragoman.gateway import spool as spool_module
from dragoman.gateway.transport import TransportError
from dragoman.ledger.intake import take_in
from dragoman.ledger.summary import summarize
from dragoman.ledger.tables import ROWS
from dragoman.store.database import Database

WIRES = ("responses", "chat", "messages")
PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions", "messages": "/v1/messages"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

CONFIG = """
[providers.up-chat]
wires.chat = "{base}/v1"
[providers.up-responses]
wires.responses = "{base}/v1"
[providers.up-messages]
wires.messages = "{base}"
[models.chat]
provider = "up-chat"
price = {{ input = 2.0, output = 10.0, cache_read = 0.5 }}
[models.responses]
provider = "up-responses"
[models.messages]
provider = "up-messages"
"""


@dataclass
class Call:
    """One call: what is asked, how it is to end, and what the upstream said it cost."""

    number: int
    client: str
    upstream: str
    stream: bool
    ending: str
    read: int
    write: int
    fresh: int
    output: int
    reasoning: int
    sent: tuple[int, ...] | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def whole(self) -> tuple[int, ...]:
        """Input, cache read, cache write, output, reasoning, as the ledger has them."""
        if self.upstream == "messages":
            return (self.fresh + self.read + self.write, self.read, self.write, self.output, 0)
        return (self.fresh + self.read, self.read, 0, self.output, self.reasoning)

    @property
    def body(self) -> dict[str, Any]:
        text = f"this is call-{self.number}-"
        common = {"model": self.upstream, "stream": self.stream}
        if self.client == "responses":
            return {**common, "input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]}
        messages = [{"role": "user", "content": text}]
        return {**common, "messages": messages, "max_tokens": 500}


class Upstream:
    """Answers by each call's script and notes the usage it has sent."""

    def __init__(self, kit: Any, calls: list[Call]) -> None:
        self._kit = kit
        self._calls = calls
        self.asked: Counter[int] = Counter()

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await self._kit.read_request(reader, 0)) is not None:
            found = re.search(rb"call-(\d+)-", request.body)
            assert found is not None
            call = self._calls[int(found[1])]
            self.asked[call.number] += 1
            call.arrived.set()
            if not await self._answer(
                call, reader, writer, stream=bool(json.loads(request.body).get("stream"))
            ):
                return

    async def _answer(
        self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, stream: bool
    ) -> bool:
        """Whether the connection can be used again."""
        kit = self._kit
        match call.ending:
            case "refused":
                writer.write(kit.json_answer({"error": {"message": "no"}}, "400 Bad Request"))
            case "broken":
                writer.write(kit.json_answer({"error": {"message": "oh"}}, "500 Internal Server Error"))
            case "cut" | "cancelled" if stream:
                begin, _ = _stream(kit, call)
                if call.upstream == "messages":
                    # It says what the prompt cost at once, and one token of output so far.
                    call.sent = (*call.whole[:3], 1, 0)
                writer.write(HEAD + kit.chunk(begin))
                await writer.drain()
                if call.ending == "cancelled":
                    await reader.read()
                return False
            case "cancelled":
                await reader.read()
                return False
            case "cut":
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
                )
                await writer.drain()
                return False
            case "unsaid":
                writer.write(_whole(kit, call, stream, usage=False))
            case _:
                call.sent = call.whole
                writer.write(_whole(kit, call, stream, usage=True))
        await writer.drain()
        return True


def _usage(call: Call) -> dict[str, Any]:
    if call.upstream == "messages":
        return {
            "input_tokens": call.fresh,
            "cache_read_input_tokens": call.read,
            "cache_creation_input_tokens": call.write,
            "output_tokens": call.output,
        }
    total = call.fresh + call.read
    if call.upstream == "chat":
        return {
            "prompt_tokens": total,
            "completion_tokens": call.output,
            "total_tokens": total + call.output,
            "prompt_tokens_details": {"cached_tokens": call.read},
            "completion_tokens_details": {"reasoning_tokens": call.reasoning},
        }
    return {
        "input_tokens": total,
        "output_tokens": call.output,
        "total_tokens": total + call.output,
        "input_tokens_details": {"cached_tokens": call.read},
        "output_tokens_details": {"reasoning_tokens": call.reasoning},
    }


def _stream(kit: Any, call: Call, *, usage: bool = True) -> tuple[bytes, bytes]:
    """The stream up to its first words, and the rest."""
    counted = _usage(call) if usage else {}
    if call.upstream == "chat":
        begin = kit.sse(
            kit.chat_chunk({"role": "assistant", "content": ""}),
            kit.chat_chunk({"content": "hi"}),
            named=False,
        )
        last = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
        late = [last | {"usage": counted}] if usage else []
        return begin, kit.sse(kit.chat_chunk({}, "stop"), *late, "[DONE]", named=False)
    if call.upstream == "messages":
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []}
        early = {"usage": {**counted, "output_tokens": 1}} if usage else {}
        begin = kit.sse(
            {"type": "message_start", "message": {**message, "stop_reason": None, **early}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        )
        late = {"usage": {"output_tokens": call.output}} if usage else {}
        return begin, kit.sse(
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **late},
            {"type": "message_stop"},
        )
    empty = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "hi", "annotations": []}
    done = {**empty, "status": "completed", "content": [part]}
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "in_progress"}
    begin = kit.sse(
        {"type": "response.created", "response": {**response, "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        {
            "type": "response.content_part.added",
            "output_index": 0,
            "content_index": 0,
            "item_id": "msg_1",
            "part": {**part, "text": ""},
        },
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "item_id": "msg_1",
            "delta": "hi",
        },
    )
    late = {"usage": counted} if usage else {}
    return begin, kit.sse(
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "output": [done], **late},
        },
    )


def _whole(kit: Any, call: Call, stream: bool, *, usage: bool) -> bytes:
    if stream:
        begin, rest = _stream(kit, call, usage=usage)
        return HEAD + kit.chunk(begin) + kit.chunk(rest) + b"0\r\n\r\n"
    counted = {"usage": _usage(call)} if usage else {}
    if call.upstream == "chat":
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        return kit.json_answer(
            {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
                **counted,
            }
        )
    if call.upstream == "messages":
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
        text = [{"type": "text", "text": "hi"}]
        return kit.json_answer({**message, "content": text, "stop_reason": "end_turn", **counted})
    part = {"type": "output_text", "text": "hi", "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
    return kit.json_answer({**response, "output": [item], **counted})


def _calls(count: int) -> list[Call]:
    chance = random.Random(20261)
    endings = ["ok"] * 10 + ["cut", "cancelled", "cancelled", "refused", "broken", "unsaid"]
    return [
        Call(
            number=number,
            client=chance.choice(WIRES),
            upstream=chance.choice(WIRES),
            stream=chance.random() < 0.6,
            ending=chance.choice(endings),
            read=chance.choice((0, chance.randrange(90_000))),
            write=chance.choice((0, chance.randrange(9_000))),
            fresh=chance.randrange(1, 200_000),
            output=chance.randrange(2, 30_000),
            reasoning=0 if number % 3 else 1,
        )
        for number in range(count)
    ]


async def _ask(served: Any, call: Call) -> None:
    headers = {"session-id": f"call-{call.number}", "anthropic-version": "2023-06-01"}
    opening = asyncio.ensure_future(served.open(PATHS[call.client], call.body, headers=headers))
    if call.ending == "cancelled" and not call.stream:
        await call.arrived.wait()
        opening.cancel()
        await asyncio.wait([opening])
        return
    answer = await opening
    try:
        if call.ending == "cancelled":
            seen = b""
            while b"hi" not in seen:
                piece = await answer.read()
                assert piece, seen
                seen += piece
        else:
            await answer.read_all(1 << 20)
    except TransportError:
        assert call.ending == "cut"
    finally:
        answer.close()


@pytest.mark.parametrize("count", [1000])
def test_the_ledger_equals_the_upstream_to_the_token_over_a_thousand_mixed_calls(
    tmp_path: Path, kit: Any, count: int
) -> None:
    calls = _calls(count)
    database = Database(URL.create("sqlite", database=str(tmp_path / "ledger.db")))

    async def run() -> None:
        upstream = Upstream(kit, calls)
        base = await kit.serve(upstream.play)
        async with kit.served(tmp_path, CONFIG.format(base=base)) as served:
            waiting = iter(calls)

            async def work() -> None:
                for call in waiting:
                    await _ask(served, call)

            await asyncio.gather(*(work() for _ in range(12)))
            await kit.until(lambda: served.gateway.open_requests == 0, timeout_s=10)
            served.gateway._spool.flush()
            assert take_in(database, served.home.spool).rows == count

    kit.run(run)

    with database.read() as connection:
        rows = {row.session: row for row in connection.execute(select(ROWS))}
    assert len(rows) == count
    wrong = []
    for call in calls:
        row = rows[f"call-{call.number}"]
        kept = (
            row.input_tokens,
            row.cache_read_tokens,
            row.cache_write_tokens,
            row.output_tokens,
            row.reasoning_tokens,
        )
        outcome = {"ok": "ok", "unsaid": "ok", "cancelled": "client_left"}.get(call.ending, "failed")
        source = "reported" if call.sent is not None else row.usage_source
        if (row.outcome, row.usage_source) != (outcome, source) or (call.sent or kept) != kept:
            wrong.append((call, row.outcome, row.usage_source, kept))
        if call.sent is None and call.ending != "unsaid" and (row.usage_source, kept) != ("none", (0,) * 5):
            wrong.append((call, row.outcome, row.usage_source, kept))
    assert wrong == []

    sent = [call.sent for call in calls if call.sent is not None]
    total = summarize(database).total
    estimated = sum(row.input_tokens for row in rows.values() if row.usage_source == "estimated")
    assert total.input_tokens - estimated == sum(one[0] for one in sent)
    assert total.cache_read_tokens == sum(one[1] for one in sent)
    assert total.cache_write_tokens == sum(one[2] for one in sent)
    assert total.reasoning_tokens == sum(one[4] for one in sent)
    endings = Counter(call.ending for call in calls)
    assert total.cancelled == endings["cancelled"] > count / 20
    assert total.failed == total.cancelled + endings["cut"] + endings["refused"] + endings["broken"]
    # Money: to the cent of a cent where there is a price, and never a zero where there is none.
    priced = [call.sent for call in calls if call.sent is not None and call.upstream == "chat"]
    usd = sum((one[0] - one[1]) * 2.0 + one[1] * 0.5 + one[3] * 10.0 for one in priced) / 1e6
    by_model = {usage.model: usage for usage in summarize(database).by_model}
    guessed = sum(
        row.cost_usd for row in rows.values() if row.usage_source == "estimated" and row.model == "chat"
    )
    assert by_model["chat"].cost_usd == pytest.approx(usd + guessed, abs=1e-6)
    assert by_model["messages"].cost_usd is None
    assert by_model["messages"].unpriced > 0
    print(json.dumps({"endings": endings, "reported": len(sent), "input_tokens": total.input_tokens}))
    database.close()


def test_on_a_full_disk_serving_goes_on_and_the_ledger_says_what_it_lost(
    tmp_path: Path, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [Call(n, "chat", "chat", False, "ok", 0, 0, 10 + n, 5, 0) for n in range(12)]
    database = Database(URL.create("sqlite", database=str(tmp_path / "ledger.db")))
    real, full = os.write, True

    def write(fd: int, data: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, "no space")
        return real(fd, data)

    async def run() -> None:
        nonlocal full
        upstream = Upstream(kit, calls)
        base = await kit.serve(upstream.play)
        async with kit.served(tmp_path, CONFIG.format(base=base)) as served:
            monkeypatch.setattr(spool_module, "_MAX_WAITING_ROWS", 4)
            monkeypatch.setattr(spool_module.os, "write", write)
            for call in calls[:10]:
                status, _, _ = await served.ask(PATHS["chat"], call.body)
                assert status == 200
            assert take_in(database, served.home.spool).rows == 0
            full = False
            for call in calls[10:]:
                await served.ask(PATHS["chat"], call.body)

            def all_told() -> bool:
                take_in(database, served.home.spool)
                summary = summarize(database)
                return summary.total.requests + summary.lost_requests == 12

            await kit.until(all_told)

    kit.run(run)
    summary = summarize(database)
    # The newest rows are kept; the others are counted, as missing and not as nothing.
    kept = summary.total.requests
    assert kept >= 4
    assert kept + summary.lost_requests == 12
    assert summary.total.input_tokens == sum(10 + n for n in range(12 - kept, 12))
    database.close()

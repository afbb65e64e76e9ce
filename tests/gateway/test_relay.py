from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

ASK = {
    "messages": {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]},
    "chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "responses": {"model": "m", "input": "hi"},
}
PATHS = {"messages": "/v1/messages", "chat": "/v1/chat/completions", "responses": "/v1/responses"}


def config(base: str, *wires: str, more: str = "", profile: str = "generic", upstream: str = "m-up") -> str:
    bases = {"chat": f"{base}/v1", "responses": f"{base}/v1", "messages": base}
    lines = "\n".join(f'wires.{wire} = "{bases[wire]}"' for wire in wires)
    return f"""
[providers.up]
profile = "{profile}"
key_env = "UP_KEY"
{lines}
[models."m"]
provider = "up"
upstream = "{upstream}"
{more}
"""


def ask(wire: str, **fields: Any) -> dict[str, Any]:
    return {**ASK[wire], **fields}


def events_of(body: bytes) -> list[dict[str, Any]]:
    frames = [line[5:].strip() for line in body.split(b"\n") if line.startswith(b"data:")]
    return [json.loads(frame) for frame in frames if frame != b"[DONE]"]


def test_messages_pass_through_byte_for_byte_but_for_the_model(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        stream = kit.messages_stream("Hel", "lo")
        async with (
            kit.scripted([kit.streamed(stream)]) as up,
            kit.served(tmp_path, config(up.base, "messages")) as served,
        ):
            turn = b'{"role":"user","content":"\\u00e9 1.0"}'
            body = b'{ "model" : "m","stream":true,  "max_tokens":5,"messages":[' + turn + b'],"x":1.50}'
            headers = {
                "anthropic-version": "2023-06-01",
                "anthropic-beta": "a,b",
                "x-claude-code-session-id": "s1",
                "user-agent": "claude-cli/2.1.197 (external)",
                "x-stainless-os": "Linux",
                "x-codex-turn-metadata": "{}",
            }
            status, got, answer = await served.ask("/v1/messages?beta=true", body, headers=headers)
            (seen,) = up.requests
            assert seen.line == "POST /v1/messages?beta=true HTTP/1.1"
            assert seen.body == body.replace(b'"m"', b'"m-up"')
            assert status == 200
            assert answer == stream.replace(b'"m-up"', b'"m"')
            assert got["content-type"].startswith("text/event-stream")
            assert got["x-dragoman-request-id"] == got["request-id"]
            assert set(seen.headers) == {
                "host",
                "accept-encoding",
                "content-type",
                "accept",
                "user-agent",
                "x-api-key",
                "authorization",
                "anthropic-version",
                "anthropic-beta",
                "content-length",
            }
            assert seen.headers["x-api-key"] == "sk-upstream-secret"
            assert served.token not in str(seen)
            (row,) = served.rows()
            assert (row.outcome, row.usage_source, row.status) == ("ok", "reported", 200)
            assert (row.input_tokens, row.cache_read_tokens, row.output_tokens) == (14, 3, 7)
            assert (row.client, row.session) == ("claude-cli/2.1.197", "s1")
            assert (row.provider, row.model, row.upstream_model) == ("up", "m", "m-up")
            assert row.ttfb_ms is not None
            assert 0 < row.gateway_ms < row.total_ms

    kit.run(run)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", None])
@pytest.mark.parametrize("client", ["messages", "chat", "responses"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_stream_under_a_wrong_label_is_understood(
    kit: Any, tmp_path: Path, client: str, stream: bool, kind: str | None
) -> None:
    async def run() -> None:
        label = (("Content-Type", kind),) if kind else ()
        async with (
            kit.scripted([kit.answer(kit.chat_stream("hello"), headers=label)]) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            status, headers, answer = await served.ask(PATHS[client], ask(client, stream=stream))
            assert status == 200
            assert ("event-stream" in headers["content-type"]) == stream
            assert b"hello" in answer
            (row,) = served.rows()
            assert (row.outcome, row.input_tokens, row.output_tokens) == ("ok", 14, 7)

    kit.run(run)


@pytest.mark.parametrize("profile", ["generic", "deepseek", "local", "openai"])
def test_codexs_metadata_leaves_the_house_for_its_own_vendor_only(
    kit: Any, tmp_path: Path, profile: str
) -> None:
    async def run() -> None:
        done = kit.sse({"type": "response.completed", "response": {"id": "r", "output": []}})
        async with (
            kit.scripted([kit.streamed(done)]) as up,
            kit.served(tmp_path, config(up.base, "responses", profile=profile)) as served,
        ):
            body = ask("responses", stream=True, client_metadata={"x-codex-turn-metadata": "/home/u a1b2c3"})
            headers = {"x-codex-turn-metadata": "/home/u a1b2c3", "session-id": "s1"}
            status, _, _ = await served.ask("/v1/responses", body, headers=headers)
            (seen,) = up.requests
            assert status == 200
            assert ("a1b2c3" in str(seen)) == (profile == "openai")
            assert "a1b2c3" not in str(seen.headers)
            (row,) = served.rows()
            assert ("client metadata left out" in row.shims) == (profile != "openai")

    kit.run(run)


@pytest.mark.parametrize("stream", [True, False])
def test_a_remote_compaction_is_answered_by_a_responses_provider_that_knows_none(
    kit: Any, tmp_path: Path, stream: bool
) -> None:
    async def run() -> None:
        said = {"type": "output_text", "text": "they built a bridge", "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [said]}
        response = {"id": "r", "status": "completed", "model": "m-up", "output": [message]}
        item = {"type": "response.output_item.done", "output_index": 0, "item": message}
        answer = (
            kit.streamed(kit.sse(item, {"type": "response.completed", "response": response}))
            if stream
            else kit.json_answer(response)
        )
        async with (
            kit.scripted([answer]) as up,
            kit.served(tmp_path, config(up.base, "responses")) as served,
        ):
            hello = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
            body = {"model": "m", "stream": stream, "input": [hello, {"type": "compaction_trigger"}]}
            status, _, answer = await served.ask("/v1/responses", body)
            assert status == 200
            (seen,) = up.requests
            assert b"compaction_trigger" not in seen.body
            if stream:
                done = [e["item"] for e in events_of(answer) if e["type"] == "response.output_item.done"]
            else:
                done = json.loads(answer)["output"]
            assert [item["type"] for item in done] == ["compaction"]
            status, _, _ = await served.ask("/v1/responses", {**body, "input": [hello, done[0], hello]})
            assert b"they built a bridge" in up.requests[-1].body
            assert b"gw1." not in up.requests[-1].body

    kit.run(run)


def test_messages_are_translated_for_a_chat_upstream(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.streamed(kit.chat_stream("Hel", "lo"))]) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            status, _, answer = await served.ask("/v1/messages?beta=true", ask("messages", stream=True))
            assert status == 200
            (seen,) = up.requests
            assert seen.line == "POST /v1/chat/completions HTTP/1.1"
            assert seen.headers["authorization"] == "Bearer sk-upstream-secret"
            sent = json.loads(seen.body)
            assert (sent["model"], sent["stream"]) == ("m-up", True)
            events = events_of(answer)
            texts = [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"]
            assert "".join(texts) == "Hello"
            assert events[0]["message"]["model"] == "m"
            assert events[-1]["type"] == "message_stop"
            (row,) = served.rows()
            assert (row.client_wire, row.upstream_wire) == ("messages", "chat")
            assert (row.input_tokens, row.cache_read_tokens, row.output_tokens) == (14, 3, 7)

    kit.run(run)


@pytest.mark.parametrize("upstream", ["messages", "chat"])
@pytest.mark.parametrize("client", ["messages", "chat", "responses"])
def test_a_json_answer_to_a_stream_is_replayed_as_one(
    kit: Any, tmp_path: Path, client: str, upstream: str
) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.json_answer(whole(upstream))]) as up,
            kit.served(tmp_path, config(up.base, upstream)) as served,
        ):
            status, headers, answer = await served.ask(PATHS[client], ask(client, stream=True))
            assert (status, headers["content-type"][:17]) == (200, "text/event-stream")
            assert b"ok" in answer
            assert ended_well(client, answer)
            (row,) = served.rows()
            assert (row.outcome, row.output_tokens) == ("ok", 1)

    kit.run(run)


@pytest.mark.parametrize("upstream", ["messages", "chat"])
@pytest.mark.parametrize("client", ["messages", "chat", "responses"])
def test_a_stream_to_a_client_that_wants_one_body_is_folded(
    kit: Any, tmp_path: Path, client: str, upstream: str
) -> None:
    async def run() -> None:
        stream = kit.messages_stream("o", "k") if upstream == "messages" else kit.chat_stream("o", "k")
        async with (
            kit.scripted([kit.streamed(stream)]) as up,
            kit.served(tmp_path, config(up.base, upstream)) as served,
        ):
            status, headers, answer = await served.ask(PATHS[client], ask(client))
            assert (status, headers["content-type"]) == (200, "application/json")
            assert said(client, json.loads(answer)) == "ok"
            assert json.loads(answer)["model"] == "m"

    kit.run(run)


@pytest.mark.parametrize("upstream", ["messages", "chat"])
@pytest.mark.parametrize("client", ["messages", "chat", "responses"])
def test_one_body_is_answered_with_one_body(kit: Any, tmp_path: Path, client: str, upstream: str) -> None:
    async def run() -> None:
        async with (
            kit.scripted([kit.json_answer(whole(upstream))]) as up,
            kit.served(tmp_path, config(up.base, upstream)) as served,
        ):
            status, _, answer = await served.ask(PATHS[client], ask(client))
            assert status == 200
            assert said(client, json.loads(answer)) == "ok"
            assert json.loads(answer)["model"] == "m"
            (row,) = served.rows()
            assert (row.outcome, row.input_tokens, row.stream) == ("ok", 1, False)

    kit.run(run)


@pytest.mark.parametrize("wires", ["messages", "chat"])
@pytest.mark.parametrize("client", ["messages", "chat", "responses"])
def test_a_cut_in_the_middle_is_an_error_inside_the_stream(
    kit: Any, tmp_path: Path, client: str, wires: str
) -> None:
    async def run() -> None:
        whole = kit.messages_stream("ok") if wires == "messages" else kit.chat_stream("ok")
        half = whole[: whole.index(b'"ok"') + 30]
        async with (
            kit.scripted([kit.SSE_HEAD + kit.chunk(half), 0.05, "reset"]) as up,
            kit.served(tmp_path, config(up.base, wires)) as served,
        ):
            status, _, answer = await served.ask(PATHS[client], ask(client, stream=True))
            assert status == 200
            assert ended_badly(client, answer)
            (row,) = served.rows()
            assert (row.outcome, row.failure) == ("failed", "truncated")
            assert len(up.requests) == 1

    kit.run(run)


@pytest.mark.parametrize("client", ["messages", "chat", "responses"])
def test_an_upstream_that_dies_before_its_first_word_is_asked_once_more(
    kit: Any, tmp_path: Path, client: str
) -> None:
    async def run() -> None:
        def script(request: Any) -> list[Any]:
            if len(up.requests) == 1:
                return [kit.SSE_HEAD, 0.02, "reset"]
            return [kit.streamed(kit.chat_stream("ok"))]

        async with (
            kit.scripted(script) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            status, _, answer = await served.ask(PATHS[client], ask(client, stream=True))
            assert status == 200
            assert ended_well(client, answer)
            (row,) = served.rows()
            assert (row.outcome, row.retries) == ("ok", 1)

    kit.run(run)


def test_a_failure_as_the_first_event_keeps_its_http_status(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        error = {"error": {"message": "slow down", "type": "rate_limit_error"}}
        async with (
            kit.scripted([kit.streamed(kit.sse(error, named=False))]) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            status, headers, answer = await served.ask("/v1/messages", ask("messages", stream=True))
            assert (status, headers["content-type"]) == (429, "application/json")
            assert json.loads(answer)["error"] == {"type": "rate_limit_error", "message": "slow down"}

    kit.run(run)


def test_silence_after_the_head_begins_the_stream_with_signs_of_life(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        steps = [kit.SSE_HEAD, 0.4, kit.chunk(kit.chat_stream("ok")) + b"0\r\n\r\n"]
        async with (
            kit.scripted(steps) as up,
            kit.served(tmp_path, config(up.base, "chat"), silence_s=0.1) as served,
        ):
            answer = await served.open("/v1/messages", ask("messages", stream=True))
            first = await answer.read()
            assert first is not None
            assert b"event: ping" in first
            assert b'"ok"' not in first
            rest = await answer.read_all(1 << 20)
            assert ended_well("messages", first + rest)
            assert (first + rest).count(b"event: message_start") == 1

    kit.run(run)


def test_an_upstream_that_fails_after_the_stream_was_begun_is_told_inside_it(
    kit: Any, tmp_path: Path
) -> None:
    async def run() -> None:
        error = kit.sse({"error": {"message": "gave up", "type": "server_error"}}, named=False)
        steps = [kit.SSE_HEAD, 0.3, kit.chunk(error) + b"0\r\n\r\n"]
        async with (
            kit.scripted(steps) as up,
            kit.served(tmp_path, config(up.base, "chat"), silence_s=0.1) as served,
        ):
            status, _, answer = await served.ask("/v1/responses", ask("responses", stream=True))
            assert status == 200
            assert events_of(answer)[-1]["type"] == "response.failed"
            assert "gave up" in str(events_of(answer)[-1])

    kit.run(run)


@pytest.mark.parametrize("wires", ["messages", "chat"])
def test_a_client_that_leaves_ends_the_upstream_at_once(kit: Any, tmp_path: Path, wires: str) -> None:
    async def run() -> None:
        whole = kit.messages_stream("ok") if wires == "messages" else kit.chat_stream("ok")
        begin = whole[: whole.index(b'"ok"') + 60]
        async with (
            kit.scripted([kit.SSE_HEAD + kit.chunk(begin), "wait"]) as up,
            kit.served(tmp_path, config(up.base, wires)) as served,
        ):
            answer = await served.open("/v1/messages", ask("messages", stream=True))
            assert b'"ok"' in (await answer.read() or b"")
            answer.abort()
            await asyncio.wait_for(up.left.wait(), 1)
            await kit.until(lambda: served.gateway.open_requests == 0)
            (row,) = served.rows()
            assert row.outcome == "client_left"
            # A Messages upstream counts the prompt when it begins, a Chat one when it ends.
            counted = ("reported", 14) if wires == "messages" else ("none", 0)
            assert (row.usage_source, row.input_tokens) == counted
            assert served.logged == []

    kit.run(run)


def test_a_client_that_leaves_before_the_first_byte_ends_the_upstream_too(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted(["wait"]) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            task = asyncio.create_task(served.ask("/v1/messages", ask("messages", stream=True)))
            await kit.until(lambda: up.requests)
            task.cancel()
            await asyncio.wait_for(up.left.wait(), 1)
            await kit.until(lambda: served.gateway.open_requests == 0)
            assert served.rows()[0].outcome == "client_left"
            with pytest.raises(asyncio.CancelledError):
                await task

    kit.run(run)


def test_the_upstream_is_read_to_its_end_after_the_last_event(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        body = kit.SSE_HEAD + kit.chunk(kit.chat_stream("ok"))
        async with (
            kit.scripted([body, 0.1, kit.chunk(b": bye\n\n") + b"0\r\n\r\n"]) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            for _ in range(2):
                _, _, answer = await served.ask("/v1/messages", ask("messages", stream=True))
                assert ended_well("messages", answer)
                await kit.until(lambda: served.gateway._transport.idle == 1)
            assert up.connections == 1

    kit.run(run)


def test_a_slow_client_slows_the_upstream(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        sent = 0
        total = 400

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await kit.read_request(reader, 1)
            writer.write(kit.SSE_HEAD)
            piece = kit.chunk(kit.sse(kit.chat_chunk({"content": "x" * 60_000}), named=False))
            for _ in range(total):
                writer.write(piece)
                await writer.drain()
                sent += 1
            writer.write(kit.chunk(kit.chat_stream("end")) + b"0\r\n\r\n")
            await writer.drain()

        base = await kit.serve(play)
        async with kit.served(tmp_path, config(base, "chat")) as served:
            answer = await served.open("/v1/messages", ask("messages", stream=True))
            stopped_at = -1
            while stopped_at != sent:
                stopped_at = sent
                await asyncio.sleep(0.2)
            assert stopped_at < total
            assert ended_well("messages", await answer.read_all(1 << 26))

    kit.run(run)


def test_a_mistake_in_the_middle_cuts_both_sides_and_is_logged_without_words(
    kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from dragoman.gateway.legs import Translation

    real = Translation.feed

    def broken(self: Translation, data: bytes) -> bytes:
        if b"poison" in data:
            raise RuntimeError("poison and prompt")
        return real(self, data)

    async def run() -> None:
        monkeypatch.setattr(Translation, "feed", broken)
        chunks = [kit.sse(kit.chat_chunk({"content": text}), named=False) for text in ("ok", "poison")]
        steps = [kit.SSE_HEAD + kit.chunk(chunks[0]), 0.1, kit.chunk(chunks[1]), "wait"]
        async with (
            kit.scripted(steps) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            answer = await served.open("/v1/messages", ask("messages", stream=True))
            with pytest.raises(Exception, match="cut off"):
                await answer.read_all(1 << 20)
            await asyncio.wait_for(up.left.wait(), 1)
            (event,) = served.logged
            assert event[0] == "request_failed"
            assert "poison" not in str(event) + caplog.text
            assert served.rows()[0].outcome == "failed"

    kit.run(run)


def whole(wire: str) -> dict[str, Any]:
    if wire == "messages":
        return {
            "id": "msg_u",
            "type": "message",
            "role": "assistant",
            "model": "m-up",
            "content": [{"type": "text", "text": "ok"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m-up",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def said(wire: str, body: dict[str, Any]) -> str:
    match wire:
        case "messages":
            return body["content"][0]["text"]
        case "chat":
            return body["choices"][0]["message"]["content"]
        case _:
            return body["output"][0]["content"][0]["text"]


def ended_well(wire: str, stream: bytes) -> bool:
    match wire:
        case "messages":
            return events_of(stream)[-1]["type"] == "message_stop"
        case "chat":
            return stream.endswith(b"data: [DONE]\n\n") and b'"error"' not in stream
        case _:
            return events_of(stream)[-1]["type"] == "response.completed"


def ended_badly(wire: str, stream: bytes) -> bool:
    last = events_of(stream)[-1]
    match wire:
        case "messages":
            return last["type"] == "error"
        case "chat":
            return "error" in last and b"[DONE]" not in stream
        case _:
            return last["type"] == "response.failed"

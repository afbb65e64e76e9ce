"""Long conversations must not hold up the other streams of the loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

BYTES = 1_500_000
MAX_STEP_S = 0.010
ATTEMPTS = 5
"""The shortest of some measures counts: other work on the machine only ever adds."""

PATHS = {"messages": "/v1/messages", "chat": "/v1/chat/completions", "responses": "/v1/responses"}
WIRES = ("responses", "chat", "messages")


def exchange(wire: str, number: int) -> list[dict[str, Any]]:
    """A call and its answer of some kilobytes."""
    call_id, name = f"call_{number}", "shell"
    arguments = {"command": f"sed -n {number}p \"src/a b.py\" | grep '\\t'"}
    output = f'{number}: def read(path: str) -> str:\n\treturn "é"  # {{}}\n' * 90
    match wire:
        case "responses":
            said = {"type": "output_text", "text": f"step {number}"}
            call = {"type": "function_call", "call_id": call_id, "name": name}
            return [
                {"type": "message", "role": "assistant", "content": [said]},
                {**call, "arguments": json.dumps(arguments)},
                {"type": "function_call_output", "call_id": call_id, "output": output},
            ]
        case "chat":
            function = {"name": name, "arguments": json.dumps(arguments)}
            call = {"id": call_id, "type": "function", "function": function}
            return [
                {"role": "assistant", "content": f"step {number}", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": call_id, "content": output},
            ]
        case _:
            said = {"type": "text", "text": f"step {number}"}
            use = {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
            answer = {"type": "tool_result", "tool_use_id": call_id, "content": output}
            return [
                {"role": "assistant", "content": [said, use]},
                {"role": "user", "content": [answer]},
            ]


def long_request(wire: str) -> bytes:
    """A session of about `BYTES`."""
    entries: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "begin"}]}]
    if wire == "responses":
        entries = [{"role": "user", "content": [{"type": "input_text", "text": "begin"}]}]
    size = 0
    while size < BYTES:
        added = exchange(wire, len(entries))
        size += len(json.dumps(added))
        entries += added
    rest = {"max_tokens": 9} if wire == "messages" else {}
    name = "input" if wire == "responses" else "messages"
    return json.dumps({"model": "m", "stream": True, **rest, name: entries}).encode()


class Timed:
    """Awaits a coroutine and takes the CPU time of each of its steps: what the loop cannot do meanwhile."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self.steps_s: list[float] = []

    def __await__(self) -> Generator[Any, Any, None]:
        while True:
            begun = time.thread_time()
            try:
                waits_for = self._coroutine.send(None)
            except StopIteration:
                return
            finally:
                self.steps_s.append(time.thread_time() - begun)
            yield waits_for


async def ask(served: Any, path: str, body: bytes) -> tuple[list[float], int]:
    """CPU seconds of each step of one request, and its status."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    over = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {
        b"host": f"127.0.0.1:{served.port}".encode(),
        b"authorization": f"Bearer {served.token}".encode(),
        b"content-type": b"application/json",
        b"session-id": b"s1",
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": list(headers.items()),
    }
    timed = Timed(served.gateway.app(scope, receive, send))
    await timed
    over.set()
    return timed.steps_s, sent[0]["status"]


@pytest.mark.parametrize(
    ("client", "upstream", "profile"),
    [
        *((client, upstream, "generic") for client in WIRES for upstream in WIRES),
        ("messages", "messages", "anthropic"),
        ("messages", "messages", "deepseek"),
        ("chat", "chat", "deepseek"),
        ("responses", "responses", "deepseek"),
    ],
)
def test_no_step_of_a_long_request_holds_the_loop(
    kit: Any, tmp_path: Path, client: str, upstream: str, profile: str
) -> None:
    body = long_request(client)

    async def run() -> None:
        answers = {
            "chat": kit.chat_stream("ok"),
            "messages": kit.messages_stream("ok"),
            "responses": kit.sse({"type": "response.completed", "response": {"id": "r", "output": []}}),
        }
        async with kit.scripted([kit.streamed(answers[upstream])]) as up:
            base = up.base if upstream == "messages" else f"{up.base}/v1"
            toml = f"""
[providers.up]
profile = "{profile}"
key_env = "UP_KEY"
wires.{upstream} = "{base}"
[models."m"]
provider = "up"
upstream = "m-up"
"""
            async with kit.served(tmp_path, toml) as served:
                longest_s = 1.0
                for _ in range(ATTEMPTS):
                    steps_s, status = await ask(served, PATHS[client], body)
                    assert status == 200
                    longest_s = min(longest_s, max(steps_s))
        assert len(up.requests[0].body) > 0.9 * len(body)
        assert longest_s < MAX_STEP_S

    kit.run(run)

"""What translation costs: CPU time per stream delta and per large request, against a plain `json` translation
of the same bytes in the same run.

    python benchmarks/wire_cost.py [--json] [--check]

The baseline does what a straightforward gateway does: split frames, `json.loads`, build the other protocol's
object, `json.dumps`; like ours it makes sure that old arguments are JSON. It keeps none of the protocols'
other rules, so it is the least such code can cost. Both sides are run in turn in one process and the best
round counts: other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Request, Wire

WIRES: tuple[Wire, ...] = ("responses", "chat", "messages")
DELTAS = 2_000
REQUEST_BYTES = 1_500_000
REPEATS = 3
"""Runs of one side before the other's turn, so that neither pays for memory the other gave back."""

LIMIT = 0.35
"""Largest share of the baseline's time that ours may take."""

MAX_STEP_MS = 10.0
"""Longest single step (decoding or encoding a request) the event loop may be held for."""


def chat_frames() -> list[bytes]:
    frames: list[bytes] = []
    for number in range(DELTAS):
        choice = {"index": 0, "delta": {"content": f"word {number} "}, "finish_reason": None}
        chunk = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "up",
            "choices": [choice],
        }
        frames.append(b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n")
    return frames


def messages_frames() -> list[bytes]:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    frames = [b"event: content_block_start\ndata: " + json.dumps(start).encode() + b"\n\n"]
    for number in range(DELTAS):
        delta = {"type": "text_delta", "text": f"word {number} "}
        data = {"type": "content_block_delta", "index": 0, "delta": delta}
        frames.append(
            b"event: content_block_delta\ndata: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
        )
    return frames


def responses_frames() -> list[bytes]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "status": "in_progress"}
    said: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": {"type": "output_text", "text": ""}},
    ]
    for number in range(DELTAS):
        said.append({"type": "response.output_text.delta", **place, "delta": f"word {number} "})
    frames: list[bytes] = []
    for number, data in enumerate(said):
        text = json.dumps({"sequence_number": number, **data}, separators=(",", ":"))
        frames.append(f"event: {data['type']}\ndata: {text}\n\n".encode())
    return frames


def ours_stream(upstream: Wire, client: Wire, reads: list[bytes]) -> None:
    request = Request(wire=client, model="m", stream=True)
    tools = ToolTable()
    decoder = translate.stream_decoder(upstream, dialect=Dialect(), tools=tools)
    encoder = translate.stream_encoder(client, request=request, tools=tools, response_id="r", created_at=1)
    for read in reads:
        encoder.feed(decoder.feed(read))


def plain_stream(upstream: Wire, client: Wire, reads: list[bytes]) -> None:
    buffer = b""
    number = 0
    for read in reads:
        buffer += read
        out: list[bytes] = []
        while b"\n\n" in buffer:
            frame, buffer = buffer.split(b"\n\n", 1)
            data = json.loads(next(line for line in frame.split(b"\n") if line.startswith(b"data:"))[5:])
            text = _text_of(upstream, data)
            if text is None:
                continue
            number += 1
            out.append(_event_of(client, text, number))
        b"".join(out)


def _text_of(upstream: Wire, data: dict[str, Any]) -> str | None:
    if upstream == "chat":
        return data["choices"][0]["delta"].get("content")
    if upstream == "responses":
        return data["delta"] if data["type"] == "response.output_text.delta" else None
    return data["delta"].get("text") if data["type"] == "content_block_delta" else None


def _event_of(client: Wire, text: str, number: int) -> bytes:
    event: dict[str, Any]
    match client:
        case "chat":
            choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
            event = {
                "id": "r",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [choice],
            }
            return b"data: " + json.dumps(event).encode() + b"\n\n"
        case "messages":
            delta = {"type": "text_delta", "text": text}
            event = {"type": "content_block_delta", "index": 0, "delta": delta}
        case "responses":
            event = {"type": "response.output_text.delta", "sequence_number": number, "item_id": "msg_1"}
            event |= {"output_index": 0, "content_index": 0, "delta": text}
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


WORDS = (
    "return",
    "self.value",
    '"quoted"',
    "{brace}",
    "\n\tif",
    "path\\to",
    "→",
    "é",
    "error:",
    "42",
    "import os\n",
)


def prose(random_: random.Random, words: int) -> str:
    """Something like code, with quotes, newlines, backslashes and a little beyond ASCII."""
    return " ".join(random_.choices(WORDS, weights=(9, 9, 2, 2, 3, 1, 1, 1, 9, 9, 2), k=words))


def large_request(client: Wire) -> bytes:
    """A long agent session: many small calls, each answered by some kilobytes of code and test output."""
    random_ = random.Random(1)
    entries: list[dict[str, Any]] = []
    size = 0
    while size < REQUEST_BYTES:
        number = len(entries)
        arguments = {"command": ["bash", "-lc", prose(random_, 30)], "workdir": f"/src/{number}"}
        result = prose(random_, 1_000)
        entries += _exchange(client, f"call_{number}", arguments, result)
        size += int(1.12 * len(result)) + 500
    schema = {"type": "object", "properties": {"command": {"type": "array"}}}
    if client == "responses":
        tool = {"type": "function", "name": "shell", "parameters": schema}
        return json.dumps({"model": "m", "stream": True, "input": entries, "tools": [tool]}).encode()
    if client == "chat":
        tool = {"type": "function", "function": {"name": "shell", "parameters": schema}}
        return json.dumps({"model": "m", "stream": True, "messages": entries, "tools": [tool]}).encode()
    tool = {"name": "shell", "input_schema": schema}
    body = {"model": "m", "max_tokens": 9, "stream": True, "messages": entries, "tools": [tool]}
    return json.dumps(body).encode()


def _exchange(client: Wire, call_id: str, arguments: object, result: str) -> list[dict[str, Any]]:
    """A call and its result; `arguments` is an object, or the text of one where the wire has texts."""
    text = arguments if isinstance(arguments, str) or client == "messages" else json.dumps(arguments)
    match client:
        case "responses":
            said = {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "ok"}],
            }
            call = {"type": "function_call", "call_id": call_id, "name": "shell", "arguments": text}
            return [said, call, {"type": "function_call_output", "call_id": call_id, "output": result}]
        case "chat":
            call = {"id": call_id, "type": "function", "function": {"name": "shell", "arguments": text}}
            return [
                {"role": "assistant", "content": "ok", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": call_id, "content": result},
            ]
        case "messages":
            use = {"type": "tool_use", "id": call_id, "name": "shell", "input": arguments}
            answer = {"type": "tool_result", "tool_use_id": call_id, "content": result}
            return [
                {"role": "assistant", "content": [{"type": "text", "text": "ok"}, use]},
                {"role": "user", "content": [answer]},
            ]


def plain_request(client: Wire, upstream: Wire, body: bytes) -> bytes:
    """The naive translation of `large_request`."""
    data = json.loads(body)
    out: list[dict[str, Any]] = []
    for call_id, arguments, result in _calls_of(client, data):
        if isinstance(arguments, str):
            parsed = json.loads(arguments)
            arguments = parsed if upstream == "messages" else arguments
        out += _exchange(upstream, call_id, arguments, result)
    key = "input" if upstream == "responses" else "messages"
    return json.dumps({"model": "up", "stream": True, key: out, "tools": data["tools"]}).encode()


def _calls_of(client: Wire, data: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    entries = data["input"] if client == "responses" else data["messages"]
    call_id, arguments = "", None
    for entry in entries:
        if client == "responses":
            if entry["type"] == "function_call":
                call_id, arguments = entry["call_id"], entry["arguments"]
            elif entry["type"] == "function_call_output":
                yield call_id, arguments, entry["output"]
        elif client == "chat":
            if entry["role"] == "assistant":
                call = entry["tool_calls"][0]
                call_id, arguments = call["id"], call["function"]["arguments"]
            else:
                yield call_id, arguments, entry["content"]
        elif entry["role"] == "assistant":
            use = entry["content"][1]
            call_id, arguments = use["id"], use["input"]
        else:
            yield call_id, arguments, entry["content"][0]["content"]


def ours_request(client: Wire, upstream: Wire, body: bytes) -> tuple[float, float]:
    """CPU seconds of the two steps, decoding and encoding."""
    begun = time.thread_time()
    request = translate.decode_request(client, body)
    decoded = time.thread_time()
    translate.encode_request(upstream, request, model="up", dialect=Dialect(), stream=True)
    return decoded - begun, time.thread_time() - decoded


def timed(run: Callable[[], object]) -> float:
    begun = time.thread_time()
    run()
    return time.thread_time() - begun


def delta_row(
    upstream: Wire, client: Wire, frames: list[bytes], per_read: int, rounds: int
) -> dict[str, Any]:
    """CPU time of one text delta, `per_read` of them arriving together."""
    reads = [b"".join(frames[i : i + per_read]) for i in range(0, len(frames), per_read)]
    ours = plain = float("inf")
    for _ in range(rounds):
        ours = min(ours, timed(lambda: ours_stream(upstream, client, reads)))
        plain = min(plain, timed(lambda: plain_stream(upstream, client, reads)))
    return {
        "what": "delta",
        "name": f"{client} from {upstream}, {per_read} a read",
        "ours_us": 1e6 * ours / DELTAS,
        "plain_us": 1e6 * plain / DELTAS,
        "share": ours / plain,
    }


def request_row(client: Wire, upstream: Wire, body: bytes, rounds: int) -> dict[str, Any]:
    """CPU time of one large request, and of its longest step."""
    steps = (float("inf"), float("inf"))
    plain = float("inf")
    for _ in range(rounds):
        for _ in range(REPEATS):
            found = ours_request(client, upstream, body)
            if sum(found) < sum(steps):
                steps = found
        for _ in range(REPEATS):
            plain = min(plain, timed(lambda: plain_request(client, upstream, body)))
    return {
        "what": "request",
        "name": f"{client} to {upstream}, {len(body) / 1e6:.1f} MB",
        "ours_ms": 1e3 * sum(steps),
        "longest_step_ms": 1e3 * max(steps),
        "plain_ms": 1e3 * plain,
        "share": sum(steps) / plain,
    }


def measure(rounds: int = 15) -> list[dict[str, Any]]:
    """Interleaved rounds, the best of each."""
    streams: dict[Wire, list[bytes]] = {
        "chat": chat_frames(),
        "messages": messages_frames(),
        "responses": responses_frames(),
    }
    rows = [
        delta_row(upstream, client, frames, per_read, rounds)
        for upstream, frames in streams.items()
        for client in WIRES
        if client != upstream
        for per_read in (1, 8)
    ]
    for client in WIRES:
        body = large_request(client)
        rows += [request_row(client, upstream, body, rounds) for upstream in WIRES if upstream != client]
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="CPU cost of translation against plain json")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 when a limit is exceeded")
    options = parser.parse_args()
    rows = measure()
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        for row in rows:
            unit = "us" if row["what"] == "delta" else "ms"
            sys.stdout.write(
                f"{row['what']:8} {row['name']:38} {row[f'ours_{unit}']:7.2f} {unit}"
                f"  json {row[f'plain_{unit}']:7.2f} {unit}  {row['share']:6.1%}\n"
            )
    slow = [row for row in rows if row["share"] > LIMIT or row.get("longest_step_ms", 0.0) > MAX_STEP_MS]
    return 1 if options.check and slow else 0


if __name__ == "__main__":
    raise SystemExit(main())

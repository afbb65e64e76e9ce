"""What recording costs: nothing without an order, little for each piece with one, and never long at a time.

Prints CPU times of one process; compare ratios, not runs on different machines.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dragoman.config.load import parse_config
from dragoman.gateway.capture import Captures
from dragoman.gateway.capture_file import Asked, Capture, Given, Sent
from dragoman.gateway.capture_redact import Redactor
from dragoman.gateway.capture_replay import _incoming
from dragoman.gateway.capture_stage import Play, read_stage
from dragoman.gateway.capture_tape import Room, Tape
from dragoman.gateway.capture_write import develop
from dragoman.gateway.conversation import Conversation
from dragoman.gateway.departure import Departure
from dragoman.gateway.exchange import Exchange
from dragoman.gateway.routes import RouteTable

PIECES = 3000
ROUNDS = 7
CONFIG = """
[providers.up]
profile = "generic"
key_env = "K"
wires.chat = "http://127.0.0.1:9/v1"
[models.m]
provider = "up"
"""


def a_capture() -> Capture:
    """A long chat stream for a Messages client, one event a piece."""
    import msgspec

    def chunk(delta: dict[str, object], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"

    frames = [chunk({"role": "assistant", "content": ""})]
    frames += [chunk({"content": f"word {number} "}) for number in range(PIECES)]
    frames += [chunk({}, "stop"), "data: [DONE]\n\n"]
    answer = Given(
        at_ms=1.0,
        status=200,
        headers=[("content-type", "text/event-stream")],
        body="".join(frames),
        pieces=[(float(number), len(frame)) for number, frame in enumerate(frames)],
    )
    body = json.dumps(
        {"model": "m", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    )
    route = RouteTable(parse_config(CONFIG, {})).resolve("m", "messages")
    stage = {
        "response_id": "r",
        "created_at": 1,
        "silence_s": 5.0,
        "embedded_url": "",
        "token": None,
        "route": msgspec.to_builtins(route),
        "nearest": None,
        "learned": [],
        "keys": {"up": [{"label": "K", "secret": "sk-bench"}]},
        "leases": [{"key": 0}],
        "added": {},
        "refused": None,
        "walls": [],
        "recalled": {},
    }
    sent = Sent(at_ms=0.0, method="POST", url="", headers=[], body="", answer=answer)
    asked = Asked(method="POST", path="/v1/messages", query="", headers=[], repeated=[], body=body)
    return Capture(
        dragoman="0", id="b" * 24, at=1.0, client="", client_wire="messages", model="m", provider="up",
        upstream_model="m", upstream_wire="chat", stream=True, status=200, outcome="ok", failure=None,
        total_ms=1.0, redacted=0, incomplete=False, ended="whole", request=asked, upstream=[sent],
        answer=None, stage=stage,
    )  # fmt: skip


async def carry(capture: Capture, *, taped: bool) -> tuple[float, Tape | None]:
    """CPU seconds of one exchange."""
    stage = read_stage(capture)
    play = Play(capture, stage)
    tape: Tape | None = None

    async def send(message: object) -> None:
        return

    with Departure(play.leave) as departure:
        talk = Conversation(
            incoming=_incoming(capture, stage, 0.0),
            body=str(capture.request.body).encode(),
            send=send,
            departure=departure,
            response_id="r",
            created_at=1,
        )
        means = play.means(time.monotonic)
        if taped:
            tape = Tape(talk, means, lambda row: None, limit_bytes=1 << 30, room=Room(1 << 30))
        carried = tape or Exchange(means, talk, lambda row: None)
        began = time.process_time()
        await carried.run()
        return time.process_time() - began, tape


def best(measure: Callable[[], float]) -> float:
    """The least of several."""
    return min(measure() for _ in range(ROUNDS))


def main() -> int:
    """Print the figures; 1 when one is beyond what is promised."""
    gc.disable()
    capture = a_capture()
    plain = best(lambda: asyncio.run(carry(capture, taped=False))[0])
    taped = best(lambda: asyncio.run(carry(capture, taped=True))[0])
    _, tape = asyncio.run(carry(capture, taped=True))
    assert tape is not None

    with tempfile.TemporaryDirectory() as state:
        captures = Captures(Path(state), clock=time.monotonic, wall=time.time)

        def look() -> float:
            began = time.process_time()
            for _ in range(100_000):
                captures.begin(tape.talk, tape.means, tape._record)
            return (time.process_time() - began) / 100_000

        off = best(look)

    held: list[float] = []
    last = [time.thread_time()]

    def breathe() -> None:
        now = time.thread_time()
        held.append(now - last[0])
        last[0] = now

    began = last[0] = time.thread_time()
    developed = develop(tape, breathe=breathe)
    breathe()
    whole = time.thread_time() - began
    text = b"the quick brown fox, token by token: " * 28_000
    redactor = Redactor(breathe=breathe)
    began = last[0] = time.thread_time()
    redactor.read(text)
    redactor.redacted(text)
    prose = time.thread_time() - began

    print(f"without an order   {off * 1e9:8.0f} ns a request")
    print(f"a piece, plain     {plain / PIECES * 1e6:8.2f} µs")
    print(f"a piece, recorded  {taped / PIECES * 1e6:8.2f} µs  ({taped / plain:.2f} times)")
    print(f"written aside      {whole * 1e3:8.1f} ms for {tape.held} bytes, {developed.redacted} redacted")
    print(f"redacting a MB     {prose * 1e3:8.1f} ms of prose")
    print(f"longest at a time  {max(held) * 1e3:8.2f} ms")
    return 0 if off < 5e-6 and taped < plain * 2 else 1


if __name__ == "__main__":
    sys.exit(main())

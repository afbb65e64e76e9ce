"""`dragoman serve` over an upstream that plays scripted answers on one wire, for the real clients.

A reply is a list of steps, each a table:

    {"think": text, "seal": s}         reasoning, with what only its maker can read
    {"say": text}                      words
    {"call": tool, "args": x, "id": i} a call; `args` is a table, or a string that is sent as it is
    {"call": tool, "input": text, ..}  a call of a freeform tool
    {"finish": "length"}               the answer was too long
    {"usage": (input, output)}         in tokens
    {"head": True}                     the response head, on its own
    {"pause_s": 1.5}                   silence
    {"cut": True}                      the connection ends here
    {"tear": text}                     words, and the connection ends before their end
    {"refuse": status, "headers": {}, "body": {}}  instead of all else

The bytes of the three wires are written here once more, so that the translator cannot share a mistake
with them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest

Wire = Literal["chat", "messages", "responses"]
WIRES: tuple[Wire, ...] = ("chat", "messages", "responses")
Step = dict[str, Any]
Reply = list[Step]
Frame = bytes | float | Literal["cut"]

DEADLINE_S = 60.0
SPARE = 6

# Each wire's own kind of reasoning, given back unchanged: a plain field, a signature, an encrypted item.
PROFILES = {"chat": "deepseek", "messages": "anthropic", "responses": "openai"}


# --- what was asked


@dataclass
class Asked:
    """A request as the upstream saw it, and what a test looks for in it, whatever the wire."""

    wire: Wire
    body: dict[str, Any]
    headers: dict[str, str]
    at: float

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The conversation in the wire's own items."""
        return self.body["input" if self.wire == "responses" else "messages"]

    @property
    def text(self) -> str:
        """The whole request as text."""
        return json.dumps(self.body, ensure_ascii=False)

    @property
    def tools(self) -> dict[str, dict[str, Any]]:
        """The tools offered: name -> `{"kind", "namespace", "schema"}`."""
        found: dict[str, dict[str, Any]] = {}

        def add(tool: dict[str, Any], namespace: str | None = None) -> None:
            match self.wire, tool.get("type"):
                case "chat", _:
                    function = tool["function"]
                    found[function["name"]] = {"kind": "function", "schema": function["parameters"]}
                case "messages", _:
                    found[tool["name"]] = {"kind": "function", "schema": tool.get("input_schema", {})}
                case _, "namespace":
                    for inner in tool["tools"]:
                        add(inner, tool["name"])
                case _, "function":
                    found[tool["name"]] = {"kind": "function", "schema": tool["parameters"]}
                case _, "custom":
                    found[tool["name"]] = {"kind": "custom", "schema": {}}
                case _:
                    return
            if namespace is not None:
                found[tool["name"]]["namespace"] = namespace

        for tool in self.body.get("tools") or []:
            add(tool)
        return found

    def tool(self, name: str) -> str:
        """The name under which a tool is offered: its own, or one that ends in it."""
        fitting = [known for known in self.tools if known == name or known.endswith(name)]
        assert fitting, f"{name} is not offered; offered are {sorted(self.tools)}"
        return min(fitting, key=len)

    @property
    def results(self) -> dict[str, str]:
        """The results of calls: call id -> content as text, in the order sent."""
        found: dict[str, str] = {}
        for item in self.history:
            match self.wire:
                case "chat" if item["role"] == "tool":
                    found[item["tool_call_id"]] = _plain(item["content"])
                case "messages" if isinstance(item["content"], list):
                    for block in item["content"]:
                        if block["type"] == "tool_result":
                            assert block["tool_use_id"] not in found
                            found[block["tool_use_id"]] = _plain(block.get("content", ""))
                case "responses" if item.get("type", "").endswith("call_output"):
                    assert item["call_id"] not in found
                    found[item["call_id"]] = _plain(item["output"])
                case _:
                    pass
        return found

    @property
    def calls(self) -> dict[str, Any]:
        """The calls in the history: call id -> arguments as they are sent."""
        found: dict[str, Any] = {}
        for item in self.history:
            match self.wire:
                case "chat":
                    for call in item.get("tool_calls") or []:
                        found[call["id"]] = call["function"]["arguments"]
                case "messages" if isinstance(item["content"], list):
                    for block in item["content"]:
                        if block["type"] == "tool_use":
                            found[block["id"]] = block["input"]
                case "responses" if item.get("type", "").endswith("_call"):
                    found[item["call_id"]] = item.get("arguments", item.get("input"))
                case _:
                    pass
        return found

    @property
    def thoughts(self) -> list[tuple[str, str]]:
        """The reasoning handed back: text, and what only its maker can read."""
        found: list[tuple[str, str]] = []
        for item in self.history:
            match self.wire:
                case "chat" if item.get("reasoning_content"):
                    found.append((item["reasoning_content"], ""))
                case "messages" if isinstance(item["content"], list):
                    found += [
                        (block["thinking"], block["signature"])
                        for block in item["content"]
                        if block["type"] == "thinking"
                    ]
                case "responses" if item.get("type") == "reasoning":
                    summary = "".join(part["text"] for part in item["summary"])
                    found.append((summary, item["encrypted_content"]))
                case _:
                    pass
        return found

    @property
    def images(self) -> int:
        """How many pictures the request holds."""
        mark = {"chat": '"type": "image_url"', "messages": '"type": "image"', "responses": '"input_image"'}
        return self.text.count(mark[self.wire])


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", f"<{part['type']}>") for part in content)


# --- what is answered


def _sse(event: dict[str, Any], named: bool = True) -> bytes:
    head = b"event: " + event["type"].encode() + b"\n" if named else b""
    return head + b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def _pieces(text: str) -> list[str]:
    """Two deltas, so that a client that keeps only the last one is found out."""
    middle = len(text) // 2
    return [text[:middle], text[middle:]] if middle else [text]


def _arguments(asked: Asked, step: Step, name: str) -> str:
    if "input" in step:
        (key,) = asked.tools[name]["schema"].get("required") or ["input"]
        return json.dumps({key: step["input"]})
    args = step["args"]
    return args if isinstance(args, str) else json.dumps(args)


def _ending(reply: Reply) -> tuple[str | None, tuple[int, int]]:
    finish = next((step["finish"] for step in reply if "finish" in step), None)
    usage = next((step["usage"] for step in reply if "usage" in step), (100, 10))
    return finish, usage


def _waits(step: Step) -> list[Frame] | None:
    """What is the same on every wire."""
    if "pause_s" in step:
        return [float(step["pause_s"])]
    if "cut" in step:
        return ["cut"]
    return None


def chat_frames(asked: Asked, reply: Reply) -> Iterator[Frame]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}
        return _sse({**head, "choices": [choice]}, named=False)

    number = 0
    for step in reply:
        if (waits := _waits(step)) is not None:
            yield from waits
        elif "think" in step:
            for piece in _pieces(step["think"]):
                yield chunk({"reasoning_content": piece})
        elif "say" in step:
            for piece in _pieces(step["say"]):
                yield chunk({"content": piece})
        elif "tear" in step:
            yield chunk({"content": step["tear"]})
            yield "cut"
        elif "call" in step:
            name = asked.tool(step["call"])
            function = {"name": name, "arguments": ""}
            yield chunk(
                {
                    "tool_calls": [
                        {"index": number, "id": step["id"], "type": "function", "function": function}
                    ]
                }
            )
            for piece in _pieces(_arguments(asked, step, name)):
                yield chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
            number += 1
    finish, (fed, said) = _ending(reply)
    yield chunk({}, finish or ("tool_calls" if number else "stop"))
    usage = {"prompt_tokens": fed, "completion_tokens": said, "total_tokens": fed + said}
    last = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}
    yield _sse({**last, "choices": [], "usage": usage}, named=False) + b"data: [DONE]\n\n"


def messages_frames(asked: Asked, reply: Reply) -> Iterator[Frame]:
    finish, (fed, said) = _ending(reply)
    message: dict[str, Any] = {"type": "message", "role": "assistant", "model": "up", "content": []}
    # Claude Code takes answers of one id for parts of one message.
    message["id"] = f"msg_{uuid.uuid4().hex}"
    usage = {"input_tokens": fed, "output_tokens": 1}
    yield _sse({"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}})
    index = called = 0
    for step in reply:
        if (waits := _waits(step)) is not None:
            yield from waits
            continue
        if "think" in step:
            block: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
            deltas: list[dict[str, Any]] = [
                {"type": "thinking_delta", "thinking": piece} for piece in _pieces(step["think"])
            ]
            deltas.append({"type": "signature_delta", "signature": step["seal"]})
        elif "say" in step or "tear" in step:
            block = {"type": "text", "text": ""}
            text = step.get("say") or step["tear"]
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(text)]
        elif "call" in step:
            name = asked.tool(step["call"])
            called += 1
            block = {"type": "tool_use", "id": step["id"], "name": name, "input": {}}
            raw = _arguments(asked, step, name)
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in _pieces(raw)]
        else:
            continue
        yield _sse({"type": "content_block_start", "index": index, "content_block": block})
        for delta in deltas:
            yield _sse({"type": "content_block_delta", "index": index, "delta": delta})
        if "tear" in step:
            yield "cut"
        yield _sse({"type": "content_block_stop", "index": index})
        index += 1
    reason = {"length": "max_tokens", None: "tool_use" if called else "end_turn"}[finish]
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield _sse({"type": "message_delta", "delta": delta, "usage": {"output_tokens": said}})
    yield _sse({"type": "message_stop"})


def responses_frames(asked: Asked, reply: Reply) -> Iterator[Frame]:
    finish, (fed, said) = _ending(reply)
    response: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 1, "model": "up"}
    sequence = iter(range(10_000))

    def event(kind: str, **more: Any) -> bytes:
        return _sse({"type": kind, "sequence_number": next(sequence), **more})

    yield event("response.created", response={**response, "status": "in_progress", "output": []})
    output: list[dict[str, Any]] = []
    for step in reply:
        if (waits := _waits(step)) is not None:
            yield from waits
            continue
        place = len(output)
        if "think" in step:
            item = {"type": "reasoning", "id": f"rs_{place}", "encrypted_content": step["seal"]}
            part = {"type": "summary_text", "text": step["think"]}
            yield event("response.output_item.added", output_index=place, item={**item, "summary": []})
            at = {"item_id": item["id"], "output_index": place, "summary_index": 0}
            empty = {"type": "summary_text", "text": ""}
            yield event("response.reasoning_summary_part.added", **at, part=empty)
            for piece in _pieces(step["think"]):
                yield event("response.reasoning_summary_text.delta", **at, delta=piece)
            yield event("response.reasoning_summary_text.done", **at, text=step["think"])
            yield event("response.reasoning_summary_part.done", **at, part=part)
            done = {**item, "summary": [part]}
        elif "say" in step or "tear" in step:
            text = step.get("say") or step["tear"]
            item = {"type": "message", "id": f"msg_{place}", "role": "assistant"}
            part = {"type": "output_text", "text": text, "annotations": []}
            added = {**item, "status": "in_progress", "content": []}
            yield event("response.output_item.added", output_index=place, item=added)
            at = {"item_id": item["id"], "output_index": place, "content_index": 0}
            yield event("response.content_part.added", **at, part={**part, "text": ""})
            for piece in _pieces(text):
                yield event("response.output_text.delta", **at, delta=piece)
            if "tear" in step:
                yield "cut"
            yield event("response.output_text.done", **at, text=text)
            yield event("response.content_part.done", **at, part=part)
            done = {**item, "status": "completed", "content": [part]}
        elif "call" in step:
            name = asked.tool(step["call"])
            tool = asked.tools[name]
            custom = tool["kind"] == "custom"
            kind, key = ("custom_tool_call", "input") if custom else ("function_call", "arguments")
            raw = step["input"] if custom else _arguments(asked, step, name)
            item = {"type": kind, "id": f"fc_{place}", "call_id": step["id"], "name": name}
            if "namespace" in tool:
                item["namespace"] = tool["namespace"]
            added = {**item, "status": "in_progress", key: ""}
            yield event("response.output_item.added", output_index=place, item=added)
            at = {"item_id": item["id"], "output_index": place}
            word = "custom_tool_call_input" if custom else "function_call_arguments"
            for piece in _pieces(raw):
                yield event(f"response.{word}.delta", **at, delta=piece)
            yield event(f"response.{word}.done", **at, **{key: raw})
            done = {**item, "status": "completed", key: raw}
        else:
            continue
        output.append(done)
        yield event("response.output_item.done", output_index=place, item=done)
    usage = {"input_tokens": fed, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": said}
    usage |= {"output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": fed + said}
    whole = {**response, "output": output, "usage": usage}
    if finish == "length":
        whole |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        yield event("response.incomplete", response=whole)
    else:
        yield event("response.completed", response={**whole, "status": "completed"})


FRAMES = {"chat": chat_frames, "messages": messages_frames, "responses": responses_frames}


def whole_body(asked: Asked, reply: Reply) -> dict[str, Any]:
    """The answer in one piece: words, calls of functions and usage."""
    text = "".join(step.get("say", "") for step in reply)
    calls = [
        (step["id"], name, _arguments(asked, step, name))
        for step in reply
        if "call" in step
        for name in [asked.tool(step["call"])]
    ]
    _, (fed, said) = _ending(reply)
    match asked.wire:
        case "chat":
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if calls:
                message["tool_calls"] = [
                    {"id": i, "type": "function", "function": {"name": name, "arguments": raw}}
                    for i, name, raw in calls
                ]
            finish = "tool_calls" if calls else "stop"
            return {
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "up",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": {"prompt_tokens": fed, "completion_tokens": said, "total_tokens": fed + said},
            }  # fmt: skip
        case "messages":
            content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
            content += [
                {"type": "tool_use", "id": i, "name": name, "input": json.loads(raw)}
                for i, name, raw in calls
            ]
            return {
                "id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": "up",
                "content": content, "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None,
                "usage": {"input_tokens": fed, "output_tokens": said},
            }  # fmt: skip
        case "responses":
            part = {"type": "output_text", "text": text, "annotations": []}
            words = {"type": "message", "id": "msg_0", "role": "assistant", "status": "completed"}
            output: list[dict[str, Any]] = [{**words, "content": [part]}] if text else []
            output += [
                {"type": "function_call", "id": f"fc_{i}", "call_id": i, "name": name, "arguments": raw}
                for i, name, raw in calls
            ]
            return {
                "id": "resp_1", "object": "response", "created_at": 1, "model": "up", "status": "completed",
                "output": output,
                "usage": {
                    "input_tokens": fed, "input_tokens_details": {"cached_tokens": 0},
                    "output_tokens": said, "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": fed + said,
                },
            }  # fmt: skip


# --- the upstream


class Upstream:
    """Plays replies on one wire and keeps what it was asked.

    Attributes:
        asked: the requests since `play`.
        surplus: how many came after the last reply.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire: Wire = wire
        self.asked: list[Asked] = []
        self.surplus = 0
        self._answer: Callable[[Asked], Reply] = self._unscripted
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def base(self) -> str:
        """The address as the configuration wants it."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return url if self.wire == "messages" else f"{url}/v1"

    def play(self, *replies: Reply | Callable[[Asked], Reply]) -> None:
        """Answer the coming requests with these, one after another; a function is asked for its reply."""
        left = iter(replies)

        def answer(asked: Asked) -> Reply:
            reply = next(left, None)
            if reply is None:
                return self._unscripted(asked)
            return reply(asked) if callable(reply) else reply

        with self._lock:
            self.asked, self.surplus, self._answer = [], 0, answer

    def play_by(self, answer: Callable[[Asked], Reply]) -> None:
        """Answer every request by what it says."""
        with self._lock:
            self.asked, self.surplus, self._answer = [], 0, answer

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _unscripted(self, asked: Asked) -> Reply:
        self.surplus += 1
        return [{"refuse": 400, "body": {"error": {"message": "not in the script", "type": "script"}}}]

    def take(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            return self._answer(asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(upstream.wire, body, headers, time.monotonic())
                try:
                    self._play(asked, upstream.take(asked))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def _play(self, asked: Asked, reply: Reply) -> None:
                if reply and "refuse" in reply[0]:
                    self._whole(reply[0]["refuse"], reply[0].get("headers", {}), reply[0]["body"])
                elif asked.stream:
                    self._stream(asked, reply)
                else:
                    self._whole(200, {}, whole_body(asked, reply))

            def _whole(self, status: int, headers: dict[str, str], value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                for name, text in {**headers, "content-type": "application/json"}.items():
                    self.send_header(name, text)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self, asked: Asked, reply: Reply) -> None:
                steps = list(reply)
                while steps and "pause_s" in steps[0]:
                    time.sleep(steps.pop(0)["pause_s"])
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.wfile.flush()
                while steps and ("head" in steps[0] or "pause_s" in steps[0]):
                    time.sleep(steps.pop(0).get("pause_s", 0))
                for frame in FRAMES[asked.wire](asked, steps):
                    if frame == "cut":
                        self.close_connection = True
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return
                    if isinstance(frame, float):
                        time.sleep(frame)
                    elif isinstance(frame, bytes):
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(frame), frame))
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


# --- the daemon


@dataclass
class Bench:
    """One daemon over one scripted upstream.

    Attributes:
        url, token: how a client reaches the gateway.
        upstream: what answers behind it.
    """

    wire: Wire
    upstream: Upstream
    process: subprocess.Popen[str]
    url: str
    token: str
    _spare: Iterator[str] = field(default_factory=lambda: iter(f"spare-{n}" for n in range(SPARE)))

    def spare_model(self) -> str:
        """A model of a provider that no other test uses: its key may be put to rest."""
        return next(self._spare)


def _configuration(upstream: Upstream) -> str:
    def provider(name: str, profile: str) -> str:
        return f'[providers.{name}]\nprofile = "{profile}"\nwires.{upstream.wire} = "{upstream.base}"\n'

    def model(name: str, provider: str, *lines: str) -> str:
        return "\n".join([f'[models."{name}"]', f'provider = "{provider}"', 'upstream = "up"', *lines]) + "\n"

    seeing, blind = 'input_modalities = ["text", "image"]', 'input_modalities = ["text"]'
    parts = [
        '[aliases]\n"claude-opus-4-6" = "glm-5.2"\n',
        provider("plain", "generic"),
        provider("thinker", PROFILES[upstream.wire]),
        model("plain", "plain", "context_window = 200000", seeing),
        model("blind", "plain", "context_window = 200000", blind),
        model("small", "plain", "context_window = 20000", blind),
        model("thinker", "thinker", "context_window = 200000", "reasoning = true", blind),
        model("glm-5.2", "plain").replace('"up"', '"glm-up"'),
    ]
    for number in range(SPARE):
        parts += [provider(f"spare-{number}", "generic"), model(f"spare-{number}", f"spare-{number}", blind)]
    return "\n".join(parts)


class Benches:
    """The daemons of this test process, each started when first needed."""

    def __init__(self) -> None:
        self._kept: dict[Wire, tuple[Bench, Path]] = {}

    def get(self, wire: Wire) -> Bench:
        if wire not in self._kept:
            self._kept[wire] = self._start(wire)
        return self._kept[wire][0]

    def close(self) -> None:
        for bench, folder in self._kept.values():
            bench.process.send_signal(signal.SIGTERM)
            bench.process.communicate(timeout=DEADLINE_S)
            bench.upstream.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, wire: Wire) -> tuple[Bench, Path]:
        folder = Path(tempfile.mkdtemp(prefix="dgm-"))  # short: unix sockets live in it
        upstream = Upstream(wire)
        (folder / "dragoman.toml").write_text(_configuration(upstream))
        process = subprocess.Popen(
            [sys.executable, "-m", "dragoman.cli.main", "serve", "--port", "0"],
            env={"PATH": os.environ["PATH"], "HOME": str(folder / "user"), "DRAGOMAN_HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("listening on "), (line, process.communicate(timeout=DEADLINE_S))
        token = (folder / "state" / "data.token").read_text().strip()
        return Bench(wire, upstream, process, line.removeprefix("listening on "), token), folder


@pytest.fixture(scope="session")
def benches() -> Iterator[Benches]:
    kept = Benches()
    yield kept
    kept.close()


@pytest.fixture(params=WIRES)
def bench(request: pytest.FixtureRequest, benches: Benches) -> Iterator[Bench]:
    """A daemon over an upstream of each wire in turn."""
    found = benches.get(request.param)
    found.upstream.play()
    yield found
    assert found.upstream.surplus == 0, "the client asked more often than the script expects"


@pytest.fixture
def upstream(bench: Bench) -> Upstream:
    return bench.upstream


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG of one pixel."""
    return bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )


# --- how providers refuse


def _error(wire: Wire, message: str, *, kind: str, code: str | None) -> dict[str, Any]:
    if wire == "messages":
        return {"type": "error", "error": {"type": kind, "message": message}}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@pytest.fixture
def too_long(bench: Bench) -> Reply:
    """The prompt does not fit, in the words of the wire's own provider."""
    message = {
        "chat": "This model's maximum context length is 200000 tokens. However, you requested 250000 tokens.",
        "messages": "prompt is too long: 250000 tokens > 200000 maximum",
        "responses": "Your input exceeds the context window of this model. Please adjust your input.",
    }[bench.wire]
    body = _error(bench.wire, message, kind="invalid_request_error", code="context_length_exceeded")
    return [{"refuse": 400, "body": body}]


@pytest.fixture
def used_up(bench: Bench) -> Reply:
    """The quota window is used up, in the words of the wire's own provider."""
    match bench.wire:
        case "messages":
            body = _error("messages", "Usage limit reached for 5 hours.", kind="rate_limit_error", code=None)
            return [{"refuse": 429, "headers": {"retry-after": "7200"}, "body": body}]
        case wire:
            message = "You exceeded your current quota, please check your plan."
            body = _error(wire, message, kind="insufficient_quota", code="insufficient_quota")
            return [{"refuse": 429, "body": body}]


@pytest.fixture
def wait_an_hour(bench: Bench) -> Reply:
    """Too many requests, and a wait nobody sits out."""
    body = _error(bench.wire, "Rate limit reached.", kind="rate_limit_error", code="rate_limit_exceeded")
    return [{"refuse": 429, "headers": {"retry-after": "3600"}, "body": body}]
